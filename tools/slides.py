"""Aus jedem Notebook einen Foliensatz bauen: python tools/slides.py [ordner] (make slides).

Nicht jede Zelle wird eine Folie. Gezeigt werden Lernziele, Diagramm, Listen und Tabellen, Zellen
mit Ausgabe samt dem Satz davor und der Lesart danach, Übung ohne Lösung, Selbsttest und
Zusammenfassung; alles Übrige steht in den Notizen. Der `SlidesExporter` von Jupyter kippt
dagegen jede Zelle auf eine Folie und lädt fremde Skripte. Wie viel auf eine Folie passt, ist
gerechnet; tests/site/test_slides.py misst es im Browser nach.
"""

import base64
import hashlib
import html
import math
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import yaml
from chapters import ROOT, TEACHING, Chapter, read, sections, source
from docutils.utils.math.latex2mathml import tex2mathml
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

OUT = ROOT / "_build" / "slides"
REVEAL = ROOT / "node_modules" / "reveal.js" / "dist"
DECK = Path(__file__).parent / "deck"
STYLE = "a11y-high-contrast-light"
# Höhen in Pixeln und Zeichen je Zeile, passend zu slides.css; knapp gerechnet.
ROOM = 608
CODE_LINE, CODE_FRAME, CODE_COLUMNS = 28, 36, 84
TEXT_LINE, TEXT_FRAME, TEXT_COLUMNS = 36, 14, 74
TITLE_LINE, TITLE_COLUMNS, TITLE_LENGTH = 42, 58, 116
IMAGE = 500
MAX_OUTPUT_LINES, MAX_ERROR_LINES, MAX_PARTS = 14, 6, 3
LEFT_OUT = {"versions", "solution", "hide-cell", "hide-input", "check"}
# Ohne Ausgabe ist eine Zelle nur dort eine Folie, wo etwas gestartet wird.
STARTING, FAILING, EXERCISE, QUIZ, END = (
    "Starten",
    "Fehler provozieren",
    "Übung",
    "Selbsttest",
    "Aufräumen",
)
ROLE = re.compile(r"\{(\w+)\}`([^`<]*?)\s*(?:<[^>`]*>)?`")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]*\)")
MATH = re.compile(r"(?<![\w$])\$([^$\n]+)\$(?![\w$])")
PICTURE = re.compile(r"^!\[([^\]]*)\]\(([^)]+)\)$")
LEAD = re.compile(r"^\*\*(.+?)[.:]?\*\*")
POINTING = re.compile(r"(?:Das|Dies|Dafür|Dort|Es|Er|Sie|Davon|Dabei|Damit|So|Hier) ")
ITEM = re.compile(r"^(?:[-*]|\d+\.) ")
DETAILS = re.compile(r"<details><summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
RIGHT = re.compile(r"^\s*Richtig\W*", re.IGNORECASE)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


@dataclass
class Block:
    """Ein Stück Folie mit seiner gerechneten Höhe."""

    html: str
    height: int
    fragment: bool = False


@dataclass
class Slide:
    """Eine Folie."""

    kicker: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    notes: str = ""
    kind: str = ""


def clean(text: str) -> str:
    """Nimmt heraus, was nur Sphinx versteht, und Verweise, die auf einer Folie ins Leere führen."""
    text = ROLE.sub(lambda found: "" if found[1] == "cite" else found[2], text)
    text = re.sub(r" +(?=[.,;:])", "", LINK.sub(r"\1", text))
    return MATH.sub(lambda found: tex2mathml(found[1]), text)


def inline(text: str) -> str:
    """Schreibt einen Satz als HTML."""
    return MARKDOWN.renderInline(clean(text)).strip()


def markdown(text: str) -> str:
    """Schreibt Absätze, Listen und Tabellen als HTML."""
    return MARKDOWN.render(clean(text))


def visible(text: str) -> str:
    """Gibt den Text ohne Auszeichnung zurück, um seine Breite zu schätzen."""
    return html.unescape(re.sub(r"<[^>]+>", "", inline(text)))


def lines_of(text: str, columns: int) -> int:
    """Schätzt, wie viele Zeilen ein Text braucht."""
    return sum(max(1, math.ceil(len(line) / columns)) for line in text.splitlines())


def paragraph(text: str, kind: str = "") -> Block:
    """Ein Absatz; Zeilen des Notebooks laufen zusammen."""
    joined = " ".join(text.split())
    height = lines_of(visible(joined), TEXT_COLUMNS) * TEXT_LINE + TEXT_FRAME
    return Block(f'<p class="{kind}">{inline(joined)}</p>', height)


def code(text: str, language: str = "python") -> Block:
    """Quelltext in Farbe."""
    try:
        lexer = get_lexer_by_name(language or "text")
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    body = highlight(text.rstrip("\n"), lexer, HtmlFormatter(nowrap=True))
    height = lines_of(text.rstrip("\n"), CODE_COLUMNS) * CODE_LINE + CODE_FRAME
    return Block(f'<pre class="highlight">{body}</pre>', height)


def shortened(text: str, limit: int) -> str:
    """Kürzt eine Ausgabe auf so viele Zeilen, wie auf der Folie lesbar sind."""
    kept, used = [], 0
    for line in text.rstrip("\n").splitlines():
        used += max(1, math.ceil(len(line) / CODE_COLUMNS))
        if used > limit:
            # Eine einzige, sehr lange Zeile wird in sich gekürzt.
            room = (limit - 1) * CODE_COLUMNS
            return "\n".join(kept) + "\n…" if kept else f"{line[:room]} …"
        kept.append(line)
    return "\n".join(kept)


def plain(text: str, kind: str) -> Block:
    """Eine Ausgabe, wie sie im Notebook steht."""
    limit = MAX_ERROR_LINES if kind == "error" else MAX_OUTPUT_LINES
    text = shortened(text, limit)
    height = lines_of(text, CODE_COLUMNS) * CODE_LINE + CODE_FRAME + 2
    return Block(f'<pre class="{kind}">{html.escape(text)}</pre>', height)


def pieces(text: str, room: int) -> list[str]:
    """Teilt Quelltext in Stücke für je eine Folie, am liebsten an einer Leerzeile."""
    limit = (room - CODE_FRAME) // CODE_LINE
    # Gleich große Stücke: Eine Folie mit der letzten Zeile allein wäre keine.
    total = lines_of(text.rstrip("\n"), CODE_COLUMNS)
    limit = min(limit, math.ceil(total / math.ceil(total / limit)) + 2)
    parts, current, used = [], [], 0
    rest = text.rstrip("\n").splitlines()
    for line in rest:
        size = max(1, math.ceil(len(line) / CODE_COLUMNS))
        if used + size > limit:
            # An der letzten Leerzeile trennen, wenn davor genug steht.
            blank = max((n for n, kept in enumerate(current) if not kept.strip()), default=0)
            cut = blank if blank > len(current) // 2 else len(current)
            parts.append("\n".join(current[:cut]).strip("\n"))
            current = [kept for kept in current[cut:] if kept.strip() or cut == len(current)]
            used = lines_of("\n".join(current), CODE_COLUMNS) if current else 0
        current.append(line)
        used += size
    parts.append("\n".join(current).strip("\n"))
    return [part for part in parts if part]


class Deck:
    """Baut die Folien eines Kapitels, Zelle für Zelle."""

    def __init__(self, chapter: Chapter, notes: dict) -> None:
        self.chapter, self.teaching = chapter, notes
        self.slides: list[Slide] = []
        self.files: dict[str, bytes] = {}
        self.section, self.lead = "", ""
        self.waiting: list[str] = []  # Text für die Notizen der nächsten Folie
        self.sentence = ""  # der Satz vor der nächsten Zelle
        self.previous = ""  # der Satz vor der letzten; eine Liste danach gehört noch dazu

    # Folien und Notizen

    def add(self, slide: Slide) -> None:
        """Nimmt eine Folie auf und gibt ihr die Notizen, die auf sie warten."""
        slide.notes += "".join(map(markdown, self.waiting))
        self.waiting.clear()
        self.slides.append(slide)

    def kicker(self) -> str:
        """Die Zeile über dem Titel: der Abschnitt und das Thema darin."""
        parts = [self.section or self.chapter.title, self.lead]
        return inline(" · ".join(part for part in parts if part))

    def titled(self, sentence: str) -> tuple[str, list[Block]]:
        """Macht aus dem Satz davor den Titel; ein langer kommt darunter."""
        if sentence and len(visible(sentence)) <= TITLE_LENGTH:
            return sentence, []
        title = self.lead or self.section or self.chapter.title
        return title, [paragraph(sentence)] if sentence else []

    def room(self, title: str) -> int:
        """Die Höhe, die unter dem Titel bleibt."""
        return ROOM - 34 - 16 - lines_of(visible(title), TITLE_COLUMNS) * TITLE_LINE

    def spread(self, title: str, blocks: list[Block]) -> None:
        """Verteilt Blöcke auf so viele Folien wie nötig."""
        room, current, parts = self.room(title), [], []
        for block in blocks:
            if current and sum(b.height for b in current) + block.height > room:
                parts.append(current)
                current = []
            current.append(block)
        parts.append(current)
        # Eine Lesart steht nie allein: Die Ausgabe kommt mit, sonst geht sie in die Notizen.
        if len(parts) > 1 and all('class="reading"' in block.html for block in parts[-1]):
            together = [parts[-2][-1], *parts[-1]]
            if len(parts[-2]) > 1 and sum(block.height for block in together) <= room:
                parts[-2:] = [parts[-2][:-1], together]
            else:
                self.waiting.append(parts.pop()[0].html)
        for number, part in enumerate(parts, start=1):
            # Was auf einer neuen Folie steht, ist mit ihr schon aufgedeckt.
            if number > 1:
                part = [Block(block.html, block.height) for block in part]
            count = f' <span class="part">({number}/{len(parts)})</span>' if len(parts) > 1 else ""
            self.add(Slide(self.kicker(), inline(title) + count, part))

    # Anfang

    def opening(self) -> None:
        """Titel, Lernziele und, in den Notizen, was die Kursleitung zuerst fragt."""
        chapter = self.chapter
        facts = f"etwa {chapter.minutes} Minuten"
        if chapter.needs:
            facts += f" · braucht außer Python: {', '.join(chapter.needs)}"
        blocks = [paragraph(chapter.promise), paragraph(facts, "ask")]
        mistakes = "".join(
            f"- Irrtum: „{mistake['claim']}“ {mistake['correction']}\n"
            for mistake in self.teaching.get("mistakes", [])
        )
        self.waiting += [f"**Einstiegsfrage:** {self.teaching.get('question', '')}", mistakes]
        self.add(Slide("Modelle in Betrieb", inline(chapter.title), blocks, kind="title"))
        self.waiting.append(f"Voraussetzungen: {chapter.prerequisites}")
        self.section = "Lernziele"
        self.items("Nach diesem Kapitel gelingt:", [f"- {goal}" for goal in chapter.goals])
        self.section = ""

    # Markdown

    def text(self, cell: dict) -> None:
        """Liest eine Textzelle Absatz für Absatz."""
        self.sentence = ""
        for part in re.split(r"\n\s*\n", source(cell).strip()):
            self.part(part.strip("\n"))

    def part(self, part: str) -> None:
        """Ein Absatz, eine Liste, eine Tabelle, ein Bild oder eine Überschrift."""
        first = part.splitlines()[0]
        if found := re.match(r"(#{1,3}) +(.+)", first):
            if len(found[1]) < 3:
                self.section, self.lead = found[2], ""
            else:
                self.lead = found[2]
            self.sentence = self.previous = ""
            if rest := "\n".join(part.splitlines()[1:]).strip():
                self.part(rest)
        elif found := PICTURE.match(part):
            self.picture(found[1], (ROOT / "notebooks" / found[2]).resolve())
        elif first.startswith("|"):
            self.table(part)
        elif ITEM.match(first) and self.section not in (EXERCISE,):
            title = self.sentence or self.previous or self.section or self.chapter.title
            self.items(title, split_items(part))
            self.sentence = ""
        elif part.startswith(("$$", "```", "<")):
            self.waiting.append(part)
        else:
            if found := LEAD.match(part):
                self.lead = found[1]
            self.waiting.append(part)
            self.sentence = closing(LEAD.sub("", part).strip()) or self.lead

    def items(self, title: str, items: list[str]) -> None:
        """Eine Liste; von jedem Punkt der erste Satz, der Rest steht in den Notizen."""
        self.waiting.append("\n".join(items))
        title, blocks = self.titled(title)
        numbered = items[0][0].isdigit()
        for number, item in enumerate(items, start=1):
            sentence = ITEM.sub("", item).splitlines()[0]
            opening = f'<ol start="{number}"><li>' if numbered else "<ul><li>"
            closing = "</li></ol>" if numbered else "</li></ul>"
            height = lines_of(visible(sentence), TEXT_COLUMNS - 3) * TEXT_LINE + 26
            blocks.append(Block(f"{opening}{inline(sentence)}{closing}", height))
        self.spread(title, blocks)

    def table(self, part: str) -> None:
        """Eine Tabelle; ist sie zu hoch, steht sie nur in den Notizen."""
        rows = [row.strip("|").split("|") for row in part.splitlines()]
        columns = TEXT_COLUMNS * 26 // 22 // len(rows[0])
        height = sum(
            max(lines_of(visible(cell) or " ", columns) for cell in row) * 30 + 13
            for row in [rows[0], *rows[2:]]
        )
        title, blocks = self.titled(self.sentence or self.section)
        if sum(block.height for block in blocks) + height + 14 <= self.room(title):
            self.spread(title, [*blocks, Block(markdown(part), height + 14)])
        else:
            self.waiting.append(part)
        self.sentence = ""

    def picture(self, alt: str, path: Path) -> None:
        """Ein Bild, so groß es geht; sein Text steht in den Notizen."""
        address = self.keep(path.read_bytes(), path.suffix)
        self.waiting.append(alt)
        title = self.section or "Was entsteht"
        block = Block(f'<img src="{address}" alt="{html.escape(alt)}">', IMAGE)
        self.add(Slide(self.kicker(), inline(title), [block], kind="picture"))

    def keep(self, content: bytes, suffix: str) -> str:
        """Legt ein Bild ab und gibt seine Adresse zurück."""
        name = f"img/{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
        self.files[name] = content
        return name

    # Code

    def outputs(self, cell: dict) -> list[Block]:
        """Was unter einer Zelle steht: Quelltext, Text, Fehler, Bild."""
        found = []
        for output in cell["outputs"]:
            data = output.get("data", {})
            image = next((kind for kind in data if kind.startswith("image/")), None)
            if image:
                found.append(self.image(output, image))
            elif shown := "".join(data.get("text/markdown", "")):
                tokens = [token for token in MARKDOWN.parse(shown) if token.type == "fence"]
                found += [code(token.content, token.info) for token in tokens]
            elif output["output_type"] == "error":
                found.append(plain(f"{output['ename']}: {output['evalue']}", "error"))
            elif text := "".join(output.get("text") or data.get("text/plain", "")).strip("\n"):
                found.append(plain(text, "out"))
        return found

    def image(self, output: dict, kind: str) -> Block:
        """Ein Bild aus einer Ausgabe, mit seiner Textalternative."""
        content = "".join(output["data"][kind])
        raw = content.encode() if kind == "image/svg+xml" else base64.b64decode(content)
        suffix = {"image/svg+xml": ".svg", "image/jpeg": ".jpg"}.get(kind, f".{kind[6:]}")
        details = output.get("metadata", {}).get(kind, {})
        alt = details.get("alt") or visible(self.sentence) or self.section
        return Block(f'<img src="{self.keep(raw, suffix)}" alt="{html.escape(alt)}">', IMAGE)

    def cell(self, cells: list[dict], reading: str) -> None:
        """Eine oder zwei Zellen hintereinander, mit dem Satz davor und der Lesart danach."""
        for cell in cells:
            for demo in self.teaching.get("demos", []):
                if demo["cell"] == cell.get("id"):
                    self.waiting.append(f"**Vorführen:** {demo['do']} *Dazu:* {demo['say']}")
        title, top = self.titled(self.sentence or self.previous)
        self.previous = self.sentence or self.previous
        after = [paragraph(reading, "reading")] if reading else []
        shown = [block for cell in cells for block in self.listing(cell)]
        if shown:
            self.source(title, top, shown, after)
            return
        code_blocks = [code(source(cell)) for cell in cells]
        output = [block for cell in cells for block in self.outputs(cell)]
        pictures = [block for block in output if "<img" in block.html]
        texts = [block for block in output if block not in pictures]
        if self.section == FAILING and texts:
            texts = [Block(block.html, block.height, True) for block in [*texts, *after]]
            self.spread(title, [*top, *code_blocks, paragraph("Was geschieht?", "ask"), *texts])
        elif pictures:
            self.waiting += [f"```python\n{source(cell)}\n```" for cell in cells]
            if texts:
                self.spread(title, [*top, *texts])
            for block in pictures:
                self.add(Slide(self.kicker(), inline(title), [block], kind="picture"))
            self.waiting += [reading] if reading else []
        else:
            self.spread(title, [*top, *code_blocks, *texts, *after])

    def listing(self, cell: dict) -> list[tuple[str, str, str]]:
        """Gezeigter Quelltext als (Datei, Text, Sprache)."""
        found = []
        for output in cell["outputs"]:
            shown = "".join(output.get("data", {}).get("text/markdown", ""))
            name = re.search(r"show\(\s*f?\"([^\"{}]+)\"", source(cell))
            for token in MARKDOWN.parse(shown):
                if token.type == "fence":
                    found.append((name[1] if name else "", token.content, token.info))
        return found

    def source(
        self, title: str, top: list[Block], shown: list[tuple[str, str, str]], after: list[Block]
    ) -> None:
        """Quelltext einer Datei; ein langer wird geteilt, ein sehr langer ist ein Ausschnitt."""
        for number, (name, text, language) in enumerate(shown):
            room = self.room(title) - sum(block.height for block in top)
            caption = [Block(f'<p class="file">{html.escape(name)}</p>', 30)] if name else []
            parts = pieces(text, room - sum(block.height for block in caption))
            kept = parts[:MAX_PARTS]
            for part, lines in enumerate(kept, start=1):
                cut = part == len(kept) < len(parts)
                body = code(lines + ("\n# …" if cut else ""), language)
                blocks = [*top, *caption, body]
                last = number == len(shown) - 1 and part == len(kept)
                if last and sum(b.height for b in [*blocks, *after]) <= self.room(title):
                    blocks += after
                count = f' <span class="part">({part}/{len(kept)})</span>' if len(kept) > 1 else ""
                self.add(Slide(self.kicker(), inline(title) + count, blocks))
                top = []

    # Übung und Selbsttest

    def exercise(self, cells: list[dict]) -> None:
        """Die Aufgabe, ohne Lösung."""
        self.section, self.lead = EXERCISE, ""
        for text, stub in tasks(cells):
            blocks = [paragraph(part) for part in text]
            blocks += [code(stub)] if stub else []
            if blocks:
                self.spread("Übung", blocks)

    def quiz(self, text: str) -> None:
        """Jede Frage, dann auf Tastendruck ihre Antwort."""
        self.section, self.lead = QUIZ, ""
        for number, question in enumerate(re.split(r"^\d+\. ", text, flags=re.MULTILINE)[1:], 1):
            asked = " ".join(DETAILS.sub("", question).split())
            found = [
                [" ".join(text.split()) for text in pair] for pair in DETAILS.findall(question)
            ]
            right = [n for n, (_, body) in enumerate(found) if RIGHT.match(body)]
            blocks = [paragraph(asked)]
            if len(found) > 1:
                choices = "".join(f"<li>{inline(summary)}</li>" for summary, _ in found)
                height = sum(
                    lines_of(visible(s), TEXT_COLUMNS - 3) * TEXT_LINE + 12 for s, _ in found
                )
                blocks.append(Block(f'<ol class="options">{choices}</ol>', height + 14))
            for place in right or range(len(found))[:1]:
                letter = f"**{chr(ord('A') + place)}.** " if len(found) > 1 else ""
                answer = paragraph(letter + RIGHT.sub("", found[place][1]), "reading")
                blocks.append(Block(answer.html, answer.height, fragment=True))
            self.spread(f"Frage {number}", blocks)

    # Alles zusammen

    def build(self) -> None:
        """Geht das Notebook von oben nach unten durch, Abschnitt für Abschnitt."""
        self.opening()
        for name, cells in parted(self.chapter.cells[1:]):
            if name == EXERCISE:
                self.exercise(cells)
            elif name == QUIZ:
                self.quiz("\n\n".join(map(source, cells)))
            elif name != END:
                self.read(cells)

    def read(self, cells: list[dict]) -> None:
        """Ein gewöhnlicher Abschnitt."""
        index = 0
        while index < len(cells):
            if cells[index]["cell_type"] == "markdown":
                self.text(cells[index])
                index += 1
            else:
                index = self.run(cells, index)

    def run(self, cells: list[dict], index: int) -> int:
        """Codezellen hintereinander; gibt zurück, wo es weitergeht."""
        end = index
        while end < len(cells) and cells[end]["cell_type"] == "code":
            end += 1
        run = [cell for cell in cells[index:end] if not LEFT_OUT & tags(cell)]
        if not any(cell["outputs"] for cell in run) and self.section != STARTING:
            run = []
        reading = next_reading(cells[end]) if end < len(cells) else ""
        group: list[dict] = []
        for position, cell in enumerate(run):
            last = position == len(run) - 1
            group.append(cell)
            # Vorbereitung ohne Ausgabe gehört zur Zelle danach.
            if cell["outputs"] or last:
                self.cell(group, reading if last else "")
                group = []
        return end


def closing(text: str) -> str:
    """Gibt den letzten Satz eines Absatzes zurück; was auf den davor zeigt, steht mit ihm."""
    *before, last = text.splitlines() or [""]
    if before and POINTING.match(last):
        both = f"{before[-1]} {last}"
        return both if len(visible(both)) <= TITLE_LENGTH else before[-1]
    return last


def split_items(part: str) -> list[str]:
    """Teilt eine Liste in ihre Punkte, ohne Einrückung."""
    items: list[str] = []
    for line in part.splitlines():
        if ITEM.match(line) or not items:
            items.append(line)
        else:
            items[-1] += f"\n{line.strip()}"
    return items


def tags(cell: dict) -> set[str]:
    """Die Markierungen einer Zelle."""
    return set(cell.get("metadata", {}).get("tags", []))


def parted(cells: list[dict]) -> list[tuple[str, list[dict]]]:
    """Teilt die Zellen in Abschnitte; eine Textzelle kann in zweien liegen."""
    found: list[tuple[str, list[dict]]] = [("", [])]
    for cell in cells:
        if "solution" in tags(cell):
            continue
        if cell["cell_type"] != "markdown":
            found[-1][1].append(cell)
            continue
        for text in re.split(r"^(?=## )", source(cell), flags=re.MULTILINE):
            if text.startswith("## "):
                found.append((text.splitlines()[0].removeprefix("## ").strip(), []))
            if text.strip():
                found[-1][1].append({"cell_type": "markdown", "source": text})
    return found


def next_reading(cell: dict) -> str:
    """Die Lesart: der erste Absatz nach einer Zelle, wenn er einer ist, höchstens zwei Sätze."""
    first, *others = re.split(r"\n\s*\n", source(cell).strip())
    if not first or first.startswith(("#", "!", "|", "**", "$$", "<")) or ITEM.match(first):
        return ""
    # Der letzte Satz vor der nächsten Zelle oder Liste wird deren Titel.
    return "\n".join((first.splitlines() if others else first.splitlines()[:-1])[:2])


def tasks(cells: list[dict]) -> list[tuple[list[str], str]]:
    """Die Aufgaben einer Übung als (Absätze, Platzhalter); Lösungen bleiben weg."""
    found, text = [], []
    for cell in cells:
        if "check" in tags(cell):
            text = []  # der Satz davor sagt, was geprüft wird
        elif cell["cell_type"] == "markdown":
            body = source(cell).removeprefix(f"## {EXERCISE}")
            parts = [part.strip() for part in re.split(r"\n\s*\n", body) if part.strip()]
            text += [part for part in parts if not part.startswith(("<", "|", "!"))]
        elif "exercise" in tags(cell):
            found.append((text, source(cell)))
            text = []
    return found


def write(chapter: Chapter, notes: dict, template: jinja2.Template, out: Path) -> int:
    """Schreibt den Foliensatz eines Kapitels und gibt die Zahl der Folien zurück."""
    deck = Deck(chapter, notes)
    deck.build()
    for name, content in deck.files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    page = template.render(title=chapter.title, slides=deck.slides)
    (out / f"{chapter.slug}.html").write_text(page, encoding="utf-8")
    return len(deck.slides)


def main() -> None:
    """Baut alle Foliensätze und die Übersicht."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    if not (REVEAL / "reveal.js").exists():
        sys.exit("reveal.js fehlt. Abhilfe: make slides (braucht npm)")
    (out / "index.html").unlink(missing_ok=True)
    library = out / "lib"
    library.mkdir(parents=True, exist_ok=True)
    for path in (REVEAL / "reveal.js", REVEAL / "reveal.css", DECK / "slides.css"):
        shutil.copy(path, library)
    shutil.copy(DECK / "slides.js", library)
    shutil.copy(ROOT / "book" / "_static" / "mark.svg", library)
    css = HtmlFormatter(style=STYLE).get_style_defs(".highlight")
    (library / "pygments.css").write_text(css, encoding="utf-8")
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(DECK), autoescape=True)
    notes = yaml.safe_load(TEACHING.read_text(encoding="utf-8"))
    overview: dict[str, list[dict]] = {}
    for section, slugs in sections(ROOT / "_toc.yml").items():
        page = (ROOT / "book" / f"{section}.md").read_text(encoding="utf-8")
        name = re.search(r"^# (.+)$", page, re.MULTILINE)[1]
        for slug in slugs:
            chapter = read(ROOT / "notebooks" / f"{slug}.ipynb")
            count = write(chapter, notes.get(slug, {}), environment.get_template("deck.html"), out)
            entry = {"slug": slug, "title": chapter.title, "slides": count}
            overview.setdefault(name, []).append(entry)
    index = environment.get_template("index.html").render(sections=overview)
    # Zuletzt: Ohne Übersicht gelten die Folien als nicht gebaut.
    (out / "index.html").write_text(index, encoding="utf-8")
    print(f"Foliensätze: {sum(map(len, overview.values()))}, zu öffnen über {out / 'index.html'}")


if __name__ == "__main__":
    main()
