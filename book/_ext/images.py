"""Bilder: Rasterbilder als WebP, jedes mit fester Größe; weiter unten erst bei Bedarf geladen.

Notebooks und Quellen behalten ihre PNG-Dateien; umgewandelt wird nur für die Seite. Verlustfrei,
weil die Bilder Bildschirme und Plots zeigen: Schrift bleibt scharf, und es spart gut die Hälfte.
"""

import re
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms.images import ImageConverter
from sphinx.writers.html5 import HTML5Translator

VIEW_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
PIXELS = re.compile(r"(\d+)(?:px)?")
RASTER = {".png", ".jpg", ".jpeg", ".gif"}


def prefer_webp(app: Sphinx) -> None:
    """Sagt Sphinx, dass die Seite nur WebP und SVG zeigt; den Rest wandelt WebP um."""
    if app.builder.name == "html":
        app.builder.supported_image_types = ["image/webp", "image/svg+xml"]


class WebP(ImageConverter):
    """Wandelt um, was kein WebP und kein SVG ist; für PDF und EPUB gilt das nicht."""

    conversion_rules = [("image/png", "image/webp"), ("image/jpeg", "image/webp")]

    def is_available(self) -> bool:
        """Pillow steht im Lock und ist immer da."""
        return True

    def convert(self, _from: str, _to: str) -> bool:
        """Schreibt das Bild als WebP, einmal je Stand der Vorlage."""
        source, target = Path(_from), Path(_to)
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            with Image.open(source) as image:
                image.save(target, lossless=True, method=6)
        return True


def measure(path: Path) -> tuple[int, int]:
    """Gibt Breite und Höhe zurück, bei einem Diagramm die seiner viewBox."""
    if path.suffix != ".svg":
        with Image.open(path) as image:
            return image.size
    if found := VIEW_BOX.search(path.read_text(encoding="utf-8")):
        return round(float(found[1])), round(float(found[2]))
    raise ExtensionError(f'{path.name}: Dem Diagramm fehlt viewBox="0 0 Breite Höhe"')


def write_image(translator: HTML5Translator, node: nodes.image) -> None:
    """Schreibt ein Bild mit Breite und Höhe: Der Platz ist frei, bevor es geladen ist."""
    builder = translator.builder
    if builder.name != "html" or "?" in node["candidates"]:
        # Ohne Breite füllte jede Zeichnung die Seite, und ihre Schrift wäre jedes Mal anders groß.
        # Das Maß lässt die breitesten gerade noch auf ein Blatt.
        if node["uri"].endswith(".svg") and "?" not in node["candidates"]:
            width, _ = measure(Path(builder.srcdir, node["uri"]))
            node.setdefault("width", f"{0.8 * width:.0f}px")
        HTML5Translator.visit_image(translator, node)
        return
    width, height = measure(Path(builder.srcdir, node["uri"]))
    if wanted := PIXELS.fullmatch(node.get("width", "")):
        del node["width"]
        width, height = int(wanted[1]), round(int(wanted[1]) * height / width)
    if node is not next(translator.document.findall(nodes.image)):
        node["loading"] = "lazy"
    HTML5Translator.visit_image(translator, node)
    image = translator.body[-1]
    translator.body[-1] = image.replace("<img ", f'<img width="{width}" height="{height}" ', 1)


def leave_image(translator: HTML5Translator, node: nodes.image) -> None:
    """Schließt das Bild ab."""
    HTML5Translator.depart_image(translator, node)


def remove_rasters(app: Sphinx, exception: Exception | None) -> None:
    """Löscht die Symbole von Sphinx und Theme, die keine Seite zeigt, und Reste früherer Bauten."""
    if exception or app.builder.name != "html":
        return
    for folder in ("_images", "_static"):
        for path in Path(app.outdir, folder).rglob("*"):
            if path.suffix.lower() in RASTER:
                path.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.connect("builder-inited", prefer_webp)
    app.add_post_transform(WebP)
    app.add_node(nodes.image, override=True, html=(write_image, leave_image))
    app.connect("build-finished", remove_rasters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
