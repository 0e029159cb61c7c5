"""Direktive {glossary-data}: ein Glossar aus einer YAML-Datei, verlinkbar mit {term}."""

from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from keyword_index import sort_key
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


class StrictLoader(yaml.SafeLoader):
    """Liest YAML und lehnt doppelte Schlüssel ab; sonst gewänne still der letzte."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Prüft die Schlüssel eines Eintrags."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                place = f"{node.start_mark.name}, Zeile {node.start_mark.line + 1}"
                raise ExtensionError(f"{place}: „{key}“ steht doppelt")
        return super().construct_mapping(node, deep)


def load(path: Path) -> list[dict]:
    """Liest das Glossar; kein Wort darf zweimal erklärt sein."""
    with path.open(encoding="utf-8") as file:
        entries = yaml.load(file, StrictLoader)
    terms = [entry["term"].casefold() for entry in entries]
    if twice := sorted({term for term in terms if terms.count(term) > 1}):
        raise ExtensionError(f"{path}: doppelt erklärt: {', '.join(twice)}")
    return entries


class GlossaryData(SphinxDirective):
    """Erwartet den Pfad der Datei: eine Liste mit `term`, `english`, `definition`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Schreibt die Einträge als {glossary}, nach dem Alphabet geordnet."""
        relative, absolute = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        entries = load(Path(absolute))
        lines = ["```{glossary}"]
        for entry in sorted(entries, key=lambda entry: sort_key(entry["term"])):
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
