"""Bilder mit Textalternative, Tabellen ohne leere Kopfzellen; eine Prüfung am Ende."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

IMAGE_TYPES = {".png", ".jpg", ".jpeg", ".svg", ".webp", ".gif"}
EMPTY_HEADER = re.compile(r"<th([^>]*)>\s*(?:<p>\s*</p>\s*)?</th>")
EMPTY_END = re.compile(r"\n{2,}(?=</pre>)")
OUTPUT_IMAGE = re.compile(r'(?<=<div class="cell_output docutils container">\n)(<img\b[^>]*>)')
SCROLLING_TABLE = '<div class="pst-scrollable-table-container"'


def image_alternatives(notebook: Path) -> dict[str, str]:
    """Ordnet dem SHA-256 jedes Bildes in den Ausgaben den Text aus `Image(…, alt="…")` zu."""
    texts = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            for kind, details in output.get("metadata", {}).items():
                if kind.startswith("image/") and isinstance(details, dict) and details.get("alt"):
                    data = output["data"][kind]
                    data = "".join(data) if isinstance(data, list) else data
                    digest = hashlib.sha256(base64.b64decode(data)).hexdigest()
                    texts[digest] = details["alt"]
    return texts


def add_alternatives(app: Sphinx, doctree: nodes.document) -> None:
    """Übernimmt die Textalternativen der Ausgaben; myst-nb liest dort nur Breite und Höhe."""
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix != ".ipynb":
        return
    texts = image_alternatives(source)
    for image in doctree.findall(nodes.image):
        # myst-nb benennt die Datei nach dem SHA-256 ihres Inhalts.
        if alt := texts.get(PurePosixPath(image["uri"]).stem):
            image["alt"] = alt


def repair_markup(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Repariert Tabellen und Literatur für Tastatur und Vorleseprogramme."""
    if context.get("body"):
        # pandas und MyST lassen die Kopfzelle über der ersten Spalte leer.
        body = EMPTY_HEADER.sub(r"<td\1></td>", context["body"])
        # Zwischen zwei Marken eines Programms enden Auszüge oft mit Leerzeilen.
        body = EMPTY_END.sub("\n", body)
        # Auf dem Telefon rollt eine Abbildung, statt unlesbar zu werden.
        body = OUTPUT_IMAGE.sub(
            r'<div class="picture" tabindex="0" role="group" aria-label="Abbildung">\1</div>', body
        )
        group = 'tabindex="0" role="group" aria-label="Tabelle"'
        body = body.replace(SCROLLING_TABLE, f"{SCROLLING_TABLE} {group}")
        # Die Rolle, die docutils Quellen gibt, ist veraltet; ihre Liste verlangt Einträge.
        context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


class Images(HTMLParser):
    """Sammelt die Bilder ohne brauchbare Textalternative."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Prüft ein Bild; ein Dateiname ist keine Textalternative."""
        values = dict(attrs)
        if tag != "img" or "logo__image" in (values.get("class") or ""):
            return
        alt = (values.get("alt") or "").strip()
        # Ohne Angabe schreibt docutils den Dateinamen hinein.
        if not alt or PurePosixPath(alt).suffix.lower() in IMAGE_TYPES:
            self.found.append(values.get("src") or "")


def refuse_images_without_text(app: Sphinx, exception: Exception | None) -> None:
    """Bricht den Bau ab, wenn einem Bild die Textalternative fehlt."""
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    problems = []
    for page in sorted(out.rglob("*.html")):
        images = Images()
        images.feed(page.read_text(encoding="utf-8"))
        problems += [f"{page.relative_to(out)}: {address[:120]}" for address in images.found]
    if problems:
        raise ExtensionError("Bilder ohne Textalternative:\n" + "\n".join(problems))


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.connect("doctree-read", add_alternatives)
    app.connect("html-page-context", repair_markup, priority=900)
    app.connect("build-finished", refuse_images_without_text, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
