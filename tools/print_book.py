"""Das ganze Buch als EPUB und PDF: `make epub`, `make pdf`.

Das EPUB schreibt Sphinx, hier wird es geprüft. Seine Seiten sind die Grundlage des PDF: ohne
Skripte, aufgeklappt, gültiges XML. Sie werden ein Dokument mit Titelseite, Inhaltsverzeichnis
und Seitenzahlen, das WeasyPrint setzt.
"""

import base64
import io
import posixpath
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib
import yaml
from bs4 import BeautifulSoup, NavigableString, Tag
from matplotlib import mathtext
from matplotlib.font_manager import FontProperties, get_font

import check_forms

ROOT = Path(__file__).resolve().parent.parent
STYLE = ROOT / "book" / "_print"
NAME = "modelle-in-betrieb"
FORMS = ROOT / "_build" / "forms"
FOLDER = FORMS / "_build" / "epub"  # hier baut Sphinx
# Die Schriften kommen mit matplotlib aus dem Lock: überall dieselben, überall alle Zeichen.
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FAMILIES = {"DejaVu Sans": "DejaVuSans", "DejaVu Sans Mono": "DejaVuSansMono"}
FACES = {"": (400, "normal"), "-Bold": (700, "normal"), "-Oblique": (400, "italic")}
FACES["-BoldOblique"] = (700, "italic")
# Was die Schrift nicht enthält, wird gezeichnet.
DRAWN = {
    "💎": '<svg xmlns="http://www.w3.org/2000/svg" viewBox="6 10 36 30"><path fill="none" '
    'stroke="#0b6e75" stroke-width="3" d="M15 12h18l7 9-16 17L8 21zM8 21h32"/></svg>'
}


def font_faces() -> str:
    """Schreibt die Regeln, mit denen WeasyPrint die Schriften aus dem Lock findet."""
    folder = FONTS.as_uri()
    return "\n".join(
        f"@font-face {{ font-family: '{family}'; src: url('{folder}/{file}{face}.ttf');"
        f" font-weight: {weight}; font-style: {style} }}"
        for family, file in FAMILIES.items()
        for face, (weight, style) in FACES.items()
    )


def chapters(toc: dict) -> Iterator[tuple[int, str, str]]:
    """Liefert (Tiefe, Überschrift des Teils, Seite) in der Reihenfolge von _toc.yml."""
    yield 1, "", toc["root"]

    def walk(entries: list[dict], depth: int, caption: str) -> Iterator[tuple[int, str, str]]:
        for entry in entries:
            yield depth, caption, entry["file"]
            yield from walk(entry.get("sections", []), depth + 1, "")
            caption = ""

    for part in toc["parts"]:
        yield from walk(part["chapters"], 1, part["caption"])


