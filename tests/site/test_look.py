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
        # So breit ist ein Fenster am Rechner bei 400 % Vergrößerung.
        phone.set_viewport_size({"width": 320, "height": 900})
        if (wide := phone.evaluate("document.documentElement.scrollWidth")) > 320:
            problems.append(f"{name}: {wide} px breit statt 320")
        phone.set_viewport_size({"width": 390, "height": 900})
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
        # Was daneben steht, braucht keinen Knopf; er legte einen Schleier über die Seite.
        assert page.locator(".secondary-toggle").is_hidden()
    page.close()
    assert len(widths) == 1, widths


BLOCKED = """for (const name of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, name, {
    configurable: true,
    get() { throw new DOMException("gesperrt", "SecurityError"); },
  });
"""


def test_menu_and_colours_work_without_storage(phone, base_url):
    phone.add_init_script(BLOCKED)
    phone.goto(f"{base_url}/book/grundlagen.html")
    phone.locator(".primary-toggle").click()
    phone.wait_for_selector(".bd-sidebar-primary a:focus")
    phone.keyboard.press("Escape")
    phone.wait_for_selector(".primary-toggle:focus")
    before = phone.locator("html").get_attribute("data-mode")
    phone.locator(".theme-switch-button").click()
    assert phone.locator("html").get_attribute("data-mode") != before


COVERED = """() => {
  const { x, y, width, height } = document.activeElement.getBoundingClientRect();
  const seen = document.elementFromPoint(x + width / 2, y + height / 2);
  // Nach dem letzten Eintrag ist der Browser selbst an der Reihe.
  return document.activeElement === document.body || document.activeElement.contains(seen)
    ? "" : document.activeElement.outerHTML.slice(0, 80);
}"""


def test_keyboard_stays_where_the_eye_is(phone, base_url):
    phone.goto(f"{base_url}/book/grundlagen.html")
    # Das Verzeichnis der Seite ist zugeklappt: Keiner seiner Einträge bekommt den Fokus.
    links = phone.locator(".bd-sidebar-secondary a")
    assert links.count() and links.evaluate_all(
        "all => all.every((link) => getComputedStyle(link).visibility === 'hidden')"
    )
    phone.locator(".primary-toggle").click()
    phone.wait_for_selector(".bd-sidebar-primary a:focus")
    last = phone.locator(".bd-sidebar-primary a:visible").last
    last.focus()
    phone.keyboard.press("Tab")
    assert not (hidden := phone.evaluate(COVERED)), hidden


def test_open_menus_can_be_left_and_tell_their_state(phone, base_url):
    phone.goto(f"{base_url}/book/grundlagen.html")
    article = phone.locator("article h1")
    for side in ("primary", "secondary"):
        button = phone.locator(f".{side}-toggle")
        assert button.get_attribute("aria-expanded") == "false"
        button.click()
        phone.wait_for_selector(f".{side}-toggle[aria-expanded=true]", state="attached")
        assert not article.is_visible()
        phone.locator(f".bd-sidebar-{side} .sidebar-close").click()
        phone.wait_for_selector(f".{side}-toggle[aria-expanded=false]")
        assert article.is_visible() and phone.locator(f".{side}-toggle:focus").count() == 1
    # Ein Sprung auf derselben Seite führt zu Text, den das Verzeichnis nicht mehr verdeckt.
    phone.locator(".secondary-toggle").click()
    phone.locator(".bd-sidebar-secondary nav a").nth(1).click()
    phone.wait_for_selector(".secondary-toggle[aria-expanded=false]")
    assert article.is_visible() and "#" in phone.url


def test_folded_sidebar_keeps_focus_and_paper(browser, base_url):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{base_url}/book/grundlagen.html")
    page.locator(".primary-toggle").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".primary-toggle[aria-expanded=false]")
    page.wait_for_timeout(400)  # das Theme setzt den Fokus nach 100 ms, blendet in 250 ms aus
    assert page.locator(".primary-toggle:focus").count() == 1
    assert not page.locator(".bd-sidebar-primary").is_visible()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 900})
    assert page.locator("article h2").first.is_visible()
    assert not page.locator("label.overlay-primary").is_visible()
    page.close()


