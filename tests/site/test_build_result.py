"""Das Ergebnis des Baus: alle Seiten, ihre Ausgaben, keine toten Verweise."""

import json
import re
import subprocess
import zipfile
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

STAMP = re.compile(r'<dl class="[^"]*\bstamp">(.*?)</dl>', re.DOTALL)
STATUS = "book/anhang/stand.html"
EXTRA_PAGES = {"404", "index", "search"}
SCRIPT = re.compile(r"<script[^>]*\bsrc=\"([^\"]+)")
# Groß und hier ohne Aufgabe: Symbolschrift, Formelsatz, Widgets, Fernausführung.
UNUSED = re.compile(r"fontawesome|mathjax|require|thebe|doctools|searchtools", re.IGNORECASE)
RASTER = (".png", ".jpg", ".jpeg", ".gif")


# Was Sphinx, Themes und Erweiterungen auf Englisch sagen, wenn ihnen niemand widerspricht.
ENGLISH = re.compile(
    r"\b(the|to|of|this|skip|back|page|pages|hidden|toggle|link to|permalink|version warning|search"
    r"|show|hide|close|open|next|previous|copy|menu|contents?|heading|table of|download|warning"
    r"|note|tip|figure|light|dark|main|top|home|navigation|index|results?)\b",
    re.IGNORECASE,
)
NAMES = ("aria-label", "aria-description", "placeholder", "data-tooltip")
NOT_INTERFACE = {"article", "script", "style", "title"}


class Interface(HTMLParser):
    """Sammelt, was die Oberfläche sagt: Namen überall, Text nur außerhalb des Kapitels."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._outside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._outside += tag in NOT_INTERFACE
        # Namen von Diagrammen schreibt das Buch; Titel von Quellen stehen an ihren Verweisen.
        if tag != "svg":
            self.said += [values[name] for name in NAMES if values.get(name)]
        if "headerlink" in (values.get("class") or "") or not self._outside:
            self.said.append(values.get("title") or "")

    def handle_endtag(self, tag: str) -> None:
        self._outside -= tag in NOT_INTERFACE

    def handle_data(self, data: str) -> None:
        if not self._outside:
            self.said.append(data.strip())


class Page(HTMLParser):
    """Sammelt Verweise, Sprungziele und Text einer Seite."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.targets: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.targets.add(values["id"])
        if tag == "img":
            self.images.append(values)
        self.links += [values[name] for name in ("href", "src") if values.get(name)]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@cache
