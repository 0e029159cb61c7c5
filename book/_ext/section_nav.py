"""Vor und zurück: Die Fußnavigation nennt den Abschnitt, wenn er wechselt."""

import re

from docutils import nodes
from sphinx.application import Sphinx

FOLD = re.compile(r"(<a\b[^>]*>([^<]*)</a><details[^>]*><summary)>")


def section_of(parents: dict[str, str], page: str, root: str) -> str:
    """Gibt die oberste Seite über dieser zurück, also die Konzeptseite."""
    while parents.get(page, root) != root:
        page = parents[page]
    return page


def name_sections(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Gibt der Vorlage zu jeder Richtung die Beschriftung."""
    env = app.env
    root = app.config.root_doc
    parents = {child: page for page, found in env.toctree_includes.items() for child in found}
    _, before, after = env.collect_relations().get(pagename, (None, None, None))
    context["prev_label"], context["next_label"] = "Zurück", "Weiter"
    own = section_of(parents, pagename, root)
    for key, word, other in (("prev_label", "Voriger", before), ("next_label", "Nächster", after)):
        if not other or other == root or pagename == root:
            continue
        section = section_of(parents, other, root)
        # Nur Konzeptseiten haben Unterseiten; Anhang und Einstieg sind keine Abschnitte.
        if section != own and env.toctree_includes.get(section):
            name = env.titles[section].astext()
            context[key] = f"{word} Abschnitt" + ("" if other == section else f": {name}")
        elif section == own:
            name = env.titles[own].astext()
            direction = "Zurück" if key == "prev_label" else "Weiter"
            context[key] = direction if other == own else f"{direction} in: {name}"


def name_folds(html: str) -> str:
    """Sagt bei jedem Pfeil der Seitenleiste, wessen Kapitel er zeigt."""
    return FOLD.sub(r'\1 aria-label="Kapitel zu „\2“ zeigen oder verbergen">', str(html))


def add_filter(app: Sphinx) -> None:
    """Reicht der Vorlage der Seitenleiste den Filter."""
    if app.builder.format == "html":
        app.builder.templates.environment.filters["name_folds"] = name_folds


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.connect("builder-inited", add_filter)
    app.connect("html-page-context", name_sections)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
