"""Was die Suche im Browser braucht: je Seite Titel, Abschnitte, Text und Wörter aus dem Code.

Pagefind verlangt, dass alle Wörter auf einer Seite stehen; von 31 Fragen in ganzen Sätzen führte
es 10 zur richtigen Seite. MiniSearch genügt ein Teil, und es verzeiht Tippfehler.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from keyword_index import read_keywords
from sphinx.application import Sphinx

# Mitten im Anhang steht jedes Fachwort; gesucht ist aber meist das Kapitel dazu, auch vor den
# Hinweisen für Lehrende.
WEIGHTS = {"notebooks/": 1.0, "book/anhang/": 0.3, "book/lehre/": 0.3, "book/": 0.7}
CODE_WORD = re.compile(r"[^\W\d_]\w{2,}")
SKIPPED = (
    nodes.comment,
    nodes.raw,
    nodes.title,
    nodes.section,
    nodes.image,
    nodes.substitution_definition,
)


def prose(node: nodes.Node) -> list[str]:
    """Sammelt den Text ohne Code, Überschriften und Unterabschnitte."""
    if isinstance(node, nodes.Text):
        return [node.astext()]
    if isinstance(node, (*SKIPPED, nodes.literal_block)):
        return []
    texts = [text for child in node.children for text in prose(child)]
    return texts if isinstance(node, nodes.Inline) else [*texts, " "]


def sections(doctree: nodes.document) -> list[list[str]]:
    """Gibt je Abschnitt Sprungziel, Überschrift und Text zurück."""
    return [
        [
            section["ids"][0],
            section.next_node(nodes.title).astext(),
            " ".join("".join(text for child in section for text in prose(child)).split()),
        ]
        for section in doctree.findall(nodes.section)
    ]


def code_words(doctree: nodes.document, known: str) -> str:
    """Gibt die Wörter aus Code und Ausgaben zurück, die im Text nicht vorkommen, jedes einmal."""
    code = " ".join(block.astext() for block in doctree.findall(nodes.literal_block))
    return " ".join(sorted(set(CODE_WORD.findall(code)) - set(CODE_WORD.findall(known))))


def write_search_data(app: Sphinx, exception: Exception | None) -> None:
    """Schreibt alle Seiten in eine Datei, auch die, die dieser Lauf nicht neu gebaut hat."""
    if exception or app.builder.name != "html":
        return
    keywords = read_keywords(Path(app.srcdir))
    pages = []
    for name in sorted(app.env.found_docs):
        doctree = app.env.get_doctree(name)
        parts = sections(doctree)
        own = keywords.get(name, {})
        pages.append(
            {
                "url": app.builder.get_target_uri(name),
                "title": app.env.titles[name].astext(),
                "weight": next(value for start, value in WEIGHTS.items() if name.startswith(start)),
                "keywords": " ".join([*own.get("index", []), *own.get("search", [])]),
                "sections": parts,
                "code": code_words(doctree, " ".join(text for _, _, text in parts)),
            }
        )
    out = Path(app.outdir)
    (out / "_static" / "search.json").write_text(
        json.dumps(pages, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    # Das Skript der Suche von Sphinx lädt keine Seite.
    (out / "_static" / "searchtools.js").unlink(missing_ok=True)


def skip_index(app: Sphinx) -> None:
    """Erspart das Suchverzeichnis von Sphinx; es zu ergänzen, scheiterte ohne das alte."""
    if app.builder.name == "html":
        for step in ("load_indexer", "index_page", "dump_search_index"):
            setattr(app.builder, step, lambda *_: None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.connect("builder-inited", skip_index)
    app.connect("build-finished", write_search_data)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
