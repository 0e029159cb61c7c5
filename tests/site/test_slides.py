"""Die Folien in einem echten Chromium: nichts läuft über den Rand, nichts Fremdes, druckbar."""

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import needs
import slides as program

ROOT = Path(__file__).resolve().parents[2]
SLUGS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
# Drei sehr verschiedene Kapitel: viel Quelltext, Bilder, Tabellen.
PRINTED = ["flask_service", "drift_detection", "kubernetes_cluster"]
OVERFLOW = """() => Reveal.getSlides().map((slide, number) => {
  Reveal.slide(number, 0, 99);
  const edge = slide.getBoundingClientRect();
  const over = [...slide.children].filter(e => !e.matches('aside')).map(e => {
    const box = e.getBoundingClientRect();
    return Math.max(box.bottom - edge.bottom, box.right - edge.right);
  });
  const images = [...slide.querySelectorAll('img')].filter(e => e.complete && !e.naturalWidth);
  const size = Math.max(slide.scrollHeight - 720, slide.scrollWidth - 1280, ...over);
  return { number: number + 1, title: slide.querySelector('h1, h2')?.innerText ?? '',
           over: Math.round(size), broken: images.length };
})"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """Alle Foliensätze, frisch gebaut in einem eigenen Ordner."""
    if not (ROOT / "node_modules" / "reveal.js" / "dist" / "reveal.js").exists():
        needs.skip_or_fail("reveal.js fehlt. Abhilfe: npm installieren, dann make slides")
    folder = tmp_path_factory.mktemp("folien")
    command = [sys.executable, ROOT / "tools" / "slides.py", folder]
    subprocess.run(
        command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "book" / "_ext")}
    )
    return folder


@pytest.fixture(scope="module")
def address(slides, serve_folder) -> Iterator[str]:
    """Adresse eines Servers mit derselben strengen CSP wie für das Buch."""
    with serve_folder(slides) as address:
        yield address


@pytest.fixture(scope="module")
def page(browser):
    """Ein Fenster in der Größe der Folien."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, locale="de-DE")
    yield context.new_page()
    context.close()


def show(page, url: str) -> None:
    """Öffnet einen Foliensatz und wartet, bis er bereit ist."""
    page.goto(url)
    page.wait_for_selector("html[data-ready]")


@pytest.mark.parametrize("slug", SLUGS)
def test_nothing_runs_over_the_edge(page, address, slug):
    problems = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on(
        "request",
        lambda r: None if r.url.startswith((address, "data:")) else problems.append(r.url),
    )
    show(page, f"{address}/{slug}.html")
    measured = page.evaluate(OVERFLOW)
    assert len(measured) > 15, "Zu wenige Folien"
    problems += [
        f"Folie {slide['number']} „{slide['title']}“: {slide['over']} px zu groß"
        for slide in measured
        if slide["over"] > 0
    ]
    problems += [f"Folie {slide['number']}: Bild fehlt" for slide in measured if slide["broken"]]
    problems += [f"Folie {slide['number']} ohne Titel" for slide in measured if not slide["title"]]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("slug", PRINTED)
def test_prints_one_page_per_slide(page, address, slug):
    show(page, f"{address}/{slug}.html")
    count = page.evaluate("Reveal.getTotalSlides()")
    show(page, f"{address}/{slug}.html?print-pdf")
    page.wait_for_function(
        "count => document.querySelectorAll('.pdf-page').length == count", arg=count
    )
    # reveal.js macht die Seite einen Pixel niedriger, damit keine leere dazwischen kommt.
    cut = page.evaluate(
        """() => [...document.querySelectorAll('.pdf-page')].filter(
          page => page.querySelector('section').scrollHeight > page.offsetHeight + 1).length"""
    )
    assert not cut, f"{cut} Seiten sind abgeschnitten"
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) == count


def test_answers_appear_on_a_key(page, address):
    show(page, f"{address}/joblib_model.html")
    start = page.evaluate("Reveal.getSlides().findIndex(s => s.querySelector('.fragment'))")
    page.evaluate("n => Reveal.slide(n)", start)
    answer = page.locator("section.present .fragment").first
    assert answer.evaluate("e => getComputedStyle(e).visibility") == "hidden"
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('section.present .fragment.visible')")
    assert page.evaluate("Reveal.getIndices().h") == start
    page.keyboard.press("n")
    page.wait_for_selector(".speaker-notes", state="visible")
    for size in ((1280, 720), (1024, 768)):
        page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
        page.wait_for_function(
            "() => document.querySelector('section.present').getBoundingClientRect().bottom"
            " <= document.querySelector('.speaker-notes').getBoundingClientRect().top + 1"
        )
        notes = page.locator(".speaker-notes").bounding_box()
        slide = page.locator("section.present").bounding_box()
        assert slide["y"] + slide["height"] <= notes["y"] + 1, (size, slide, notes)
        assert notes["y"] + notes["height"] <= size[1] + 1, (size, notes)


@pytest.mark.parametrize("slug", PRINTED)
def test_slides_have_no_barrier(page, address, slug):
    from axe_playwright_python.sync_playwright import Axe

    show(page, f"{address}/{slug}.html")
    problems = []
    for number in (0, 3, 20):
        page.evaluate("n => Reveal.slide(n, 0, 99)", number)
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        problems += [
            f"Folie {number + 1}, {violation['id']}: {node['html'][:120]}"
            for violation in found
            for node in violation["nodes"][:2]
        ]
    assert not problems, "\n".join(problems)


def test_overview_names_every_deck(page, address):
    page.goto(f"{address}/index.html")
    links = page.locator("main a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert {f"{slug}.html" for slug in SLUGS} <= set(links)


@pytest.mark.parametrize("slug", SLUGS)
def test_solutions_and_versions_are_not_shown(slides, slug):
    from nbformat import read

    shown = (slides / f"{slug}.html").read_text(encoding="utf-8")
    visible = re.sub(r"<aside.*?</aside>", "", shown, flags=re.DOTALL)
    text = re.sub(r"\s", "", html.unescape(re.sub(r"<[^>]+>", "", visible)))
    notebook = read(ROOT / "notebooks" / f"{slug}.ipynb", as_version=4)
    for cell in notebook.cells:
        if {"solution", "versions", "check"} & set(cell.metadata.get("tags", [])):
            assert re.sub(r"\s", "", cell.source) not in text, f"Zelle {cell.id} ist zu sehen"


def test_failed_building_leaves_no_overview_of_old_decks(tmp_path, monkeypatch):
    for path in (tmp_path / "reveal.js", tmp_path / "reveal.css"):
        path.touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("alt", encoding="utf-8")
    monkeypatch.setattr(program, "REVEAL", tmp_path)
    monkeypatch.setattr(program, "write", lambda *_: {}["fehlt"])
    monkeypatch.setattr(sys, "argv", ["slides.py", str(tmp_path / "out")])
    with pytest.raises(KeyError, match="fehlt"):
        program.main()
    # Ohne Übersicht gelten die Folien als nicht gebaut.
    assert not (tmp_path / "out" / "index.html").exists()
