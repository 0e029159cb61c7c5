"""Rolle {observed}`kapitel zelle muster`: eine Zahl aus der Ausgabe eines Notebooks."""

import json
import re

from docutils import nodes
from measured import DATA, german
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

NOTEBOOKS = DATA.parent.parent / "notebooks"


def shown(cell: dict) -> str:
    """Fügt zusammen, was unter einer Zelle zu lesen ist."""
    parts = []
    for output in cell["outputs"]:
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        parts.append(text if isinstance(text, str) else "".join(text))
    return "\n".join(parts)


def number(found: str) -> str:
    """Schreibt Zahlen deutsch, anderes unverändert."""
    try:
        return german(float(found))
    except ValueError:
        return found


class Observed(SphinxRole):
    """Sucht die Gruppe des Musters; was fehlt, meldet der Bau als Warnung, also als Fehler."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        r"""Löst zum Beispiel `drift_detection c09 concept.* (\d+)$` auf."""
        slug, cell_id, pattern = self.text.split(maxsplit=2)
        path = NOTEBOOKS / f"{slug}.ipynb"
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            cell = next(cell for cell in cells if cell.get("id") == cell_id)
            found = re.search(pattern, shown(cell), re.MULTILINE)[1]
        except (OSError, StopIteration, KeyError, TypeError):
            message = f"Keine Ausgabe zu {self.text!r}: Stimmen Kapitel, Zelle und Muster?"
            return [], [self.inliner.reporter.warning(message, line=self.lineno)]
        self.env.note_dependency(str(path))
        return [nodes.Text(number(found))], []


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Rolle an."""
    app.add_role("observed", Observed())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
