"""Alle deutschen Texte des Projekts, Zeile für Zeile und ohne Code."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import nbformat
import yaml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE-TEXT.md", "SECURITY.md")
PYTHON = ("examples", "notebooks", "tools", "tests", "book/_ext")
DRAWN = ("book/_static/**/*.svg", "book/_templates/**/*.html")
# Das Schlusskapitel setzt die Beispiele der anderen zusammen und bringt keines mit.
WITHOUT_EXAMPLE = {"end_to_end"}
COMMENTED = (
    *("Makefile", ".ci/run", "_*.yml", "*.in", "pyproject.toml", ".github/**/*.yml"),
    *("examples/**/*.yml", "examples/**/*.yaml", "examples/**/*.sh", "examples/**/*Dockerfile"),
)
CODE = "\ufffc"  # steht für Code, Formeln, Adressen und Zahlen, die erst der Bau einsetzt
LEAD = "\u2060"  # Ende eines fetten Anfangs: „**Prüfen.** Dann rechnen.“ ist eine Zeile
# Der Parser des Buches, mit denselben Erweiterungen wie in _config.yml.
EXTENSIONS = {"colon_fence", "deflist", "dollarmath"}
PARSER = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)
# Was in diesen Direktiven steht, ist kein Text.
NO_TEXT = re.compile(
    r"literalinclude|glossary-data|teaching|bibliography|code|math|toctree|raw|image|include"
)
# Eine Zeichenkette mit Umlauten oder großem Anfang ist für Menschen, andere sind Befehle.
SENTENCE = re.compile(r"(?s:(?=.*\w \w)(?:\s*[A-ZÄÖÜ„]|.*[äöüß]))")
ADDRESS = re.compile(r"https?://\S+|\S+@\S+")
# Code in Docstrings und Meldungen; Befehle stehen dort oft ohne Auszeichnung.
IN_PYTHON = re.compile(
    r"`[^`]*`|\"[^\"\n]*\"|'[^'\n]*'|\b(?:make|(?:sudo apt|brew|winget) install)(?: [a-z][\w.@-]*)?"
)
COMMENT = re.compile(r"(?:^|\s)#+ (.*)")
KINDS = {"heading": "heading", "td": "table", "th": "table", "list_item": "list"}
NOT_SHOWN = re.compile(
    r"<!--.*?-->|\{[%#{].*?[%#}]\}|<(code|style|script)\b.*?</\1>", flags=re.DOTALL
)
TAG = re.compile(r"<[^>]*>")
# Was Ziffern oder Zeichen mitten im Wort hat, ist ein Name: SHA-256, price_usd, tools/setup.py.
NAME = re.compile(r"[\d_\\=<>{}\[\]|$@]|\w[.:(]\w|^[.:#/-]")
PATH = re.compile(r"\w/|/\w")
WORD = re.compile(r"[^\W\d_]{2,}(?:’[^\W\d_]+)?(?:-$)?")


@dataclass
class Block:
    """Ein zusammenhängender Text mit den Nummern seiner Zeilen."""

    file: str
    kind: str  # `paragraph`, `list`, `table`, `heading`, `html`, `note`, `plain` oder `python`
    lines: list[tuple[int, str]]

    def __str__(self) -> str:
        return "\n".join(text for _, text in self.lines)

    def place(self, position: int = 0) -> str:
        """Nennt Datei und Zeile der Stelle `position` im Text."""
        return f"{self.file}, Zeile {self.lines[str(self).count(chr(10), 0, position)][0]}"

    def words(self) -> Iterator[tuple[str, int]]:
        """Liefert jedes Wort mit seiner Stelle; ein Bindestrich trennt zwei Wörter."""
        for chunk in re.finditer(r"\S+", str(self)):
            bare = chunk[0].lstrip(f"„\"'*(…–{CODE}").rstrip(f"“\"'*,.;:!?)…–{CODE}{LEAD}")
            if not NAME.search(bare) and not (self.kind == "python" and PATH.search(bare)):
                yield from ((word, chunk.start()) for word in WORD.findall(bare))


def spellings(word: str) -> set[str]:
    """Am Satzanfang ist ein Wort groß, als Teil von „Ein- und Ausgabe“ hat es einen Strich."""
    return {word, word.rstrip("-"), word[0].lower() + word.rstrip("-")[1:]}


def all_texts(root: Path = ROOT) -> Iterator[Block]:
    """Liefert jeden Text, den ein Leser sieht, und die Kommentare des Codes."""
    for path in [*map(root.joinpath, DOCUMENTS), *sorted((root / "book").rglob("*.md"))]:
        if path.exists():
            yield from markdown(read(path), name(path, root))
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        yield from notebook(path, name(path, root))
    for path in sorted((root / "book").glob("anhang/*.yml")):
        yield from glossary(read(path), name(path, root))
    for path in sorted((root / "book").glob("data/teaching.yml")):
        yield from teaching(read(path), name(path, root))
    for folder in PYTHON:
        for path in sorted((root / folder).rglob("*.py")):
            # Zeichenketten in Tests sind meist absichtlich falsch.
            yield from python(read(path), name(path, root), strings=folder != "tests")
    for pattern in DRAWN:
        for path in sorted(root.glob(pattern)):
            yield from drawing(read(path), name(path, root))
    for pattern in COMMENTED:
        for path in sorted(root.glob(pattern)):
            yield from comments(read(path), name(path, root))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def markdown(text: str, file: str, offset: int = 0) -> Iterator[Block]:
    """Zerlegt Markdown in Blöcke; Direktiven werden mitgelesen, Code nicht."""
    inside = []
    for token in PARSER.parse(text):
        first = offset + token.map[0] + 1 if token.map else 0
        if token.nesting:
            kind = KINDS.get(token.type.rsplit("_", 1)[0])
            if kind and token.nesting > 0:
                inside.append(kind)
            elif kind:
                inside.pop()
        elif token.type == "inline":
            lines, alternatives = readable(token, first)
            yield Block(file, inside[-1] if inside else "paragraph", lines)
            yield from (Block(file, "note", [line]) for line in alternatives)
        elif token.type in ("fence", "colon_fence"):
            yield from directive(token, file, first)
        elif token.type == "html_block":
            yield Block(file, "html", list(enumerate(without_tags(token.content), first)))
        elif token.type == "front_matter":
            for number, line in enumerate(token.content.splitlines(), first + 1):
                yield Block(file, "note", [(number, line.partition(": ")[2].strip("\"'"))])


def directive(token: Token, file: str, first: int) -> Iterator[Block]:
    """Liest Titel, Textalternative und Inhalt einer Direktive; anderes ist Code."""
    found = re.match(r"\{([\w-]+)\}\s*(.*)", token.info.strip())
    if not found or NO_TEXT.match(found[1]):
        return
    yield Block(file, "heading", [(first, found[2])])
    body = token.content.splitlines()
    for index, line in enumerate(body):
        option = re.match(r":([\w-]+):\s*(.*)", line)
        if not option:
            break
        if option[1] == "alt":
            yield Block(file, "note", [(first + 1 + index, option[2])])
        body[index] = ""
    yield from markdown("\n".join(body), file, first)


def readable(token: Token, first: int) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Gibt die Zeilen eines Absatzes zurück und getrennt davon die Texte seiner Bilder."""
    lines, alternatives = [""], []
    in_code = lead = False
    for child in token.children or []:
        text = ""
        if child.type == "text":
            text = CODE if in_code else ADDRESS.sub(CODE, child.content)
        elif child.type in ("softbreak", "hardbreak"):
            lines.append("")
            continue
        elif child.type == "strong_open":
            lead = not lines[-1]
        elif child.type == "strong_close":
            text = LEAD if lead else ""
        elif child.type == "html_inline":
            in_code = child.content.startswith("<code")
        elif child.type == "image":
            alternatives.append((first + len(lines) - 1, child.content))
        elif child.type == "myst_role" and child.meta["name"] in ("term", "abbr"):
            text = re.sub(r"\s*<[^<>]*>$", "", child.content)
        elif child.type == "myst_role" and child.meta["name"].startswith("cite"):
            lines[-1] = lines[-1].rstrip(" ")
        elif child.content:
            text = CODE
        lines[-1] += text
    return list(enumerate(lines, first)), alternatives


