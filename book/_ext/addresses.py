"""Alles, was von zwei Adressen abhängt: der des Repositorys und der der veröffentlichten Seite.

REPOSITORY_URL schaltet die Knöpfe zum Bearbeiten und für Binder ein, SITE_URL die absoluten
Angaben (canonical, OpenGraph, sitemap.xml). Ohne sie fehlt nur, was sie braucht.
"""

import os
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit
from xml.sax.saxutils import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

BINDER = "https://mybinder.org"
HIDDEN_FROM_SEARCH = {"404", "genindex", "search"}
DESCRIPTION_LENGTH = 160


def read_environment(app: Sphinx, config: Config) -> None:
    """Übernimmt die Adressen aus der Umgebung; sie gehen der Konfiguration vor."""
    options = config.html_theme_options
    url = os.environ.get("REPOSITORY_URL") or options.pop("repository_url", "")
    config.book_repository_url = url.rstrip("/").removesuffix(".git")
    if config.book_repository_url and "github.com" not in config.book_repository_url:
        raise ConfigError(f"REPOSITORY_URL muss auf GitHub zeigen, nicht auf {url}")
    # Die Knöpfe des Themes lassen sich nicht übersetzen; article-header-buttons.html hat eigene.
    options.pop("repository_url", None)
    options.pop("launch_buttons", None)
    site = os.environ.get("SITE_URL") or config.html_baseurl
    config.html_baseurl = site.rstrip("/") + "/" if site else ""
    config.notfound_urls_prefix = urlsplit(config.html_baseurl).path or "/"


def describe(context: dict, doctree: nodes.document | None) -> str:
    """Gibt die Beschreibung aus dem Kopf der Seite zurück, sonst den Anfang des ersten Absatzes."""
    if text := (context.get("meta") or {}).get("description"):
        return str(text)
    paragraphs = doctree.findall(nodes.paragraph) if doctree else ()
    text = " ".join(next((p.astext() for p in paragraphs), "").split())
    if len(text) > DESCRIPTION_LENGTH:
        text = text[: DESCRIPTION_LENGTH - 2].rsplit(" ", 1)[0] + " …"
    return text


def add_addresses(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Gibt den Vorlagen Beschreibung, eigene Adresse und die Ziele der Knöpfe."""
    # Vor dem Auflösen gelesen: Hinweise aus dem Glossar brächten ihre Auszeichnung mit.
    context["page_description"] = describe(context, doctree and app.env.get_doctree(pagename))
    context["page_url"] = ""
    if app.config.html_baseurl and pagename not in HIDDEN_FROM_SEARCH:
        context["page_url"] = urljoin(app.config.html_baseurl, app.builder.get_target_uri(pagename))
    repository = app.config.book_repository_url
    if doctree is None or not repository:
        return
    branch = app.config.html_theme_options.get("repository_branch") or "main"
    source = Path(app.env.doc2path(pagename)).relative_to(app.srcdir).as_posix()
    context["edit_url"] = f"{repository}/edit/{branch}/{source}"
    if source.endswith(".ipynb"):
        owner_and_name = urlsplit(repository).path.strip("/")
        context["binder_url"] = (
            f"{BINDER}/v2/gh/{owner_and_name}/{branch}?urlpath=lab/tree/{quote(source)}"
        )


def write_entry_files(app: Sphinx, exception: Exception | None) -> None:
    """Schreibt die Weiterleitung zur Startseite und, mit Adresse, sitemap.xml und robots.txt."""
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    start = app.builder.get_target_uri(app.config.root_doc)
    # Jupyter Book schriebe sonst eine Seite ohne Sprache und Titel.
    (out / "index.html").write_text(
        f'<!DOCTYPE html>\n<html lang="de"><head><meta charset="utf-8">'
        f"<title>{escape(app.config.html_title)}</title>"
        f'<meta http-equiv="refresh" content="0; url={start}">'
        '<link rel="icon" href="_static/mark.svg"></head>'
        f"<body><main><h1>{escape(app.config.html_title)}</h1>"
        f'<p><a href="{start}">Zur Startseite</a></p></main></body></html>\n',
        encoding="utf-8",
    )
    base = app.config.html_baseurl
    if not base:
        return
    pages = sorted(set(app.env.found_docs) - HIDDEN_FROM_SEARCH)
    urls = "".join(
        f"<url><loc>{escape(urljoin(base, app.builder.get_target_uri(page)))}</loc></url>\n"
        for page in pages
    )
    # Nicht mit sphinx-sitemap: es nennt nur die Seiten, die dieser Lauf neu geschrieben hat.
    (out / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n',
        encoding="utf-8",
    )
    (out / "robots.txt").write_text(
        f"User-agent: *\nAllow: /\nSitemap: {base}sitemap.xml\n", encoding="utf-8"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.add_config_value("book_repository_url", "", "html")
    app.connect("config-inited", read_environment)
    # Nach dem Theme, das page_description auf den Text der ganzen Seite setzt.
    app.connect("html-page-context", add_addresses, priority=900)
    app.connect("build-finished", write_entry_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
