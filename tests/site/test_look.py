"""Das Aussehen im Browser: Diagramme, Fußnavigation und Hinweise auf jeder Seite."""

import pytest

FACTS = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const size = (text) => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a;
  const white = (box) => getComputedStyle(box).fill === "rgb(255, 255, 255)";
  const cut = (link) =>
    link.scrollWidth > link.clientWidth || link.getBoundingClientRect().right > innerWidth;
  const before = (use) => (use.previousSibling?.textContent ?? "").trim().split(/\\s/).at(-1);
  const tips = all(".glossary-use");
  return {
    sizes: all(".diagram text").map(size),
    white: all(".diagram rect").filter(white).length,
    images: all('.bd-article img[src$=".svg"]').length,
    shrunk: all("div.cell_output img").filter((image) => !image.closest("a, .picture")).length,
    cut: all(".prev-next-area a").filter(cut).map((link) => link.textContent.trim()),
    tips: tips.filter((use) => use.closest(".quiz, dl.stamp, .sd-card"))
      .map((use) => use.firstChild.textContent),
    terms: tips.map((use) => `${before(use)} ${use.firstChild.textContent}`),
  };
}"""


@pytest.fixture
def phone(browser):
    """Ein Telefon im dunklen Schema."""
    context = browser.new_context(
        viewport={"width": 390, "height": 900}, color_scheme="dark", locale="de-DE"
    )
    yield context.new_page()
    context.close()


def test_phone_shows_diagrams_links_and_terms_whole(phone, toc_pages, base_url):
    problems, drawn = [], 0
    for name in toc_pages:
        phone.goto(f"{base_url}/{name}.html", wait_until="load")
        facts = phone.evaluate(FACTS)
        drawn += bool(facts["sizes"])
        if facts["sizes"] and (smallest := min(facts["sizes"])) < 11:
            problems.append(f"{name}: Schrift im Diagramm mit {smallest:.1f} px")
        if facts["white"]:
            problems.append(f"{name}: {facts['white']} weiße Flächen im dunklen Schema")
        if facts["images"]:
            problems.append(f"{name}: ein Diagramm ist Bild geblieben")
        if facts["shrunk"]:
            problems.append(f"{name}: {facts['shrunk']} Abbildungen weder rollbar noch verlinkt")
        problems += [f"{name}: Fußnavigation abgeschnitten: {text}" for text in facts["cut"]]
        problems += [f"{name}: Hinweis an falscher Stelle: {text}" for text in facts["tips"]]
        # Ein Teil eines Namens ist nicht das Wort.
        halves = {"Docker Compose", "Gateway API"}.intersection(facts["terms"])
        problems += [f"{name}: halber Name: {text}" for text in halves]
    assert not problems, "\n".join(problems)
    assert drawn >= 30, f"nur {drawn} Seiten mit Diagramm"


def test_learning_path_fits_a_phone(phone, base_url):
    phone.goto(f"{base_url}/book/lernpfad.html")
    wide = "all => all.filter((box) => box.scrollWidth > box.clientWidth).length"
    tables = phone.locator(".pst-scrollable-table-container")
    assert tables.count() == 3
    assert tables.evaluate_all(wide) == 0


def test_wide_content_leaves_the_sidebar_alone(browser, base_url):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    widths = set()
    for name in ("book/index", "book/herausforderungen", "notebooks/gradio_app"):
        page.goto(f"{base_url}/{name}.html")
        widths.add(page.locator(".bd-sidebar-primary").bounding_box()["width"])
    page.close()
    assert len(widths) == 1, widths
