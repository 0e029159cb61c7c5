"""Die Seiten für Kursleitungen: Direktiven {teaching} je Abschnitt und {teaching-table}.

Lernziele, Dauer, Voraussetzungen und Werkzeuge stehen in den Notebooks, Irrtümer, Vorführungen
und Einstiegsfragen in book/data/teaching.yml. Folien werden verlinkt, wenn `make slides` sie
gebaut hat; sie liegen dann unter slides/ neben den Seiten.
"""

import re
import shutil
from pathlib import Path

import yaml
from chapters import ROOT, TEACHING, Chapter, read, said, sections
from docutils import nodes
from docutils.statemachine import StringList
from myst_parser.mdit_to_docutils.base import default_slugify
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

NOTEBOOKS = ROOT / "notebooks"
SLIDES = ROOT / "_build" / "slides"
LOG = logging.getLogger(__name__)


def built_slides() -> bool:
    """Sagt, ob es Folien gibt, die zu den Notebooks passen."""
    index = SLIDES / "index.html"
    if not index.exists():
        return False
    newest = max(path.stat().st_mtime for path in (*NOTEBOOKS.glob("*.ipynb"), TEACHING))
    if index.stat().st_mtime < newest:
        LOG.info("Die Folien sind älter als die Kapitel und bleiben weg. Abhilfe: make slides")
        return False
    return True


def add_slides(app: Sphinx, exception: Exception | None) -> None:
    """Legt die Folien neben die Seiten, vor den Prüfungen aller Seiten."""
    if exception or app.builder.name != "html":
        return
    target = Path(app.outdir) / "slides"
    shutil.rmtree(target, ignore_errors=True)
    if app.slides:
        shutil.copytree(SLIDES, target)


def note_slides(app: Sphinx) -> None:
    """Merkt sich für alle Direktiven, ob es Folien gibt."""
    app.slides = app.builder.name == "html" and built_slides()


def relink(text: str, up: str) -> str:
    """Richtet die Verweise eines Notebooks auf eine Seite, von der `up` zur Wurzel führt."""
    text = text.replace("](../", f"]({up}")
    return re.sub(r"\]\((?=[\w.]+\.ipynb)", f"]({up}notebooks/", text)


class Teaching(SphinxDirective):
    """Gemeinsames beider Direktiven."""

    def parse(self, lines: list[str], parent: nodes.Element) -> None:
        """Liest Markdown und hängt das Ergebnis an."""
        block = StringList(lines, source=str(TEACHING))
        self.state.nested_parse(block, self.content_offset, parent)

    def chapters(self) -> dict[str, list[Chapter]]:
        """Liest alle Kapitel; ändert sich eines, entsteht die Seite neu."""
        toc = Path(self.env.srcdir) / "_toc.yml"
        found = {
            section: [read(NOTEBOOKS / f"{slug}.ipynb") for slug in slugs]
            for section, slugs in sections(toc).items()
        }
        watched = [toc, TEACHING, SLIDES / "index.html", *NOTEBOOKS.glob("*.ipynb")]
        for path in (*watched, Path(__file__), Path(__file__).with_name("chapters.py")):
            self.env.note_dependency(str(path))
        return found

    def slides(self, chapter: Chapter, up: str) -> str:
        """Ein Verweis auf die Folien; leer, solange es keine gibt."""
        if not self.env.app.slides:
            return ""
        return f'<a href="{up}slides/{chapter.slug}.html">Folien</a>'


class TeachingTable(Teaching):
    """Alle Kapitel mit Dauer und Werkzeugen in einer Tabelle."""

    def run(self) -> list[nodes.Node]:
        """Schreibt eine Zeile je Kapitel."""
        slides = self.env.app.slides
        lines = [f"| Kapitel | Minuten | Außer Python |{' Folien |' if slides else ''}"]
        lines.append("|---|---|---|" + ("---|" if slides else ""))
        for section, found in self.chapters().items():
            minutes = sum(chapter.minutes for chapter in found)
            page = Path(self.env.srcdir, "book", f"{section}.md").read_text(encoding="utf-8")
            title = re.search(r"^# (.+)$", page, re.MULTILINE)[1]
            lines.append(
                f"| **[{title}](lehre/{section}.md)** | {minutes} | |{' |' if slides else ''}"
            )
            for chapter in found:
                row = f"| {chapter.title} | {chapter.minutes} | {', '.join(chapter.needs)} |"
                lines.append(row + (f" {self.slides(chapter, '../')} |" if slides else ""))
        container = nodes.Element()
        self.parse(lines, container)
        return container.children