def book_title() -> str:
    """Liest den Titel des Buches."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]


def name(page: str) -> str:
    """Macht aus dem Pfad einer Seite den Anfang ihrer Sprungziele."""
    # Der ganze Pfad: `webanwendungen` gibt es im Buch und in der Lehre.
    return page.replace("/", "-")


def place(page: str, body: Tag, pages: set[str], folder: Path) -> None:
    """Gibt den Sprungzielen einer Seite eindeutige Namen und richtet Links und Bilder darauf."""
    for tag in body.find_all(id=True):
        tag["id"] = f"{name(page)}--{tag['id']}"
    for tag in body.find_all(href=True):
        parts = urlsplit(tag["href"])
        if parts.scheme:
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path)))
        target = path.removesuffix(".xhtml") if parts.path else page
        if target not in pages:
            sys.exit(f"{page}: Der Link {tag['href']} führt zu keiner Seite des Buches.")
        tag["href"] = f"#{name(target)}" + f"--{unquote(parts.fragment)}" * bool(parts.fragment)
    for tag in body.find_all("img"):
        tag["src"] = (folder / posixpath.dirname(page) / unquote(tag["src"])).resolve().as_uri()
    # WeasyPrint zählt sonst jede Liste ab 1.
    for tag in body.find_all("ol", start=True):
        tag["style"] = f"counter-reset: list-item {int(tag['start']) - 1}"


def draw_formulas(soup: BeautifulSoup, body: Tag) -> None:
    """Ersetzt MathML, das WeasyPrint nicht setzt, durch gezeichnete Formeln."""
    for tag in body.find_all("math"):
        block = tag.get("display") == "block"
        buffer = io.BytesIO()
        depth = mathtext.math_to_image(
            f"${tag['alttext']}$", buffer, FontProperties(size=11 if block else 10), format="svg"
        )
        data = base64.b64encode(buffer.getvalue()).decode()
        image = soup.new_tag("img", src=f"data:image/svg+xml;base64,{data}", alt=tag["alttext"])
        image["class"] = "formula"
        image["style"] = f"vertical-align: {-depth}pt"
        tag.replace_with(image)


def draw_missing(soup: BeautifulSoup, page: str, body: Tag) -> None:
    """Zeichnet, was die Schrift nicht enthält; was sich nicht zeichnen lässt, bricht ab."""
    known = set(get_font(str(FONTS / "DejaVuSans.ttf")).get_charmap()) | {9, 10}
    for text in body.find_all(string=lambda text: not known.issuperset(map(ord, text))):
        missing = {letter for letter in text if ord(letter) not in known} - set(DRAWN)
        if missing:
            sys.exit(f"{page}: Die Schrift enthält nicht {sorted(missing)}.")
        pieces = []
        for piece in re.split(f"([{''.join(DRAWN)}])", text):
            if piece in DRAWN:
                data = base64.b64encode(DRAWN[piece].encode()).decode()
                source = f"data:image/svg+xml;base64,{data}"
                pieces.append(
                    soup.new_tag("img", attrs={"class": "drawn", "src": source, "alt": piece})
                )
            elif piece:
                pieces.append(NavigableString(piece))
        text.replace_with(*pieces)


def assemble(folder: Path, toc: dict, title: str) -> str:
    """Setzt die Seiten zu einem Dokument zusammen."""
    listed = list(chapters(toc))
    pages = {page for _, _, page in listed}
    soup = BeautifulSoup("", "html.parser")
    contents, text = [], []
    for depth, caption, page in listed:
        source = (folder / f"{page}.xhtml").read_text(encoding="utf-8")
        body = BeautifulSoup(source, "html.parser").body
        place(page, body, pages, folder)
        draw_formulas(soup, body)
        draw_missing(soup, page, body)
        body.name, body["id"], body["class"] = "article", name(page), f"depth-{depth}"
        heading = body.find("h1").get_text(strip=True)
        contents += [f'<p class="part">{caption}</p>'] * bool(caption)
        contents.append(f'<p class="depth-{depth}"><a href="#{name(page)}">{heading}</a></p>')
        text.append(body.decode(formatter="minimal"))
    cover = (STYLE / "cover.svg").as_uri()
    return "\n".join(
        [
            f'<html lang="de"><head><meta charset="utf-8"><title>{title}</title>',
            '<meta name="author" content="Die Mitwirkenden von Modelle in Betrieb">',
            '<meta name="generator" content="make pdf"></head><body>',
            f'<img id="cover" src="{cover}" alt="{title}">',
            '<nav id="contents"><h1>Inhalt</h1>',
            *contents,
            "</nav>",
            *text,
            "</body></html>",
        ]
    )


def epub(toc: dict) -> str:
    """Prüft das EPUB und legt es ab; mit Mängeln bleibt ein altes liegen."""
    source = FOLDER / f"{NAME}.epub"
    pages = [page for _, _, page in chapters(toc)]
    if problems := check_forms.check_epub(source, pages, book_title()):
        sys.exit("Das EPUB ist falsch:\n" + "\n".join(problems))
    shutil.copyfile(source, FORMS / source.name)
    return f"{source.name}: {source.stat().st_size / 1e6:.1f} MB"


def pdf(toc: dict) -> str:
    """Setzt das PDF, prüft es und legt es erst dann ab."""
    try:
        from weasyprint import CSS, HTML
        from weasyprint.text.fonts import FontConfiguration
    except OSError:
        sys.exit(
            "Dem PDF fehlt die Bibliothek Pango.\n"
            "Debian/Ubuntu: sudo apt install libpangoft2-1.0-0 · macOS: brew install pango"
        )
    title = book_title()
    faces = FontConfiguration()
    sheets = [CSS(string=font_faces(), font_config=faces), CSS(FOLDER / "_static" / "pygments.css")]
    sheets += [CSS(STYLE / sheet) for sheet in ("print.css", "pages.css")]
    html = assemble(FOLDER, toc, title)
    draft = FORMS / "draft.pdf"
    HTML(string=html, base_url=str(FOLDER)).write_pdf(
        draft, stylesheets=sheets, font_config=faces, pdf_tags=True
    )
    pages, problems = check_forms.check_pdf(draft, html)
    if problems:
        sys.exit("Das PDF ist falsch:\n" + "\n".join(problems))
    target = draft.replace(FORMS / f"{NAME}.pdf")
    return f"{target.name}: {pages} Seiten, {target.stat().st_size / 1e6:.1f} MB"


def main() -> None:
    """Legt die genannte Fassung unter _build/forms ab."""
    if sys.argv[1:] not in (["epub"], ["pdf"]):
        sys.exit("Aufruf: python tools/print_book.py epub | pdf")
    if not (FOLDER / f"{NAME}.epub").exists():
        sys.exit("Die Seiten fehlen. Abhilfe: make epub")
    started = time.monotonic()
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    done = (epub if sys.argv[1] == "epub" else pdf)(toc)
    print(f"{done}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
