"""Die fertigen Seiten in einem echten Chromium: Fremdes, Fehler, Barrieren, Breite, Gewicht."""

import pytest

WIDTHS = (1280, 390)
# So viele Tests teilen sich die Seiten: Einer allein hielte am Ende alle anderen auf.
PARTS = 4
# Die Suche lädt den Text aller Seiten auf einmal; das sind allein gut 200 KiB.
LIMITS = {"search.html": 400 * 1024}
LIMIT = 250 * 1024
VIOLATIONS_ONLY = {"resultTypes": ["violations"]}
# Von sich aus prüft axe die Mindestgröße von Schaltflächen (WCAG 2.5.8) nicht.
LIGHT = VIOLATIONS_ONLY | {"rules": {"target-size": {"enabled": True}}}
# Im Dunkeln ändern sich nur Farben und Bilder.
DARK = VIOLATIONS_ONLY | {
    "runOnly": ["color-contrast", "link-in-text-block", "image-alt", "role-img-alt", "svg-img-alt"]
}
# Je Lauf baut axe den Baum der Seite neu auf; ein eigener für den Kontrast wäre der zweite.
MARKED_ONLY = {
    "rules": [
        {"id": "color-contrast", "selector": "[data-look]"},
        {"id": "link-in-text-block", "selector": "a[href][data-look]"},
    ]
}
# Jede Farbe im Code einmal je Art von Kasten: Was dieselben Klassen trägt, sieht gleich aus, und
# axe bräuchte für tausende gleiche Wörter den größten Teil der Zeit.
ONE_OF_EACH_TOKEN = """() => {
  const seen = new Set();
  for (const token of document.querySelectorAll("div.highlight pre span[class]")) {
    const box = token.closest("div.highlight").parentElement;
    const style = [box.className, box.parentElement.className, token.className].join("|");
    // Ein einzelnes Zeichen meldet axe nie; es darf kein Wort vertreten.
    if (token.textContent.length < 2 || seen.has(style)) token.remove();
    else seen.add(style);
  }
}"""
# Was nur an Farben, Schrift und den Flächen darunter hängt, braucht die halbe Zeit: Von allem Text
# und allen Links, die darin gleich sind, genügt einer, auch über mehrere Seiten. Was schwebt, liegt
# über anderem und kommt immer dran.
NEW_LOOKS = """(known) => {
  const seen = new Set(known);
  const names = ["color", "fontSize", "fontStyle", "fontWeight", "textDecoration", "textShadow"];
  const font = (style) => [...names, "borderBottom"].map((name) => style[name]);
  const mark = (node, look) => {
    let floats = false;
    for (let box = node; box; box = box.parentElement) {
      const { backgroundColor, backgroundImage, filter, opacity, position } = getComputedStyle(box);
      const paint = [backgroundColor, backgroundImage, filter, opacity].join();
      if (paint !== "rgba(0, 0, 0, 0),none,none,1") look.push(paint);
      floats ||= ["absolute", "fixed"].includes(position);
    }
    if (floats || !seen.has(look.join("|"))) node.dataset.look = "";
    if (!floats) seen.add(look.join("|"));
  };
  for (const marked of document.querySelectorAll("[data-look]")) delete marked.dataset.look;
  for (const node of document.body.querySelectorAll("*")) {
    if (!node.checkVisibility({ visibilityProperty: true })) continue;
    const own = [...node.childNodes].filter((child) => child.nodeType === 3);
    const text = own.map((child) => child.data).join("").trim();
    const look = font(getComputedStyle(node));
    // Ein einzelnes Zeichen meldet axe nie, ein Feld misst es auch ohne Text.
    if (text.length > 1 || node.matches("input, select, textarea")) mark(node, [...look]);
    if (!node.matches("a[href]")) continue;
    // Ein Link muss sich vom Text um ihn herum unterscheiden.
    let block = node.parentElement;
    while (getComputedStyle(block).display === "inline") block = block.parentElement;
    mark(node, [...look, ...font(getComputedStyle(block))]);
  }
  return [...seen];
}"""
SCREENSHOTS = (".png", ".jpg", ".jpeg", ".webp")


@pytest.fixture(scope="module")
def addresses(toc_pages) -> list[str]:
    """Alle Seiten samt Suche, Weiterleitung und einer Adresse, die es nicht gibt."""
    return [
        *(f"{name}.html" for name in toc_pages),
        "",
        "search.html?q=Modell",
        "gibt/es/nicht.html",
    ]


@pytest.fixture(params=WIDTHS, ids=lambda width: f"{width}px")
def width(request) -> int:
    """Breite des Fensters."""
    return request.param


@pytest.fixture
def tab(browser, width):
    """Ein Fenster in einer Breite."""
    context = browser.new_context(viewport={"width": width, "height": 900}, locale="de-DE")
    yield context.new_page()
    context.close()


