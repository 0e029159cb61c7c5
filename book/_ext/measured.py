"""Rolle {measured}`datei:schlüssel`: eine gemessene Zahl aus book/data/, deutsch geschrieben."""

import json
from datetime import date
from pathlib import Path

from babel.dates import format_date
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

DATA = Path(__file__).resolve().parent.parent / "data"


def german(value: object) -> str:
    """Schreibt Zahlen mit Komma und schmalem Leerzeichen, Tage mit Monat, anderes unverändert."""
    if isinstance(value, (int, float)):
        value = int(value) if value == int(value) else value
        return f"{value:,}".replace(",", "\u202f").replace(".", ",")
    try:
        return format_date(date.fromisoformat(str(value)), "long", locale="de")
    except ValueError:
        return str(value)


class Measured(SphinxRole):
    """Liest den Wert; einen unbekannten meldet der Bau als Warnung, also als Fehler."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Löst zum Beispiel `price_model:rows.raw` auf."""
        name, _, path = self.text.partition(":")
        try:
            value = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
            for key in path.split("."):
                value = value[key]
        except (OSError, KeyError, TypeError):
            message = f"Keine gemessene Zahl {self.text!r}: Steht sie in book/data/{name}.json?"
            return [], [self.inliner.reporter.warning(message, line=self.lineno)]
        self.env.note_dependency(str(DATA / f"{name}.json"))
        return [nodes.Text(german(value))], []


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Rolle an."""
    app.add_role("measured", Measured())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
