"""Ein Stil für alle Seiten: die Stile von Theme und Erweiterungen ohne unbenutzte Regeln.

Aus zehn Dateien, von denen eine Seite einen kleinen Teil benutzt, wird eine einzige Anfrage. Im
Code fallen die Auszeichnungen weg, die keine Farbe ändern: auf manchen Seiten die Hälfte aller
Elemente, für die der Browser sonst Stil und Platz ausrechnet.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from pygments.styles import get_style_by_name
from pygments.token import STANDARD_TYPES, Text
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

BUNDLE = "book.css"
# Die Reihenfolge entscheidet, welche Regel gilt; die eigene steht zuletzt.
SHEETS = [
    "basic.css",
    "styles/bootstrap.css",
    "styles/pydata-sphinx-theme.css",
    "pygments.css",
    "styles/sphinx-book-theme.css",
    "togglebutton.css",
    "copybutton.css",
    "mystnb.*.css",
    "sphinx-design.min.css",
    "site.css",
]
UNUSED = {"sphinx-thebe.css"}
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# In Zeichenketten und Adressen trennen Klammern und Semikolons nichts.
OPAQUE = re.compile(r"\"[^\"]*\"|'[^']*'|url\([^)]*\)")
INNERMOST = re.compile(r"\([^()]*\)")
NAME = re.compile(r"[.#]((?:[\w-]|\\.)+)")
NESTED = ("@media", "@supports", "@layer", "@container")


def rules(css: str) -> Iterator[tuple[str, str | None]]:
    """Zerlegt CSS in (Kopf, Inhalt); eine Anweisung ohne Klammern hat keinen Inhalt."""
    masked = OPAQUE.sub(lambda match: "_" * len(match.group()), css)
    start = depth = opened = 0
    for match in re.finditer(r"[{};]", masked):
        if match.group() == "{":
            opened = opened if depth else match.start()
            depth += 1
        elif match.group() == "}":
            depth -= 1
        if depth == 0:
            end = match.start()
            yield (
                (css[start:end].strip(), None)
                if match.group() == ";"
                else (css[start:opened].strip(), css[opened + 1 : end].strip())
            )
            start = match.end()


def selectors(head: str) -> Iterator[tuple[str, set[str]]]:
    """Zerlegt einen Kopf in (Selektor, Klassen und Namen darin).

    Was in :not(…) und Verwandten steht, zählt nicht: Es muss auf keiner Seite vorkommen.
    """
    # In einem Selektor wie [fill="#0a6b63"] ist das eine Farbe und kein Name.
    masked, previous = OPAQUE.sub(lambda match: "_" * len(match.group()), head), ""
    while masked != previous:  # von innen nach außen, beliebig tief
        masked, previous = INNERMOST.sub(lambda match: "_" * len(match.group()), masked), masked
    start = 0
    for part in masked.split(","):
        names = {name.replace("\\", "") for name in NAME.findall(part)}
        yield head[start : start + len(part)].strip(), names
        start += len(part) + 1


def prune(css: str, used: set[str]) -> str:
    """Behält die Regeln, deren Klassen und Namen alle benutzt werden."""
    kept = []
    for head, body in rules(css):
        if body is None:
            # Ein @import ohne Rechnername zeigt auf einen Stil, der schon in der Liste steht.
            if "//" in head or not head.startswith(("@import", "@charset")):
                kept.append(f"{head};")
        elif head.startswith(NESTED):
            if inner := prune(body, used):
                kept.append(f"{head}{{{inner}}}")
        elif head.startswith("@font-face"):
            continue
        elif head.startswith("@"):
            kept.append(f"{head}{{{body}}}")
        else:
            needed = [selector for selector, names in selectors(head) if names <= used]
            if needed and body:
                kept.append(f"{','.join(needed)}{{{body}}}")
    return "\n".join(kept)


def used_names(out: Path) -> set[str]:
    """Sammelt Klassen und Namen aller Seiten und alle Wörter der Skripte, die sie setzen."""
    names: set[str] = set()
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for value in re.findall(r"\b(?:class|id)=[\"']([^\"']*)[\"']", text):
            names.update(value.split())
    for script in [*out.glob("_static/*.js"), out / "_static/scripts/pydata-sphinx-theme.js"]:
        names.update(re.findall(r"[\w-]+", script.read_text(encoding="utf-8")))
    return names


def find_plain_tokens(app: Sphinx, config: Config) -> None:
    """Merkt sich die Auszeichnungen, die hell wie dunkel so aussehen wie gewöhnlicher Text."""
    options = config.html_theme_options
    styles = [get_style_by_name(options[f"pygments_{mode}_style"]) for mode in ("light", "dark")]
    plain = [
        name
        for token, name in STANDARD_TYPES.items()
        if name
        and all(style.style_for_token(token) == style.style_for_token(Text) for style in styles)
    ]
    app.plain_token = re.compile(rf'<span class="(?:{"|".join(plain)})">([^<]*)</span>')


def drop_plain_tokens(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Nimmt dem Code auf der Seite die Auszeichnungen ohne eigene Farbe."""
    if app.builder.name == "html" and context.get("body"):
        context["body"] = app.plain_token.sub(r"\1", context["body"])


def link_bundle(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Nimmt die einzelnen Stile aus der Seite; webpack-macros.html verweist auf den gemeinsamen."""
    if app.builder.name != "html":
        return
    listed = {Path(sheet).name for sheet in SHEETS if "*" not in sheet} | UNUSED
    foreign = []
    for sheet in context["css_files"]:
        address = str(getattr(sheet, "filename", sheet))
        name = Path(address).name
        if "//" in address:
            foreign.append(sheet)  # self_contained.py nennt ihn am Ende mit der Seite
        elif name not in listed and not name.startswith("mystnb."):
            raise ExtensionError(f"{pagename}: {name} fehlt in SHEETS von stylesheet.py")
    context["css_files"] = foreign
    context["bundle"] = f"_static/{BUNDLE}"


def write_bundle(app: Sphinx, exception: Exception | None) -> None:
    """Schreibt den gemeinsamen Stil."""
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    for template in out.glob("_static/*.html"):
        template.unlink()  # Vorlagen des Themes, keine Seiten
    sources = [path for sheet in SHEETS for path in (out / "_static").glob(sheet)]
    used = used_names(out)
    pruned = [prune(COMMENT.sub("", path.read_text(encoding="utf-8")), used) for path in sources]
    (out / "_static" / BUNDLE).write_text("\n".join(pruned), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.connect("config-inited", find_plain_tokens)
    app.connect("html-page-context", drop_plain_tokens, priority=960)
    app.connect("html-page-context", link_bundle, priority=960)
    app.connect("build-finished", write_bundle, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