def without_tags(text: str) -> list[str]:
    """Gibt den Text von HTML, SVG und Vorlagen zurück, Zeile für Zeile."""
    for pattern, kept in ((NOT_SHOWN, CODE), (TAG, " ")):
        text = pattern.sub(lambda match, kept=kept: kept + "\n" * match[0].count("\n"), text)
    return [" ".join(unescape(line).split()) for line in text.splitlines()]


def drawing(text: str, file: str) -> Iterator[Block]:
    """Liest die Beschriftungen einer SVG-Datei oder Vorlage."""
    for number, line in enumerate(without_tags(text), 1):
        if line.strip(CODE + " "):
            yield Block(file, "plain", [(number, line)])


def notebook(path: Path, file: str) -> Iterator[Block]:
    """Liest die Textzellen sowie Kommentare und Zeichenketten der Codezellen."""
    for cell in nbformat.read(path, as_version=4).cells:
        reader = markdown if cell.cell_type == "markdown" else python
        yield from reader(cell.source, f"{file}, Zelle „{cell.id}“")


def glossary(text: str, file: str) -> Iterator[Block]:
    """Liest Wort und Erklärung jedes Eintrags, nicht das englische Wort."""
    for entry in yaml.compose(text).value:
        for key, value in entry.value:
            if key.value in ("term", "definition"):
                yield Block(file, "note", [(value.start_mark.line + 1, value.value)])


def teaching(text: str, file: str) -> Iterator[Block]:
    """Liest die Hinweise für Kursleitungen als Markdown, nicht die Ausgaben der Zellen."""
    values = [(None, yaml.compose(text))]
    while values:
        key, node = values.pop()
        if isinstance(node, yaml.MappingNode):
            values += [(name.value, value) for name, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            values += [(key, value) for value in node.value]
        elif key not in ("cell", "see"):
            yield from markdown(node.value, file, node.start_mark.line)


def comments(text: str, file: str) -> Iterator[Block]:
    """Liest die Kommentare von YAML, Shell, Makefile und Dockerfile."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := COMMENT.search(line):
            yield plain(file, number, found[1])


def python(text: str, file: str, strings: bool = True) -> Iterator[Block]:
    """Liest Kommentare, Docstrings und, mit `strings`, Zeichenketten aus mehreren Wörtern."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return  # das melden ruff und test_notebooks.py
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield plain(file, token.start[0], re.sub(r"noqa: [A-Z0-9, ]+", "", token.string))
    docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        value = getattr(node, "value", None) if strings or node in docstrings else None
        if isinstance(value, str) and SENTENCE.match(value):
            yield plain(file, node.lineno, value)


def plain(file: str, first: int, text: str) -> Block:
    """Ein Text aus Python ohne den Code, den er nennt."""
    lines = IN_PYTHON.sub(CODE, text).splitlines()
    return Block(file, "python", list(enumerate(lines, first)))
