"""Diagramme stehen als Zeichnung in der Seite: in deren Farben, auf dem Telefon lesbar.

Als Bild geladen, bliebe ein Diagramm im dunklen Modus weiß und schrumpfte auf dem Telefon mit
seiner Schrift. So gibt site.css jeder Farbe der Palette ihr dunkles Gegenstück. Alle sind so schmal
gezeichnet, dass sie auf ein Telefon passen; nur ein noch schmaleres Fenster rollt sie. Die Dateien
selbst bleiben gewöhnliche SVG-Bilder, für JupyterLab, PDF und EPUB.
"""

import re
from html import escape
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.application import Sphinx

FOLDER = PurePosixPath("book/_static/diagrams")
NAMES = re.compile(r'\bid="|url\(#')
# Titel und Beschreibung wiederholen die Textalternative; als Titel erschienen sie beim Zeigen.
TEXTS = re.compile(r"\s*<(title|desc)\b.*?</\1>", re.DOTALL)
LABELS = re.compile(r' aria-labelledby="[^"]*"')
WIDTH = re.compile(r'viewBox="0 0 ([\d.]+) ')


def drawing(path: Path, alt: str) -> str:
    """Gibt das Diagramm als HTML zurück, mit der Textalternative der Seite."""
    svg = path.read_text(encoding="utf-8").strip()
    svg = LABELS.sub("", TEXTS.sub("", svg))
    # Zwei Diagramme auf einer Seite dürfen sich keine Namen teilen.
    svg = NAMES.sub(lambda found: f"{found[0]}{path.stem}-", svg)
    svg = svg.replace("<svg ", f'<svg aria-label="{escape(alt)}" ', 1)
    return (
        f'<div class="diagram" tabindex="0" role="group" aria-label="Diagramm" '
        f'style="--drawn: {WIDTH.search(svg)[1]}px">{svg}</div>'
    )


def draw(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Setzt Diagramme in die Seite; ein Bild ohne Text bleibt Bild, und accessible.py nennt es."""
    if app.builder.name != "html":
        return
    for image in list(doctree.findall(nodes.image)):
        if PurePosixPath(image["uri"]).parent == FOLDER and image.get("alt"):
            html = drawing(Path(app.srcdir) / image["uri"], image["alt"])
            block = nodes.raw("", html, format="html")
            # Ein Bild steht in einem Absatz, eine Zeichnung ist selbst ein Block.
            whole = image.parent
            if not isinstance(whole, nodes.paragraph) or len(whole.children) > 1:
                whole = image
            whole.parent.replace(whole, block)


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.connect("doctree-resolved", draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