class TeachingSection(Teaching):
    """Alle Kapitel eines Abschnitts; Argument ist der Name der Konzeptseite."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Schreibt je Kapitel einen Abschnitt."""
        notes = yaml.safe_load(TEACHING.read_text(encoding="utf-8"))
        return [
            self.chapter(chapter, notes[chapter.slug])
            for chapter in self.chapters()[self.arguments[0]]
        ]

    def chapter(self, chapter: Chapter, notes: dict) -> nodes.section:
        """Gibt den Abschnitt eines Kapitels zurück."""
        section = nodes.section(ids=[chapter.slug.replace("_", "-")], names=[chapter.slug])
        title = nodes.title(chapter.title, chapter.title)
        section += title
        address = f"../../notebooks/{chapter.slug}.ipynb"
        facts = [f"[Zum Kapitel]({address})", f"etwa {chapter.minutes} Minuten"]
        if chapter.needs:
            facts.append(f"braucht außer Python: {', '.join(chapter.needs)}")
        if slides := self.slides(chapter, "../../"):
            facts.append(slides)
        lines = [" · ".join(facts), "", "**Lernziele**", ""]
        lines += [f"- {goal}" for goal in chapter.goals]
        lines += ["", "**Voraussetzungen:** " + relink(chapter.prerequisites, "../../"), ""]
        lines += [f"**Einstiegsfrage:** {notes['question']}", "", "**Typische Irrtümer**", ""]
        for mistake in notes["mistakes"]:
            lines += [f"- *„{mistake['claim']}“*", f"  {mistake['correction']}"]
        lines += ["", "**Live vorführen**", ""]
        for number, demo in enumerate(notes["demos"], start=1):
            lines += demonstration(chapter, demo, number, address)
        self.parse("\n".join(lines).splitlines(), section)
        return section


def demonstration(chapter: Chapter, demo: dict, number: int, address: str) -> list[str]:
    """Schreibt eine Vorführung; ohne Zelle oder mit anderer Ausgabe bricht der Bau ab."""
    cell = next((cell for cell in chapter.cells if cell.get("id") == demo["cell"]), None)
    if cell is None or not seen(demo["see"], said(cell)):
        raise ExtensionError(
            f"{TEACHING.name}: Im Kapitel {chapter.slug} zeigt keine Zelle {demo['cell']} "
            f"die Stelle {demo['see']!r}"
        )
    heading = chapter.heading_before(demo["cell"])
    anchor = "" if heading == chapter.title else f"#{default_slugify(heading)}"
    place = f"[{heading}]({address}{anchor}), Zelle {cell['execution_count']}"
    # Je Angabe eine Zeile: Während der Sitzung wird gesucht und nicht gelesen.
    return [
        f"{number}. {demo['do']}\\",
        f"   *Stelle:* {place}\\",
        f"   *Zu sehen:* `` {demo['see']} ``\\",
        f"   *Dazu:* {demo['say']}",
    ]


def seen(text: str, output: str) -> bool:
    """Sagt, ob die Stelle in der Ausgabe steht; eine kurze muss eine ganze Zeile sein."""
    return text in (output if len(text) > 7 else output.splitlines())


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Direktiven an."""
    app.slides = False
    app.add_directive("teaching", TeachingSection)
    app.add_directive("teaching-table", TeachingTable)
    app.connect("builder-inited", note_slides)
    # Nach dem gemeinsamen Stil, der nur die Seiten des Buches kennt, und vor den Prüfungen.
    app.connect("build-finished", add_slides, priority=850)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