@pytest.fixture
def transfers(tab) -> list[tuple[str, int]]:
    """Was das Fenster überträgt: (Adresse, Byte), jedes Mal wie bei einem ersten Besuch."""
    client = tab.context.new_cdp_session(tab)
    client.send("Network.enable")
    client.send("Network.setCacheDisabled", {"cacheDisabled": True})
    urls, found = {}, []
    client.on(
        "Network.requestWillBeSent", lambda e: urls.update({e["requestId"]: e["request"]["url"]})
    )
    client.on(
        "Network.loadingFinished",
        lambda e: found.append((urls.get(e["requestId"], ""), e["encodedDataLength"])),
    )
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_every_page_is_clean_and_light(tab, transfers, width, part, addresses, base_url):
    from axe_playwright_python.sync_playwright import Axe

    script = Axe().axe_script
    problems, looks = [], {"light": [], "dark": []}
    page_name = ""

    def note(text: str) -> None:
        problems.append(f"{page_name or '/'}: {text}")

    def check_request(request) -> None:
        if not request.url.startswith((base_url, "data:", "blob:")):
            note(f"fremde Anfrage an {request.url}")

    def check_console(message) -> None:
        # Die erfundene Adresse meldet Chromium selbst als 404.
        if message.type in ("error", "warning") and "nicht.html" not in message.location["url"]:
            note(f"Konsole: {message.text}")

    tab.on("request", check_request)
    tab.on("console", check_console)
    tab.on("pageerror", lambda error: note(f"Skriptfehler: {error}"))
    for page_name in addresses[part::PARTS]:
        tab.emulate_media(color_scheme="light")
        transfers.clear()
        tab.goto(f"{base_url}/{page_name}", wait_until="load")
        if not page_name:
            tab.wait_for_url("**/book/index.html")
        if page_name.startswith("search"):
            tab.wait_for_selector("#search-results li a")
        # Das Theme macht rollende Kästen erst nach dem Laden mit der Tastatur erreichbar.
        tab.wait_for_timeout(50)
        weight = sum(size for url, size in transfers if not url.endswith(SCREENSHOTS))
        if not 0 < weight <= LIMITS.get(page_name.partition("?")[0], LIMIT):
            note(f"{weight / 1024:.0f} KiB schwer")
        if (wide := tab.evaluate("() => document.documentElement.scrollWidth")) > width:
            note(f"{wide} px breit statt {width}")
        tab.evaluate(ONE_OF_EACH_TOKEN)
        # Einmal je Seite: `Axe.run` liest das Programm für jeden Lauf neu ein.
        tab.evaluate(script)
        tab.evaluate("rules => axe.configure(rules)", MARKED_ONLY)
        for scheme, options in (("light", LIGHT), ("dark", DARK)):
            tab.emulate_media(color_scheme=scheme)
            tab.wait_for_selector(f"html[data-theme={scheme}]")
            looks[scheme] = tab.evaluate(NEW_LOOKS, looks[scheme])
            found = tab.evaluate("options => axe.run(options)", options)
            for violation in found["violations"]:
                places = "; ".join(node["html"][:120] for node in violation["nodes"][:3])
                note(f"axe {violation['id']} ({scheme}): {places}")
    assert not problems, "\n".join(problems)


# Gesucht wird eine gebeugte Form; auf der Seite steht das Wort auch oder nur in einer anderen.
@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("Diensten", "notebooks/fastapi_service"),
        ("gespeicherten Pipelines", "notebooks/joblib_model"),
        ("uvicorn", "notebooks/fastapi_service"),
        ("joblib.load", "notebooks/joblib_model"),
    ],
)
def test_search_finds(browser, base_url, query, target):
    page = browser.new_page()
    page.goto(f"{base_url}/book/index.html")
    page.locator(".search-button__button >> visible=true").first.click()
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    links = page.locator("#search-results li > a").evaluate_all("all => all.map(a => a.href)")
    page.close()
    assert any(target in link for link in links), f"{query!r} findet nur {links}"


def test_copy_button_copies_the_cell(browser, base_url):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{base_url}/notebooks/joblib_model.html")
    cell = page.locator("div.cell_input").first
    shown = cell.locator("pre").inner_text()
    cell.hover()
    button = cell.locator("button.copybtn")
    # Ein Schild daneben verdeckte die erste Zeile, und keine Taste schließt es (WCAG 1.4.13).
    label = button.evaluate("button => getComputedStyle(button, '::after').content")
    assert label == "none" and button.locator("title").count() == 1
    button.click()
    page.wait_for_selector("button.copybtn.success")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    context.close()
    assert copied.strip() == shown.strip()


def test_switch_changes_colours_and_is_remembered(browser, base_url):
    context = browser.new_context(color_scheme="light")
    page = context.new_page()
    page.goto(f"{base_url}/book/index.html")
    root = page.locator("html")
    before = root.get_attribute("data-theme")
    for _ in range(3):
        page.locator(".theme-switch-button >> visible=true").first.click()
        if root.get_attribute("data-theme") != before:
            break
    changed = root.get_attribute("data-theme")
    page.goto(f"{base_url}/book/deployment.html")
    kept = root.get_attribute("data-theme")
    context.close()
    assert (before, changed, kept) == ("light", "dark", "dark")
