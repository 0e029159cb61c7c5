"""Direktive {keyword-index}: das Stichwortverzeichnis aus einer YAML-Datei und dem Glossar.

Je Seite stehen unter `index` Wörter, die auf ihr vorkommen und auf die das Verzeichnis zeigt,
unter `search` Wörter, mit denen Leser nach ihr fragen und die nur die Suche kennt.
"""

import re
from functools import cache
from itertools import groupby
from pathlib import Path
from unicodedata import normalize

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

FILE = Path("book/data/keywords.yml")
PAGE = "book/anhang/stichworte"
logger = logging.getLogger(__name__)


def read_keywords(root: Path) -> dict[str, dict[str, list[str]]]:
    """Liest die Datei; ein Buch ohne sie hat keine Stichwörter."""
    path = root / FILE
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


def sort_key(word: str) -> str:
    """Ordnet wie im Wörterbuch: ohne Rücksicht auf Umlaut, Groß und Klein, Zeichen."""
    plain = normalize("NFKD", word).encode("ascii", "ignore").decode().casefold()
    return re.sub(r"[^a-z0-9]", "", plain)


def initial(entry: tuple[str, list]) -> str:
    """Gibt den Buchstaben zurück, unter dem ein Stichwort steht."""
    first = sort_key(entry[0])[:1].upper()
    return first if first.isalpha() else "0–9"


class KeywordIndex(SphinxDirective):
    """Merkt die Stelle vor; gefüllt wird sie, wenn alle Seiten gelesen sind."""

    def run(self) -> list[nodes.Node]:
        """Setzt einen Platzhalter."""
        self.env.note_dependency(str(Path(self.env.srcdir) / FILE))
        return [nodes.container(classes=["keyword-index"])]


def target(doctree: nodes.document, word: str) -> str | None:
    """Findet den Abschnitt, in dem das Wort zuerst vorkommt."""
    pattern = re.compile(rf"(?<![\w]){re.escape(word)}")
    for node in doctree.findall(nodes.Text):
        if pattern.search(node.astext()):
            parent = node.parent
            while parent is not None and not isinstance(parent, nodes.section):
                parent = parent.parent
            return parent["ids"][0] if parent is not None else ""
    return None


def entries(app: Sphinx) -> dict[str, list[tuple[str, str, str]]]:
    """Ordnet jedem Stichwort seine Ziele zu: (Seite, Sprungziel, Beschriftung)."""
    env, found = app.env, {}
    # Jeden Baum nur einmal von der Platte; das Verzeichnis hat Hunderte Wörter auf wenigen Seiten.
    doctree = cache(env.get_doctree)
    for name, words in read_keywords(Path(app.srcdir)).items():
        if name not in env.found_docs:
            logger.warning("%s: Die Seite %s gibt es nicht", FILE, name)
            continue
        for word in words.get("index", []):
            anchor = target(doctree(name), word)
            if anchor is None:
                logger.warning("%s: „%s“ kommt auf %s nicht vor", FILE, word, name)
            else:
                title = env.titles[name].astext().split(":")[0]
                found.setdefault(word, []).append((name, anchor, title))
    for (kind, _), (doc, anchor) in env.domaindata["std"]["objects"].items():
        if kind == "term":
            term = next(
                node.astext() for node in doctree(doc).findall(nodes.term) if anchor in node["ids"]
            )
            found.setdefault(term, []).append((doc, anchor, "Glossar"))
    return found


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Schreibt das Verzeichnis, nach Buchstaben geordnet."""
    for place in doctree.findall(
        lambda n: "keyword-index" in getattr(n, "attributes", {}).get("classes", [])
    ):
        ordered = sorted(entries(app).items(), key=lambda entry: (sort_key(entry[0]), entry[0]))
        for letter, group in groupby(ordered, key=initial):
            listing = nodes.bullet_list()
            for word, targets in group:
                paragraph = nodes.paragraph("", nodes.Text(f"{word}: "))
                for number, (name, anchor, label) in enumerate(dict.fromkeys(targets)):
                    if number:
                        paragraph += nodes.Text(", ")
                    uri = app.builder.get_relative_uri(docname, name)
                    paragraph += nodes.reference("", label, refuri=f"{uri}#{anchor}", internal=True)
                listing += nodes.list_item("", paragraph)
            place += [nodes.rubric("", letter), listing]


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Lässt das Verzeichnis mit jeder anderen Seite neu entstehen: Es nennt Stellen auf allen."""
    return [PAGE] if PAGE in env.found_docs and added | changed | removed else []


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Direktive an."""
    app.add_directive("keyword-index", KeywordIndex)
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