def parse(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_pages_are_exactly_those_in_toc(site, toc_pages):
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    # Die Folien liegen daneben, wenn `make slides` sie gebaut hat.
    assert {name for name in built if not name.startswith("slides/")} == {*toc_pages, *EXTRA_PAGES}


def test_pages_are_german_and_described(site, toc_pages):
    for name in toc_pages:
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        assert '<html lang="de"' in html, name
        found = re.search('<meta name="description" content="([^"]+)">', html)
        assert found, f"{name}: Beschreibung fehlt"
        assert "&lt;" not in found[1], f"{name}: Auszeichnung in der Beschreibung"
        assert '<meta property="og:title"' in html, name


def test_pages_load_only_scripts_they_use(site, toc_pages):
    for name in toc_pages:
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        scripts = [Path(urlsplit(link).path).name for link in SCRIPT.findall(html)]
        assert not [script for script in scripts if UNUSED.search(script)], f"{name}: {scripts}"
        assert ("copybutton.js" in scripts) == ('class="highlight' in html), f"{name}: Kopierknopf"


def test_images_are_small_and_leave_no_gap(site, toc_pages):
    delivered = [path.relative_to(site).as_posix() for path in site.rglob("*")]
    problems = [
        name
        for name in delivered
        if name.lower().endswith(RASTER) and not name.startswith("slides/")
    ]
    for name in [*toc_pages, "search", "404"]:
        images = parse(site / f"{name}.html").images
        for image in images:
            if not all((image.get(side) or "").isdigit() for side in ("width", "height")):
                problems.append(f"{name}: {image['src']} ohne Breite und Höhe")
            if image["src"].startswith("data:"):
                problems.append(f"{name}: ein Bild steckt in der Seite")
        own = [image for image in images if "logo__image" not in (image.get("class") or "")]
        lazy = ["loading" in image for image in own]
        if lazy != [number > 0 for number in range(len(own))]:
            problems.append(f"{name}: nur das erste Bild wird sofort geladen, nicht {lazy}")
    assert not problems, "\n".join(problems)


def test_search_of_sphinx_is_not_delivered(site):
    assert not (site / "searchindex.js").exists()
    assert not (site / "_static" / "searchtools.js").exists()


def test_scripts_have_the_ending_every_server_knows(site):
    """Die Vorgabe von nginx kennt `.mjs` nicht, und Browser führen es dann nicht aus."""
    assert not list(site.rglob("*.mjs"))


def test_code_marks_up_only_what_has_a_colour(site, toc_pages):
    marked = [
        name
        for name in toc_pages
        if '<span class="p">' in (site / f"{name}.html").read_text(encoding="utf-8")
    ]
    assert not marked, f"Auszeichnung ohne Farbe: {marked}"


def test_notebooks_show_all_their_outputs(site, toc_pages):
    for name in toc_pages:
        notebook = Path(f"{name}.ipynb")
        if not notebook.exists():
            continue
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        tags = [set(cell["metadata"].get("tags", [])) for cell in cells]
        expected = sum(
            bool(cell.get("outputs")) and not tag & {"remove-cell", "remove-output"}
            for cell, tag in zip(cells, tags, strict=True)
        )
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        assert expected > 0, f"{name}: keine gespeicherte Ausgabe"
        assert html.count('class="cell_output') == expected, (
            f"{name}: Ausgaben fehlen auf der Seite"
        )


def test_every_notebook_carries_one_stamp(site, toc_pages):
    for name in toc_pages:
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        if Path(f"{name}.ipynb").exists():
            stamps = STAMP.findall(html)
            assert len(stamps) == 1, f"{name}: {len(stamps)} Stempel"
            assert "Letzter grüner Lauf" in stamps[0], name
            assert re.search(r"</code>\xa0v?\d", stamps[0]), f"{name}: keine Version"


def test_status_page_names_every_chapter_and_environment(site, toc_pages):
    linked = {Path(urlsplit(link).path).stem for link in parse(site / STATUS).links}
    chapters = {Path(name).name for name in toc_pages if Path(f"{name}.ipynb").exists()}
    assert chapters <= linked, f"Fehlt auf der Seite: {sorted(chapters - linked)}"
    text = "".join(parse(site / STATUS).text)
    locks = [
        path.with_suffix(".txt").as_posix() for path in Path("examples").glob("*/requirements.in")
    ]
    missing = [lock for lock in ["requirements.txt", *locks] if lock not in text]
    assert not missing, f"Fehlt auf der Seite: {missing}"


def test_internal_links_and_anchors_resolve(site):
    broken = []
    for path in sorted(site.rglob("*.html")):
        for link in parse(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            # 404.html liegt unter jeder Adresse und verweist deshalb von der Wurzel aus.
            start = site if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            name = path.relative_to(site)
            if not target.exists():
                broken.append(f"{name}: {link} gibt es nicht")
            elif parts.fragment and target.suffix == ".html":
                fragment = unquote(parts.fragment)
                if fragment not in parse(target).targets:
                    broken.append(f"{name}: {link} hat kein Sprungziel")
    assert not broken, "\n".join(broken)


def test_interface_speaks_german(site):
    found: dict[str, str] = {}
    for path in sorted(site.rglob("*.html")):
        if path.relative_to(site).parts[0] in ("slides", "lib"):
            continue
        interface = Interface()
        interface.feed(path.read_text(encoding="utf-8"))
        for text in filter(ENGLISH.search, interface.said):
            found.setdefault(text, path.name)
    assert not found, "\n".join(f"{page}: {text}" for text, page in found.items())


def test_solutions_are_folded_with_their_check(site, toc_pages):
    problems = []
    for name in toc_pages:
        if not Path(f"{name}.ipynb").exists():
            continue
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        # Nur die Übung: Die ganze Seite zu zerlegen dauerte zehnmal so lange.
        exercise = html[html.index('id="ubung"') : html.index('id="selbsttest"')]
        assert "Gelöst: " not in html.replace(exercise, ""), name
        soup = BeautifulSoup(exercise, "html.parser")
        folds = soup.select("details.solution")
        if not folds:
            problems.append(f"{name}: keine zugeklappte Lösung")
        problems += [
            f"{name}: Aufgabe mit zugeklappt" for fold in folds if fold.select(".tag_exercise")
        ]
        for place in soup.find_all(string=re.compile("Gelöst: ")):
            if not place.find_parent("details", class_="solution"):
                problems.append(f"{name}: offen steht {place.strip()[:60]}")
        problems += [
            f"{name}: Lösung doppelt zugeklappt"
            for fold in folds
            if fold.select(".tag_solution details")
        ]
    assert not problems, "\n".join(problems)


def test_course_can_be_downloaded(site, toc_pages, tmp_path):
    archive = site / "downloads" / "modelle-in-betrieb.zip"
    for page in ("book/index.html", "notebooks/flask_service.html"):
        targets = [(site / page).parent / link for link in parse(site / page).links]
        assert archive.resolve() in {target.resolve() for target in targets}, page
    with zipfile.ZipFile(archive) as file:
        names = {name.removeprefix("modelle-in-betrieb/") for name in file.namelist()}
        file.extractall(tmp_path)
    wanted = {"Makefile", "README.md", "notebooks/process.py", "examples/price_model/train.py"}
    wanted |= {f"{name}.ipynb" for name in toc_pages if Path(f"{name}.ipynb").exists()}
    assert wanted <= names, sorted(wanted - names)
    parts = {part for name in names for part in Path(name).parts}
    assert not parts & {".git", "__pycache__", "_build", ".venv", "node_modules"}
    done = subprocess.run(["make", "help"], cwd=tmp_path / "modelle-in-betrieb", timeout=60)
    assert done.returncode == 0


def test_every_notebook_can_be_downloaded_without_its_solution(site, toc_pages):
    for name in toc_pages:
        if not Path(f"{name}.ipynb").exists():
            continue
        slug = Path(name).name
        links = parse(site / f"{name}.html").links
        for link in (f"../_sources/notebooks/{slug}.ipynb", f"../downloads/student/{slug}.ipynb"):
            assert link in links, f"{name}: {link} fehlt"
        student = json.loads((site / "downloads" / "student" / f"{slug}.ipynb").read_bytes())
        marks = {tag for cell in student["cells"] for tag in cell["metadata"].get("tags", [])}
        assert "exercise" in marks and "solution" not in marks, slug
