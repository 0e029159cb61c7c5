"""Lösungen zugeklappt: Text, Code, Prüfung und deren Meldung hinter einem Knopf je Übung.

Einzeln zugeklappt stünde der Text der Lösung weiter offen, und unter dem Code die Zeile
„Gelöst: …“. Im EPUB und im PDF klappt printed.py alles auf.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

LINES_PER_CELL = 10_000  # so zählt myst-nb: Zeile 3 der Zelle 5 ist 50 003
OPENING = '<details class="solution"><summary>Lösung</summary>'


def folded(tags: list[set[str]]) -> list[tuple[int, int]]:
    """Gibt je Übung die erste und letzte Zelle dessen zurück, was die Lösung verrät."""
    exercises: list[list[int]] = []
    for number, marks in enumerate(tags):
        if "exercise" in marks:
            exercises.append([])
        elif exercises and marks & {"solution", "check"}:
            exercises[-1].append(number)
    return [(cells[0], cells[-1]) for cells in exercises if cells]


def fold(app: Sphinx, doctree: nodes.document) -> None:
    """Klammert die Zellen jeder Lösung; was dazwischen steht, gehört dazu."""
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix != ".ipynb":
        return
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    runs = folded([set(cell["metadata"].get("tags", [])) for cell in cells])
    for section in doctree.findall(nodes.section):
        for first, last in runs:
            inside = [
                node
                for node in section.children
                if first <= (node.line or 0) // LINES_PER_CELL - 1 <= last
                and not isinstance(node, nodes.section)
            ]
            if not inside:
                continue
            for node in inside:
                # Zweimal zugeklappt wäre einmal zu viel; nur der Code der Prüfung bleibt zu.
                if isinstance(node, nodes.container) and node.get("hide_mode") == "all":
                    node["hide_mode"] = None
            at = section.index(inside[0])
            section.insert(at, nodes.raw("", OPENING, format="html"))
            section.insert(
                section.index(inside[-1]) + 1, nodes.raw("", "</details>", format="html")
            )


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.connect("doctree-read", fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
