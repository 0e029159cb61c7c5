"""Der Preisrechner in einem echten Chromium: lädt auf Wunsch, rechnet richtig, ist bedienbar."""

import re
import statistics

import joblib
import pytest

from examples.price_model.data import load_diamonds, split
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import EXAMPLE, FEATURES, InvalidStoneError, parse

PAGES = ["book/persistenz", "notebooks/onnx_model"]
ROWS = 1000
BUTTON = "form.price-form button"
VIOLATIONS_ONLY = {"resultTypes": ["violations"]}
STATUS = "form.price-form [role=status]"
PRICE = re.compile(r"Geschätzter Preis: ([\d\u202f]+) US-Dollar")


@pytest.fixture
def tab(browser, base_url, request):
    """Ein frisches Fenster auf einer Seite mit Preisrechner; `loaded` sammelt alle Adressen."""
    context = browser.new_context(locale="de-DE")
    page = context.new_page()
    page.loaded = []
    page.on("request", lambda asked: page.loaded.append(asked.url.removeprefix(base_url)))
    page.goto(f"{base_url}/{getattr(request, 'param', PAGES[0])}.html", wait_until="networkidle")
    yield page
    context.close()


on_both_pages = pytest.mark.parametrize("tab", PAGES, indirect=True)


def wait_for_price(tab) -> str:
    tab.wait_for_function(
        "status => document.querySelector(status).textContent.startsWith('Geschätzt')", arg=STATUS
    )
    return tab.locator(STATUS).inner_text()


def fill(tab, **values: str) -> None:
    for name, value in values.items():
        tab.locator(f"form.price-form [name={name}]").fill(value)


@on_both_pages
def test_nothing_is_loaded_before_it_is_asked_for(tab):
    assert not [url for url in tab.loaded if url.startswith("/lib/")]
    for name in FEATURES:
        tab.locator(f"form.price-form [name={name}]").focus()
    assert not [url for url in tab.loaded if url.startswith("/lib/")]
    tab.locator(BUTTON).click()
    wait_for_price(tab)
    assert sorted(url for url in tab.loaded if url.startswith("/lib/")) == [
        f"/lib/price_form/{name}"
        for name in ("onnxruntime.bin", "onnxruntime.js", "price_model.bin")
    ]


def test_shown_size_is_what_is_transferred(tab):
    client = tab.context.new_cdp_session(tab)
    client.send("Network.enable")
    sizes = []
    client.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    shown = tab.locator(".price-form-size").inner_text()
    tab.locator(BUTTON).click()
    wait_for_price(tab)
    assert len(sizes) == 3
    megabytes = float(re.search(r"([\d,]+) MB", shown).group(1).replace(",", "."))
    assert megabytes == pytest.approx(sum(sizes) / 1e6, rel=0.05)
    assert tab.locator(".price-form-size").inner_text() == ""


@on_both_pages
def test_a_thousand_rows_cost_what_scikit_learn_says(tab):
    _, X_test, _, _ = split(load_diamonds()[0])
    rows = X_test[:ROWS]
    expected = joblib.load(ARTIFACTS / "price_model.joblib").predict(rows)
    call = "async rows => (await import('/_static/price_form.js')).predict(rows)"
    assert tab.evaluate(call, rows.to_dict("records")) == pytest.approx(expected, abs=0.05)


def test_a_stone_takes_less_than_five_milliseconds(tab):
    times = tab.evaluate(
        """async stone => {
          const { predict } = await import('/_static/price_form.js');
          await predict([stone]);
          const times = [];
          for (let n = 0; n < 200; n++) {
            const started = performance.now();
            await predict([stone]);
            times.push(performance.now() - started);
          }
          return times;
        }""",
        EXAMPLE,
    )
    assert len(times) == 200 and statistics.median(times) < 5


def test_questions_at_the_same_time_do_not_disturb_each_other(tab):
    prices = tab.evaluate(
        """async stone => {
          const { predict } = await import('/_static/price_form.js');
          return Promise.all([0.5, 0.7, 0.9].map(carat => predict([{ ...stone, carat }])));
        }""",
        EXAMPLE,
    )
    assert [round(price) for (price,) in prices] == [2326, 2988, 3430]


@on_both_pages
def test_keyboard_alone_is_enough(tab):
    tab.locator("form.price-form [name=carat]").focus()
    tab.keyboard.press("Control+A")
    tab.keyboard.type("0,9")
    passed = []
    while (name := tab.evaluate("document.activeElement.name || document.activeElement.type")) and (
        name != "submit"
    ):
        passed.append(name)
        tab.keyboard.press("Tab")
    assert tuple(passed) == FEATURES
    tab.keyboard.press("Enter")
    assert PRICE.search(wait_for_price(tab)).group(1) == "3\u202f430"


def test_every_field_has_a_name_and_the_answer_is_announced(tab):
    for name in FEATURES:
        field = tab.locator(f"form.price-form [name={name}]")
        label = tab.locator(f"label[for={field.get_attribute('id')}]").inner_text()
        assert tab.get_by_label(label, exact=True).count() == 1
    assert tab.get_by_role("form", name="Was kostet dieser Diamant?").count() == 1
    assert tab.get_by_role("button", name="Preis schätzen").count() == 1
    assert tab.locator(STATUS).count() == 1


def test_change_gets_a_new_price_without_loading_again(tab):
    tab.locator(BUTTON).click()
    wait_for_price(tab)
    before = len(tab.loaded)
    tab.locator("form.price-form [name=cut]").select_option("Fair")
    tab.wait_for_function(
        "status => document.querySelector(status).textContent.includes('2\u202f817')", arg=STATUS
    )
    assert len(tab.loaded) == before


