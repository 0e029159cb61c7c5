"""Direktive {glossary-data}: ein Glossar aus einer YAML-Datei, verlinkbar mit {term}."""

from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class GlossaryData(SphinxDirective):
    """Erwartet den Pfad der Datei: eine Liste mit `term`, `english`, `definition`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Schreibt die Einträge als {glossary}, nach dem Alphabet geordnet."""
        relative, absolute = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        entries = yaml.safe_load(Path(absolute).read_text(encoding="utf-8"))
        lines = ["```{glossary}"]
        for entry in sorted(entries, key=lambda entry: entry["term"].casefold()):
            english = entry.get("english")
            prefix = f"*{english}* – " if english and english != entry["term"] else ""
            lines += [entry["term"], f"  {prefix}{' '.join(entry['definition'].split())}", ""]
        lines.append("```")
        container = nodes.Element()
        self.state.nested_parse(StringList(lines, source=absolute), self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Direktive an."""
    app.add_directive("glossary-data", GlossaryData)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
