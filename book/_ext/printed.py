"""Das Buch ohne Skripte und Knöpfe: was der Builder „epub“ schreibt und `make pdf` druckt.

Aufgeklapptes statt Aufklappbarem, gültiges XML statt HTML, ein eigener Stil. Die Seite im
Browser bleibt davon unberührt.
"""

import posixpath
import re
from datetime import date
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup, Comment
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.epub3 import Epub3Builder

STYLES = ["pygments.css", "print.css", "screen.css"]
# Was auf Papier nichts bewirkt.
REMOVED = "script, style, noscript, button, form, .headerlink, .copybtn, summary, link, template"
# Aus HTML entfernt oder nur für Skripte und Tastatur da.
ATTRIBUTES = re.compile(r"on\w+|tabindex|border|align|valign|bgcolor|scoped|data-.*|frame|rules")
COVER = ("_static/cover.svg", "epub-cover.html")


class Epub(Epub3Builder):
    """Der Builder von Sphinx, mit deutschen Titeln und ohne zwei seiner Fehler."""

    guide_titles = {"toc": "Inhalt", "cover": "Titelbild"}

    def get_toc(self) -> None:
        """Nennt eine Seite überall gleich: Sphinx schreibt auch `book/../notebooks/x.xhtml`."""
        super().get_toc()
        listed = []
        for node in self.refnodes:
            node["refuri"] = posixpath.normpath(node["refuri"])
            if node["refuri"] not in [other["refuri"] for other in listed]:
                listed.append(node)
        self.refnodes = listed

    def build_content(self) -> None:
        """Ergänzt, welche Seiten Formeln enthalten: EPUB verlangt es, Sphinx schreibt es nicht."""
        super().build_content()
        opf = Path(self.outdir) / "content.opf"

        def mark(item: re.Match) -> str:
            page = (Path(self.outdir) / unquote(item[1])).read_text(encoding="utf-8")
            return item[0] + ' properties="mathml"' * ("<math" in page)

        text = opf.read_text(encoding="utf-8")
        text = re.sub(r'<item id="epub-\d+" href="([^"]+\.xhtml)"', mark, text)
        opf.write_text(text, encoding="utf-8")


def configure(app: Sphinx) -> None:
    """Stellt den Builder „epub“ ein; andere bleiben, wie sie sind."""
    if app.builder.name != "epub":
        return
    config = app.config
    config.html_static_path = ["book/_print"]
    config.html_js_files = []
    config.epub_basename = "modelle-in-betrieb"
    config.epub_cover = COVER
    config.epub_language = config.language
    config.epub_title = config.html_title  # `project` setzt Jupyter Book nicht
    config.epub_author = config.epub_publisher = config.epub_contributor = (
        "Die Mitwirkenden von Modelle in Betrieb"
    )
    config.epub_copyright = "CC BY 4.0"
    config.epub_description = "Ein Kurs zum Deployment von Machine-Learning-Modellen"
    config.epub_identifier = config.epub_uid = "modelle-in-betrieb"
    config.epub_scheme = "Kennung"
    config.epub_show_urls = "no"
    config.epub_tocdepth = 2
    config.epub_tocdup = False
    config.epub_tocscope = "includehidden"
    config.epub_use_index = False
    config.epub_exclude_files = ["index.html", "_static/pages.css"]
    config.version = date.today().isoformat()


def make_static(html: str) -> str:
    """Macht aus dem Inhalt einer Seite XHTML, das ohne Skript vollständig ist."""
    soup = BeautifulSoup(html, "html.parser")
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    for details in soup.find_all("details"):
        summary = details.find("summary", recursive=False)
        if summary and "hide" not in details.get("class", []):
            title = soup.new_tag("p", attrs={"class": "opened-title"})
            title.extend(list(summary.contents))
            summary.insert_before(title)
        details.name = "div"
        details.attrs = {"class": "opened"}
    for tag in soup.select(REMOVED):
        tag.decompose()
    # Code beginnt mit einem leeren Element; dahinter bricht WeasyPrint lange Zeilen nicht um.
    for tag in soup.select("pre > span"):
        if not tag.contents:  # `:empty` träfe auch die Leerzeichen
            tag.decompose()
    for tag in soup.find_all(True):
        for name in [name for name in tag.attrs if ATTRIBUTES.fullmatch(name)]:
            del tag[name]
    # Absätze dürfen keine Blöcke enthalten; der Browser verzeiht es, ein Lesegerät nicht.
    for paragraph in soup.find_all("p"):
        if paragraph.find(["div", "p", "ul", "ol", "table", "pre", "figure"]):
            paragraph.name = "div"
    return soup.decode(formatter="minimal")


def write_static(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> str | None:
    """Ersetzt Inhalt und Vorlage jeder Seite."""
    if app.builder.name != "epub" or not context.get("body"):
        return None
    context["body"] = make_static(context["body"])
    context["styles"] = STYLES
    return "printed.html"


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.setup_extension("sphinx.builders.epub3")
    app.add_builder(Epub, override=True)
    # Vor Sphinx, das dieselben Werte beim selben Ereignis prüft.
    app.connect("builder-inited", configure, priority=100)
    # Zuletzt: was die übrigen Erweiterungen der Seite hinzufügen, wird mit umgeformt.
    app.connect("html-page-context", write_static, priority=990)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
