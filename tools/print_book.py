"""Das ganze Buch als PDF: python tools/print_book.py [ORDNER DES EPUB] [ZIEL] (`make pdf`).

Grundlage sind die Seiten des EPUB: ohne Skripte, aufgeklappt, gültiges XML. Hier werden sie zu
einem Dokument mit Titelseite, Inhaltsverzeichnis und Seitenzahlen, das WeasyPrint setzt.
"""

import base64
import io
import posixpath
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import matplotlib
import yaml
from bs4 import BeautifulSoup, Tag
from matplotlib import mathtext
from matplotlib.font_manager import FontProperties

ROOT = Path(__file__).resolve().parent.parent
STYLE = ROOT / "book" / "_print"
# Die Schriften kommen mit matplotlib aus dem Lock: überall dieselben, überall alle Zeichen.
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FACES = {
    ("DejaVu Sans", "DejaVuSans"): {"": "", "Bold": "b", "Oblique": "i", "BoldOblique": "bi"},
    ("DejaVu Sans Mono", "DejaVuSansMono"): {"": "", "Bold": "b", "Oblique": "i", "BoldOblique": "bi"},
}


def font_faces() -> str:
    """Schreibt die Regeln, mit denen WeasyPrint die Schriften aus dem Lock findet."""
    rules = []
    for (family, file), styles in FACES.items():
        for suffix, kind in styles.items():
            path = FONTS / f"{file}{'-' * bool(suffix)}{suffix}.ttf"
            rules.append(
                f"@font-face {{ font-family: '{family}'; src: url('{path.as_uri()}');"
                f" font-weight: {700 if 'b' in kind else 400};"
                f" font-style: {'italic' if 'i' in kind else 'normal'} }}"
            )
    return "\n".join(rules)


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


def name(page: str) -> str:
    """Macht aus dem Pfad einer Seite den Anfang ihrer Sprungziele."""
    return PurePosixPath(page).name


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


def main() -> None:
    """Setzt das PDF und legt es ab."""
    from weasyprint import CSS, HTML
    from weasyprint.text.fonts import FontConfiguration

    folder = Path(sys.argv[1]).resolve()
    target = Path(sys.argv[2])
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    fonts = FontConfiguration()
    sheets = [
        CSS(string=font_faces(), font_config=fonts),
        CSS(folder / "_static" / "pygments.css"),
        CSS(STYLE / "print.css"),
        CSS(STYLE / "pages.css"),
    ]
    document = HTML(string=assemble(folder, toc, title), base_url=str(folder))
    document.write_pdf(target, stylesheets=sheets, font_config=fonts, pdf_tags=True, optimize_images=True)


if __name__ == "__main__":
    main()
