"""Wege ins Buch auf der gebauten Seite: Erklärungen am Wort, Verzeichnis, Blättern, llms.txt."""

import re
from urllib.parse import urlsplit

import pytest

LINK = re.compile(r"^- \[[^]]+\]\(([^)]+)\): .+$", re.MULTILINE)
TIP = re.compile(r'<a class="glossary-link" href="[^"]*#([^"]+)"[^>]*>([^<]*)</a>')
# Wo ein Wort nicht erklärt werden darf, und was eine Erklärung mit Wortteilen verriete.
INSIDE = re.compile(r"<(h[1-6]|pre|code)\b[^>]*>(?:(?!</\1>).)*glossary-use", re.DOTALL)
# Ein Verweis ins Glossar, der aussieht wie einer auf ein Kapitel.
PLAIN = re.compile(r'<a class="reference internal" href="[^"]*glossar\.html#term-')
PAGE = "book/grundlagen"


def test_terms_are_explained_once_and_only_in_prose(site, toc_pages):
    problems, explained = [], set()
    for name in toc_pages:
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        terms = [term for term, _ in TIP.findall(html)]
        explained.update(terms)
        problems += [f"{name}: {term} doppelt" for term in set(terms) if terms.count(term) > 1]
        if INSIDE.search(html):
            problems.append(f"{name}: Erklärung in Code oder Überschrift")
        if PLAIN.search(html) and not name.startswith(("book/anhang/", "book/lehre")):
            problems.append(f"{name}: ein Wort ein zweites Mal verlinkt")
        if name.startswith("book/anhang/") and terms:
            problems.append(f"{name}: Erklärungen im Anhang")
        if name.startswith("notebooks/") and len(terms) < 5:
            problems.append(f"{name}: nur {len(terms)} Erklärungen")
    assert not problems, "\n".join(problems)
    assert len(explained) > 100


@pytest.fixture
def tab(browser, base_url, request):
    """Ein Kapitel, mit Maus oder mit Finger."""
    context = browser.new_context(
        viewport={"width": 390, "height": 800}, has_touch=request.param, locale="de-DE"
    )
    page = context.new_page()
    page.goto(f"{base_url}/{PAGE}.html")
    yield page
    context.close()


def shown(tab) -> int:
    return tab.locator(".glossary-tip:visible").count()


@pytest.mark.parametrize("tab", [False], indirect=True)
def test_tip_obeys_pointer_and_keyboard(tab):
    from axe_playwright_python.sync_playwright import Axe

    use = tab.locator(".glossary-use").first
    link, tip = use.locator("a"), use.locator(".glossary-tip")
    assert shown(tab) == 0
    assert link.get_attribute("aria-describedby") == tip.get_attribute("id")
    link.hover()
    tip.hover()  # bleibt stehen, wenn der Zeiger auf ihr steht
    assert shown(tab) == 1
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    found = Axe().run(tab, options={"resultTypes": ["violations"]}).response["violations"]
    assert not found, [violation["id"] for violation in found]
    tab.keyboard.press("Escape")
    assert shown(tab) == 0
    tab.mouse.move(0, 0)
    link.focus()
    assert shown(tab) == 1
    tab.keyboard.press("Escape")
    assert shown(tab) == 0
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/book/anhang/glossar.html#*")


@pytest.mark.parametrize("tab", [False], indirect=True)
def test_tip_stands_at_the_line_under_the_pointer(tab):
    link = tab.locator(".glossary-use a").first
    # Ein Wort, das umbricht: schmal genug gemacht und mit einer Stelle zum Trennen.
    link.evaluate(
        "link => { link.textContent = 'erste zweite'; link.style.whiteSpace = 'normal';"
        " link.closest('p').style.width = '4.5rem'; }"
    )
    first, second = link.evaluate(
        "link => [...link.getClientRects()].map(({ left, top, bottom }) => [left, top, bottom])"
    )
    tab.mouse.move(second[0] + 5, (second[1] + second[2]) / 2)
    box = tab.locator(".glossary-tip:visible").bounding_box()
    assert box["y"] >= second[1] or box["y"] + box["height"] <= second[1]
    assert abs(box["y"] - second[2]) < 3 or box["y"] + box["height"] <= first[1]


@pytest.mark.parametrize("tab", [True], indirect=True)
def test_first_finger_explains_second_follows(tab):
    link = tab.locator(".glossary-use a").first
    link.tap()
    assert shown(tab) == 1 and PAGE in tab.url
    tab.locator("article h1").tap()
    assert shown(tab) == 0
    link.tap()
    link.tap()
    tab.wait_for_url("**/book/anhang/glossar.html#*")


def test_every_chapter_and_term_is_in_the_index(site, toc_pages):
    html = (site / "book/anhang/stichworte.html").read_text(encoding="utf-8")
    missing = [
        name
        for name in toc_pages
        if name.startswith("notebooks/") and f"../../{name}.html#" not in html
    ]
    assert not missing, f"Ohne Stichwort: {missing}"
    glossary = (site / "book/anhang/glossar.html").read_text(encoding="utf-8")
    terms = re.findall(r'<dt id="(term-[^"]+)"', glossary)
    assert terms and all(f"glossar.html#{term}" in html for term in terms)


def test_news_show_the_changelog(site):
    html = (site / "book/anhang/neues.html").read_text(encoding="utf-8")
    assert "Hinzugefügt" in html and html.count("<li><p>Kapitel ") > 20


def test_last_chapter_names_the_next_section(site):
    def footer(page: str) -> str:
        html = (site / f"{page}.html").read_text(encoding="utf-8")
        nav = html.split('aria-label="Blättern">')[1].split("</nav>")[0]
        return " ".join(re.sub(r"<[^>]+>", " ", nav).split())

    assert footer("notebooks/fastapi_service").endswith("Nächster Abschnitt Modell-Persistenz")
    assert footer("notebooks/flask_service").startswith("Zurück in: Webanwendungen Streamlit")
    assert footer("book/persistenz").startswith("Voriger Abschnitt: Webanwendungen FastAPI")


def test_llms_txt_names_every_page(site, toc_pages):
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert re.match(r"# Modelle in Betrieb\n\n> .+\n\n", text)
    named = [urlsplit(link).path.removesuffix(".html") for link in LINK.findall(text)]
    assert sorted(named) == sorted(toc_pages)
    assert all((site / f"{name}.html").exists() for name in named)
