"""Deutsch für das, was Sphinx, Theme und myst-nb auf Englisch sagen.

Ihre Kataloge übersetzen es nicht, und zwei Namen stehen fest in ihren Vorlagen.
"""

import gettext
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.application import Sphinx

TEXTS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))


class Missing(gettext.NullTranslations):
    """Antwortet, wenn kein Katalog eine Übersetzung hat."""

    def gettext(self, message: str) -> str:
        """Gibt die Übersetzung zurück, sonst den Text selbst."""
        return TEXTS.get(message, message)


def drop_english_name(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Nimmt aufklappbaren Zellen den englischen Namen: Er verdeckte ihren deutschen Text."""
    if context.get("body"):
        context["body"] = context["body"].replace(' aria-label="Toggle hidden content"', "")


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.translator.add_fallback(Missing())
    app.connect("html-page-context", drop_english_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
