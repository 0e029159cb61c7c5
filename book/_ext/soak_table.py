"""Direktive {soak-table}: was die Dienste unter `make soak` aushielten, aus book/data/soak.json."""

import json
from pathlib import Path

from chapters import ROOT, read
from docutils import nodes
from docutils.statemachine import StringList
from freshness import foldable
from measured import DATA, german
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

NUMBERS = DATA / "soak.json"


def lines(found: dict, up: str) -> list[str]:
    """Gibt Satz und Tabelle als Markdown zurück; `up` führt von der Seite zur Wurzel."""
    if not found["services"]:
        return ["Noch ist keine Messung hinterlegt."]
    day = german(found["date"])
    table = [
        f"Zuletzt gemessen am {day} ({found['machine']}).",
        "",
        "| Dienst | Anfragen | Status ab 500 | Speicher | Zuwachs | Übrig |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, numbers in found["services"].items():
        slug, _, how = name.partition(" with ")
        path = f"notebooks/{slug}.ipynb"
        short = read(ROOT / path).title.partition(":")[0]
        cells = [f"[{short}]({up}{path})" + (f", `{how}`" if how else "")]
        cells += [german(numbers[key]) for key in ("sent", "server_errors")]
        growth = f"{numbers['growth_percent']:+} %".replace(".", ",").replace("-", "−")
        cells += [f"{numbers['memory_mb']} MB", growth, german(numbers["left"])]
        table.append(f"| {' | '.join(cells)} |")
    return table


class SoakTable(SphinxDirective):
    """Eine Zeile je Dienst."""

    def run(self) -> list[nodes.Node]:
        """Schreibt, wann gemessen wurde, und die Tabelle."""
        for path in (NUMBERS, Path(__file__)):
            self.env.note_dependency(str(path))
        found = json.loads(NUMBERS.read_text(encoding="utf-8"))
        text = lines(found, "../" * self.env.docname.count("/"))
        container = nodes.Element()
        block = StringList(text, source=str(NUMBERS))
        self.state.nested_parse(block, self.content_offset, container)
        if not found["services"]:
            return container.children
        when, table = container.children
        growth = max(numbers["growth_percent"] for numbers in found["services"].values())
        note = f"höchster Zuwachs {german(growth)} %"
        # Aufgeklappt wäre die Seite auf dem Telefon vor allem diese Tabelle.
        return [when, *foldable(f"{len(found['services'])} Dienste", note, "none", table)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Direktive an."""
    app.add_directive("soak-table", SoakTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
