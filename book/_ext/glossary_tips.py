"""Das erste Vorkommen jedes Fachworts auf einer Seite führt ins Glossar und zeigt die Erklärung.

Gesucht wird nur im Fließtext, nie in Code, Überschriften, Verweisen und im Anhang. Das Wort
darf gebeugt sein; was sich nicht aus einer Endung ergibt, steht im Glossar unter `forms`. Ein
Wort, das auch anderes heißt, gilt nur auf den Seiten, die dort unter `pages` stehen.
"""

import re
from functools import lru_cache
from html import escape
from pathlib import Path

from docutils import nodes
from glossary_data import load
from sphinx.application import Sphinx

FILE = Path("book/anhang/glossar.yml")
PAGE = "book/anhang/glossar"
ENDINGS = r"(?:e|en|er|ern|es|n|s|se|sen|nen)?"
ADJECTIVE = re.compile(r"(?:e|er|es|en|em)$")
NEVER = (
    *(nodes.title, nodes.literal, nodes.literal_block, nodes.reference, nodes.term, nodes.raw),
    *(nodes.math, nodes.math_block, nodes.caption, nodes.rubric, nodes.citation, nodes.table),
)
# Wer unterrichtet, kennt die Wörter, und eine Sitzung ist dort eine Doppelstunde.
NO_TIP = ("book/anhang/", "book/lehre")
# Ausgaben, der Stempel und Karten, die als Ganzes ein Verweis sind.
NO_TIP_INSIDE = {"cell_output", "stamp", "sd-card"}


def pattern(term: str, forms: list[str]) -> str:
    """Gibt den Ausdruck zurück, der das Wort und seine gebeugten Formen findet."""
    *adjectives, noun = term.split()
    parts = []
    for word in adjectives:
        start = ADJECTIVE.sub("", word[1:])
        ending = "(?:e|er|es|en|em)" if start != word[1:] else ""
        # Am Satzanfang groß, im Satz klein.
        parts.append(f"[{word[0].lower()}{word[0].upper()}]{re.escape(start)}{ending}")
    # Abkürzungen haben höchstens ein s; kleingeschrieben sind Adjektive wie „idempotent“.
    ending = "s?" if noun.isupper() else ENDINGS
    first = f"[{noun[0].lower()}{noun[0].upper()}]" if noun[0].islower() else re.escape(noun[0])
    parts.append(first + re.escape(noun[1:]) + ending)
    words = [r"\s+".join(parts), *map(re.escape, forms)]
    # Kein Wortteil: weder „Stichprobe“ noch „Port-Nummer“.
    return rf"(?<![\w/.@-])(?:{'|'.join(words)})(?![\w/@-]|\.\w)"


# Beides einmal statt je Seite: Sonst ist es ein Fünftel der Zeit, in der das Buch entsteht.
@lru_cache(maxsize=1)
def glossary(path: Path, changed: int) -> list[dict]:
    """Gibt die Einträge zurück; gelesen wird nur, wenn sich die Datei geändert hat."""
    return load(path)


@lru_cache
def search_for(patterns: tuple[str, ...]) -> re.Pattern:
    """Sucht alle Ausdrücke zugleich; der Name der Gruppe nennt die Nummer dessen, der passt."""
    return re.compile("|".join(f"(?P<t{number}>{one})" for number, one in enumerate(patterns)))


def anchor(app: Sphinx, term: str) -> str:
    """Gibt das Sprungziel eines Eintrags zurück."""
    return app.env.domaindata["std"]["terms"][term.lower()][1]


def link(app: Sphinx, docname: str, entry: dict, text: str, number: int) -> list[nodes.Node]:
    """Schreibt Verweis und Erklärung; sichtbar macht sie glossary.js."""
    uri = app.builder.get_relative_uri(docname, PAGE) + "#" + anchor(app, entry["term"])
    tip = f"glossary-tip-{number}"
    definition = escape(" ".join(entry["definition"].split()))
    html = (
        f'<span class="glossary-use"><a class="glossary-link" href="{escape(uri)}" '
        f'aria-describedby="{tip}">{escape(text)}</a>'
        f'<span class="glossary-tip" id="{tip}" role="tooltip" hidden>{definition}</span></span>'
    )
    return [nodes.raw("", html, format="html")]


def usable(node: nodes.Node) -> bool:
    """Sagt, ob an dieser Stelle Fließtext steht."""
    while node is not None:
        classes = getattr(node, "attributes", {}).get("classes", ())
        if isinstance(node, NEVER) or NO_TIP_INSIDE.intersection(classes):
            return False
        # Im Selbsttest führte der Klick auf eine Antwort sonst ins Glossar.
        if isinstance(node, nodes.section) and any(
            isinstance(part, nodes.raw) and '<form class="quiz"' in part.astext() for part in node
        ):
            return False
        node = node.parent
    return True


def add_tips(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Geht die Seite von oben durch; jedes Wort bekommt höchstens einen Hinweis."""
    path = Path(app.srcdir) / FILE
    if app.builder.name != "html" or docname.startswith(NO_TIP) or PAGE not in app.env.found_docs:
        return
    entries = glossary(path, path.stat().st_mtime_ns)
    open_ = {
        entry["term"]: entry
        for entry in entries
        if not entry.get("pages") or docname in entry["pages"]
    }
    by_anchor = {anchor(app, entry["term"]): entry for entry in entries}
    # Längere zuerst: „A/B-Test“ vor „Test“.
    terms = sorted(open_, key=len, reverse=True)
    groups = {f"t{number}": term for number, term in enumerate(terms)}
    search = search_for(tuple(pattern(term, open_[term].get("forms", [])) for term in terms))
    page = app.builder.get_relative_uri(docname, PAGE)
    seen: set[str] = set()
    number = 0
    for node in list(doctree.findall(lambda n: isinstance(n, (nodes.Text, nodes.reference)))):
        if isinstance(node, nodes.reference):
            # {term} auf der Seite: derselbe Hinweis am vorhandenen Verweis.
            address, _, fragment = node.get("refuri", "").partition("#")
            entry = by_anchor.get(fragment) if address == page else None
            if entry and entry["term"] not in seen:
                seen.add(entry["term"])
                number += 1
                node.parent.replace(node, link(app, docname, entry, node.astext(), number))
            elif entry:
                # Ein zweiter Verweis sähe aus wie einer auf ein Kapitel.
                node.parent.replace(node, nodes.Text(node.astext()))
            continue
        if not usable(node):
            continue
        text, start, pieces = node.astext(), 0, []
        for found in search.finditer(text):
            term = groups[found.lastgroup]
            if term in seen:
                continue
            seen.add(term)
            number += 1
            pieces.append(nodes.Text(text[start : found.start()]))
            pieces += link(app, docname, open_[term], found[0], number)
            start = found.end()
        if pieces:
            node.parent.replace(node, [*pieces, nodes.Text(text[start:])])


def depend(app: Sphinx, docname: str, content: list[str]) -> None:
    """Lässt jede Seite neu entstehen, wenn sich das Glossar ändert: Seine Sätze stehen auf ihr."""
    app.env.note_dependency(str(Path(app.srcdir) / FILE))


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.connect("source-read", depend)
    # Nach dem Auflösen der Verweise, damit {term} schon ein Verweis ist.
    app.connect("doctree-resolved", add_tips, priority=900)
    app.add_js_file("glossary.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
