"""Das Aussehen im Browser: Diagramme, Fußnavigation und Hinweise auf jeder Seite."""

import pytest

FACTS = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const edges = ({ x, y, width, height }, above = 0, below = 0) =>
    ({ left: x, right: x + width, top: y + above, bottom: y + height - below });
  // Was von der Zeile sichtbar ist, ohne den Platz für Ober- und Unterlängen.
  const seen = (text) => edges(text.getBBox(), 4, 5);
  const apart = (a, b) =>
    a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
  const within = (a, b) =>
    a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
  const touched = (line, box) => {
    for (let at = 0; at <= line.getTotalLength(); at += 2) {
      const { x, y } = line.getPointAtLength(at);
      if (x > box.left && x < box.right && y > box.top && y < box.bottom) return true;
    }
    return false;
  };
  // Beschriftungen, die auf einer Linie oder einem Rand liegen oder einander berühren.
  const crowded = (svg) => {
    const texts = [...svg.querySelectorAll("text")];
    const lines = [...svg.querySelectorAll("path:not(marker path)")];
    const boxes = [...svg.querySelectorAll("rect")].map((rect) => edges(rect.getBBox()));
    const bad = (text, place) => {
      const own = seen(text);
      return !within(own, boxes[0]) || lines.some((line) => touched(line, own))
        // Ein Kasten verdeckt die Ränder der Kästen unter ihm.
        || boxes.slice(boxes.findLastIndex((box) => within(own, box)) + 1)
          .some((box) => !apart(own, box))
        || texts.slice(place + 1).some((other) => !apart(own, seen(other)));
    };
    return texts.filter(bad).map((text) => text.textContent);
  };
  const size = (text) => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a;
  const white = (box) => getComputedStyle(box).fill === "rgb(255, 255, 255)";
  const cut = (link) =>
    link.scrollWidth > link.clientWidth || link.getBoundingClientRect().right > innerWidth;
  const before = (use) => (use.previousSibling?.textContent ?? "").trim().split(/\\s/).at(-1);
  const tips = all(".glossary-use");
  return {
    sizes: all(".diagram text").map(size),
    crowded: all(".diagram svg").flatMap(crowded),
    rolling: all(".diagram").filter((box) => box.scrollWidth > box.clientWidth).length,
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
        if facts["rolling"]:
            problems.append(f"{name}: Das Diagramm passt nicht in die Breite.")
        problems += [f"{name}: „{text}“ liegt nicht frei" for text in facts["crowded"]]
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


def test_status_page_is_short_until_opened(phone, base_url):
    phone.goto(f"{base_url}/book/anhang/stand.html")
    height = phone.locator("article").bounding_box()["height"]
    assert height < 5000, f"{height:.0f} px hoch"
    first = phone.locator("details.status").first
    assert not first.locator("dl").is_visible()
    first.locator("summary").click()
    assert first.locator("dl a").first.is_visible()


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