def test_page_without_script_has_navigation_and_coloured_code(browser, base_url):
    context = browser.new_context(
        viewport={"width": 390, "height": 900}, color_scheme="dark", java_script_enabled=False
    )
    page = context.new_page()
    page.goto(f"{base_url}/notebooks/joblib_model.html")
    links = page.locator(".bd-sidebar-primary nav.bd-links a")
    assert links.first.is_visible() and page.locator("article h1").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    style = "(node) => getComputedStyle(node).color"
    code = page.locator("div.cell_input .highlight")
    assert code.locator(".kn").first.evaluate(style) != code.first.evaluate(style)
    context.close()


def test_closed_search_gives_the_focus_back(browser, base_url):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{base_url}/book/persistenz.html")
    page.locator(".bd-article a").nth(3).focus()
    place = page.evaluate("document.activeElement.outerHTML")
    for closing in ("Escape", "Control+k"):
        page.keyboard.press("Control+k")
        page.wait_for_selector(".search-button__wrapper.show input:focus")
        page.keyboard.press(closing)
        assert page.evaluate("document.activeElement.outerHTML") == place
    # Safari gibt einem angeklickten Knopf keinen Fokus.
    page.evaluate("document.activeElement.blur()")
    button = page.locator(".search-button__button:visible").first
    button.evaluate("button => button.addEventListener('mousedown', (e) => e.preventDefault())")
    button.click()
    page.wait_for_selector(".search-button__wrapper.show input:focus")
    page.keyboard.press("Escape")
    assert button.evaluate("button => button === document.activeElement")
    page.keyboard.press("Control+k")
    page.wait_for_selector(".search-button__wrapper.show input:focus")
    page.keyboard.press("Tab")
    page.wait_for_selector(".search-button__wrapper.show", state="detached")
    page.close()


def test_contrast_mode_shows_buttons_and_focus(browser, base_url):
    context = browser.new_context(forced_colors="active", color_scheme="dark")
    page = context.new_page()
    page.goto(f"{base_url}/book/persistenz.html")
    style = "(node, name) => getComputedStyle(node)[name]"
    icon = page.locator(".theme-switch:visible").evaluate(style, "backgroundColor")
    assert icon != page.locator("body").evaluate(style, "backgroundColor")
    # Ein Knopf des Selbsttests: Der Preisrechner fehlt, wo npm fehlt.
    page.goto(f"{base_url}/notebooks/joblib_model.html")
    button = page.locator(".quiz button").first
    assert button.evaluate(style, "borderTopWidth") == "1px"
    link = page.locator("nav.bd-links li > a").nth(2)
    link.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert link.evaluate(style, "outlineStyle") == "solid"
    context.close()


def test_buttons_in_the_header_show_their_focus(browser, base_url):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{base_url}/book/persistenz.html")
    buttons = page.locator(".bd-header-article .btn:visible, .bd-sidebar .btn:visible").all()
    assert len(buttons) > 2
    for button in buttons:
        button.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        outline = button.evaluate("(node) => getComputedStyle(node).outlineStyle")
        assert outline == "solid", button.evaluate("(node) => node.outerHTML")
    page.close()


def test_every_fold_and_the_own_page_have_a_name(browser, base_url):
    page = browser.new_page()
    page.goto(f"{base_url}/book/grundlagen.html")
    names = page.locator("nav.bd-links summary").evaluate_all("all => all.map((s) => s.ariaLabel)")
    assert names and all(names) and len(names) == len(set(names))
    assert page.locator("nav.bd-links [aria-current=page]").inner_text() == "Grundlagen"
    page.close()