def test_price_belongs_to_what_is_in_the_form_when_it_appears(tab):
    held = []
    tab.route("**/price_model.bin", lambda route: held.append(route))
    with tab.expect_request("**/price_model.bin"):
        tab.locator(BUTTON).click()
    tab.locator("form.price-form [name=cut]").select_option("Fair")
    held[0].continue_()
    assert "2\u202f817" in wait_for_price(tab)


def test_axe_finds_nothing_after_an_answer_and_after_a_refusal(tab):
    from axe_playwright_python.sync_playwright import Axe

    def check_in_both_schemes() -> None:
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            tab.wait_for_selector(f"html[data-theme={scheme}]")
            # Den Rest der Seite prüft test_browser.py.
            found = Axe().run(tab, "form.price-form", options=VIOLATIONS_ONLY)
            assert not found.response["violations"], (scheme, found.response["violations"])

    tab.locator(BUTTON).click()
    wait_for_price(tab)
    check_in_both_schemes()
    fill(tab, carat="-1", z="")
    tab.locator(BUTTON).click()
    tab.wait_for_selector("form.price-form [aria-invalid=true]")
    check_in_both_schemes()


def test_bad_input_gets_the_reasons_of_the_schema_and_the_focus(tab):
    wrong = {"depth": ("", None), "table": ("viel", "viel"), "x": ("1e999", float("inf"))}
    wrong |= {"y": ("0", 0), "z": ("1000,5", 1000.5)}
    fill(tab, **{name: text for name, (text, _) in wrong.items()})
    tab.locator(BUTTON).click()
    payload = EXAMPLE | {name: value for name, (_, value) in wrong.items()}
    del payload["depth"]
    with pytest.raises(InvalidStoneError) as error:
        parse(payload)
    expected = {problem["field"]: problem["reason"] for problem in error.value.problems}
    assert set(expected) == set(wrong)
    for name in FEATURES:
        field = tab.locator(f"form.price-form [name={name}]")
        invalid = "true" if name in wrong else None
        assert field.get_attribute("aria-invalid") == invalid
        if name in wrong:
            problem = field.get_attribute("aria-describedby").split()[-1]
            assert tab.locator(f"#{problem}").inner_text() == expected[name]
    assert tab.locator(STATUS).inner_text() == "5 Angaben bitte ändern."
    assert tab.evaluate("document.activeElement.name") == "depth"
    assert not [url for url in tab.loaded if url.startswith("/lib/")]


def test_numbers_are_read_with_comma_and_point_and_nothing_else(tab):
    read = """async text => {
      const { check } = await import('/_static/price_form.js');
      const form = document.querySelector('form.price-form');
      const data = JSON.parse(form.querySelector('[type="application/json"]').text);
      const texts = { ...Object.fromEntries(new FormData(form)), x: text };
      const { stone, problems } = check(data, texts);
      return problems.x ?? stone.x;
    }"""
    for text in ("0.7", "0,7", "+.7", " 0,70 ", "7e-1"):
        assert tab.evaluate(read, text) == 0.7, text
    for text in ("1.000,5", "0x10", "NaN", "Infinity", "0,7 ct", "--1", "0 7", ","):
        assert tab.evaluate(read, text) == "Hier muss eine Zahl stehen.", text


def test_stone_outside_the_data_gets_a_warning(tab):
    fill(tab, carat="20")
    tab.locator(BUTTON).click()
    assert "außerhalb der Daten" in wait_for_price(tab)


def test_lost_network_is_said_and_can_be_retried(tab):
    tab.route("**/price_model.bin", lambda route: route.abort())
    tab.locator(BUTTON).click()
    tab.wait_for_function(
        "status => document.querySelector(status).textContent.includes('noch einmal')", arg=STATUS
    )
    tab.unroute("**/price_model.bin")
    tab.locator(BUTTON).click()
    wait_for_price(tab)


@pytest.fixture
def bare_tab(browser, base_url):
    """Öffnet die Seite in einem Fenster ohne JavaScript oder mit einem Vorspann."""
    contexts = []

    def open_page(script: str = "", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(script)
        page.goto(f"{base_url}/{PAGES[0]}.html")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("missing", ["WebAssembly", "DecompressionStream"])
def test_old_browser_gets_a_clear_message(bare_tab, missing):
    page = bare_tab(f"delete window.{missing};")
    page.wait_for_function("status => document.querySelector(status).textContent", arg=STATUS)
    assert "zu alt oder führt kein WebAssembly aus" in page.locator(STATUS).inner_text()
    assert page.locator(BUTTON).is_disabled()


def test_without_javascript_the_page_says_so(bare_tab):
    page = bare_tab(java_script_enabled=False)
    assert page.locator(BUTTON).is_hidden()
    assert "Ohne JavaScript" in page.locator("form.price-form").inner_text()


def test_coarse_clock_is_not_read_too_precisely(bare_tab):
    """Wie in Firefox und Safari: Die Uhr des Browsers kennt nur ganze Millisekunden."""
    page = bare_tab(
        "const now = performance.now.bind(performance); performance.now = () => Math.floor(now());"
    )
    page.locator(BUTTON).click()
    wait_for_price(page)
    said = page.locator(STATUS).inner_text()
    assert re.search(r"gerechnet in (unter 1|[1-9]\d*) ms", said), said
