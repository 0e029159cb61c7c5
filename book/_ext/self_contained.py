"""Seiten, die nichts Fremdes laden: kein Thebe, Formeln als MathML, eine Prüfung am Ende."""

import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator
from stylesheet import BUNDLE

# Skripte, die nur Seiten mit diesem Merkmal im Text brauchen.
SCRIPTS_ON_DEMAND = {
    "clipboard.min.js": 'class="highlight',
    "copybutton.js": 'class="highlight',
    "design-tabs.js": "sd-tab-set",
    "glossary.js": 'class="glossary-use',
    "togglebutton.js": "toggle",
}
# Hier ohne Aufgabe: Vollbild und Randnotizen des Themes, von Sphinx das Verzeichnis der
# Domänen, Blättern mit Tasten und das Markieren gefundener Wörter, das die eigene Suche selbst tut.
UNUSED_SCRIPTS = {
    "doctools.js",
    "scripts/sphinx-book-theme.js",
    "sphinx_highlight.js",
    "translations.js",
}
# Verweise, denen der Browser beim Laden der Seite nicht folgt.
NOT_LOADED = {"canonical", "license", "author", "next", "prev", "search", "index", "help"}
FOREIGN = re.compile(r"(?:https?:)?//", re.IGNORECASE)
FOREIGN_IN_CODE = re.compile(
    r"""(?:url\(|@import|import\s*\(?|from|fetch\(|src\s*=|_URL\s*=)\s*["']?((?:https?:)?//[^\s"')]+)""",
    re.IGNORECASE,
)


def remove_thebe(app: Sphinx, config: Config) -> None:
    """Klemmt sphinx_thebe ab: Jupyter Book lädt es immer, es nennt eine fremde Adresse."""
    for listeners in app.events.listeners.values():
        listeners[:] = [
            entry
            for entry in listeners
            if not getattr(entry.handler, "__module__", "").startswith("sphinx_thebe")
        ]


def keep_used_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Lässt nur Skripte übrig, die diese Seite benutzt, und lädt sie nach dem Text."""
    body = context.get("body") or ""
    kept = []
    for script in context["script_files"]:
        name = str(getattr(script, "filename", script) or "").removeprefix("_static/")
        code = (getattr(script, "attributes", None) or {}).get("body", "")
        if name in UNUSED_SCRIPTS or (
            name in SCRIPTS_ON_DEMAND and SCRIPTS_ON_DEMAND[name] not in body
        ):
            continue
        if code.startswith("DOCUMENTATION_OPTIONS."):
            continue  # Angaben für einen Versionswähler, den es hier nicht gibt
        if "toggle" in code.lower() and SCRIPTS_ON_DEMAND["togglebutton.js"] not in body:
            continue
        if name and not FOREIGN.match(name):
            script.attributes.setdefault("defer", "defer")
        kept.append(script)
    context["script_files"] = kept


def write_math(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Schreibt eine Formel als MathML: ohne Skript, ohne Schrift, lesbar für Vorleseprogramme."""
    block = isinstance(node, nodes.math_block)
    tex = " ".join(node.astext().split())
    # Für Lesegeräte ohne MathML und für `make pdf`.
    alternative = f'<math alttext="{escape(tex, quote=True)}"'
    mathml = tex2mathml(tex, as_block=block).replace("<math", alternative, 1)
    translator.body.append(f'<div class="math">{mathml}</div>\n' if block else mathml)
    raise nodes.SkipNode


class Loads(HTMLParser):
    """Sammelt die fremden Adressen, die der Browser mit der Seite laden würde."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Prüft alle Attribute, aus denen der Browser lädt."""
        values = {name: value or "" for name, value in attrs}
        self._inside = tag
        addresses = [values.get(name, "") for name in ("src", "srcset", "data", "poster")]
        if tag == "link" and not set(values.get("rel", "").split()) & NOT_LOADED:
            addresses.append(values.get("href", ""))
        if tag in ("image", "use"):
            addresses += [values.get("href", ""), values.get("xlink:href", "")]
        self.found += [address for address in addresses if FOREIGN.match(address)]
        self.found += FOREIGN_IN_CODE.findall(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        """Merkt sich, dass ein Skript oder Stil zu Ende ist."""
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Prüft eingebettete Skripte und Stile."""
        if self._inside in ("script", "style"):
            self.found += FOREIGN_IN_CODE.findall(data)


def refuse_foreign(app: Sphinx, exception: Exception | None) -> None:
    """Bricht den Bau ab, wenn eine Seite oder ein Stil etwas von einem fremden Server lädt."""
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    problems = []
    for page in sorted(out.rglob("*.html")):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        problems += [f"{page.relative_to(out)} lädt {address}" for address in loads.found]
    for address in FOREIGN_IN_CODE.findall((out / "_static" / BUNDLE).read_text(encoding="utf-8")):
        problems.append(f"der Stil aller Seiten ({BUNDLE}) lädt {address}")
    if problems:
        raise ExtensionError("Fremde Adressen auf fertigen Seiten:\n" + "\n".join(problems))


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
    app.connect("config-inited", remove_thebe, priority=1)
    app.connect("html-page-context", keep_used_scripts, priority=950)
    app.connect("build-finished", refuse_foreign, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
