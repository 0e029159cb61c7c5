"""Literatur auf Deutsch: „und“ zwischen den Namen, Titel in der Schreibung ihrer Quelle.

Die Vorlage von `pybtex` schriebe `and` und von jedem Titel nur den ersten Buchstaben groß, aus
`AWS Fargate` würde `Aws fargate`.
"""

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style
from pybtex.style.template import Node, field, names, sentence
from sphinx.application import Sphinx


class German(Style):
    """Quellen in der Reihenfolge, in der die Seiten sie nennen."""

    def format_names(self, role: str, as_sentence: bool = True) -> Node:
        """Zählt Namen auf."""
        found = names(role, sep=", ", sep2=" und ", last_sep=" und ")
        return sentence[found] if as_sentence else found

    def format_title(self, e: Entry, which_field: str, as_sentence: bool = True) -> Node:
        """Gibt den Titel, wie er in der Datei steht."""
        found = field(which_field)
        return sentence[found] if as_sentence else found


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet den Stil an, den die Seite „Literatur“ nennt."""
    register_plugin("pybtex.style.formatting", "german", German)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
