"""Der Preisrechner antwortet Programmen wie Menschen und ist ohne Maus zu bedienen."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import gradio_client
import httpx
import joblib
import pandas as pd
import pytest

import process
from contract import JSON, free_port, stone
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import EXAMPLE, FEATURES, MAX_BODY_BYTES

# Listen öffnen und schließen sich mit einer Blende; schneller drückt auch kein Mensch.
KEY_PAUSE_MS = 300
# Gradio 6.31 setzt das Kreuz einer Ablehnung als Schaltfläche in eine Schaltfläche.
GRADIO_NESTS_BUTTONS = "nested-interactive"


def serve(port: int, **env: str) -> process.Service:
    """Startet den Preisrechner als Prozess."""
    command = ["python", "-m", "uvicorn", "examples.gradio_app.app:app", "--port", port]
    return process.serve(command, f"http://127.0.0.1:{port}/health/ready", timeout=60, env=env)


def connect(url: str) -> gradio_client.Client:
    return gradio_client.Client(url, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    port, temporary = free_port(), tmp_path_factory.mktemp("temporary")
    service = serve(port, TMPDIR=str(temporary))
    yield f"http://127.0.0.1:{port}"
    service.stop()
    assert not list(temporary.iterdir()), "Der Dienst ließ etwas im Ordner für Vorläufiges liegen"


@pytest.fixture(scope="module")
def client(url):
    client = connect(url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def price_of():
    """Der Preis des bloßen Modells, wie der Rechner ihn schreibt."""
    pipeline = joblib.load(ARTIFACTS / "price_model.joblib")

    def price(question: dict) -> str:
        dollars = pipeline.predict(pd.DataFrame([question]))[0]
        return f"{dollars:,.0f} US-Dollar".replace(",", "\u202f")

    return price


def test_page_function_is_an_endpoint_that_names_its_parameters(client, price_of):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/calculate", "/predict"}
    parameters = endpoints["/calculate"]["parameters"]
    assert [parameter["parameter_name"] for parameter in parameters] == list(FEATURES)
    text, picture = client.predict(**EXAMPLE, api_name="/calculate")
    assert price_of(EXAMPLE) in text
    assert price_of(EXAMPLE) in re.search('aria-label="([^"]+)"', picture)[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"carat": -1}, "carat: Die Zahl muss größer als 0 sein."),
        ({"cut": "<img src=x>"}, "cut: Erlaubt ist: Fair, Good, Very Good, Premium, Ideal."),
        ({"carat": "0.7"}, "carat: Hier muss eine Zahl stehen."),
        ({"x": 4.0}, "z: Ein Stein dieser Maße wiegt etwa 0,49 Karat."),
    ],
)
def test_bad_value_is_refused_with_field_and_german_reason(client, changes, message):
    with pytest.raises(gradio_client.exceptions.ValidationError) as refused:
        client.predict(**(EXAMPLE | changes), api_name="/calculate")
    assert message in str(refused.value)
    assert "<" not in str(refused.value)


# Am Regler vorbei: NaN ist weder zu klein noch zu groß.
@pytest.mark.parametrize("changes", [{"carat": -1.0}, {"depth": float("nan")}], ids=str)
def test_no_event_of_the_page_gives_a_price_for_nonsense(url, changes):
    config = httpx.get(f"{url}/config").json()
    events = [event["id"] for event in config["dependencies"] if len(event["inputs"]) == 9]
    assert len(events) == 3, "Schaltfläche, Laden der Seite, Beispiele"
    for number in events:
        session = f"unsinn{number}"
        body = {"data": list(stone(**changes).values()), "fn_index": number}
        content = json.dumps(body | {"session_hash": session})
        joined = httpx.post(f"{url}/gradio_api/queue/join", content=content, headers=JSON)
        if joined.status_code == 422:
            continue
        address = f"{url}/gradio_api/queue/data?session_hash={session}"
        with httpx.stream("GET", address, timeout=10) as stream:
            done = next(line for line in stream.iter_lines() if '"process_completed"' in line)
        message = json.loads(done.removeprefix("data: "))
        assert message["success"] is False
        assert "US-Dollar" not in done and "Traceback" not in done


@pytest.mark.parametrize("body", ["[1]", "[Infinity]", '{"data": NaN}', '"data"', "{}"])
def test_what_is_no_question_is_refused_not_broken(url, body):
    response = httpx.post(f"{url}/gradio_api/call/predict", content=body, headers=JSON)
    assert response.status_code == 422 and "data" in response.json()["detail"]


def test_questions_asked_together_get_their_own_answers(url, price_of):
    questions = [stone(carat=round(0.3 + number / 20, 2)) for number in range(24)]

    def ask(share: list[dict]) -> list[str]:
        # Je Thread ein Client: mehrere Aufträge in einem brechen manchmal ab (gradio#9968).
        client = connect(url)
        texts = [client.predict(question, api_name="/predict") for question in share]
        client.close()
        return [f"{text['price_usd']:,.0f} US-Dollar".replace(",", "\u202f") for text in texts]

    shares = [questions[start::8] for start in range(8)]
    with ThreadPoolExecutor(8) as together:
        answers = list(together.map(ask, shares))
    assert answers == [[price_of(question) for question in share] for share in shares]
    assert len(set(chain(*answers))) > 12


def test_model_is_loaded_once_for_many_questions(tmp_path):
    folder = shutil.copytree(ARTIFACTS, tmp_path / "artifacts")
    port = free_port()
    service = serve(port, PRICE_MODEL_DIR=str(folder))
    try:
        # Wer jetzt noch einmal laden wollte, fände nichts mehr.
        shutil.rmtree(folder)
        client = connect(f"http://127.0.0.1:{port}")
        for _ in range(5):
            assert client.predict(EXAMPLE, api_name="/predict")["price_usd"] > 0
            assert "US-Dollar" in client.predict(**EXAMPLE, api_name="/calculate")[0]
        client.close()
    finally:
        service.stop()


def test_start_without_model_names_the_remedy(tmp_path):
    with pytest.raises(process.ProcessError, match="make model"):
        serve(free_port(), PRICE_MODEL_DIR=str(tmp_path))


def test_server_takes_no_files_and_shows_no_foreign_page(url):
    upload = httpx.post(f"{url}/gradio_api/upload", files={"files": ("x.txt", b"Hallo")})
    assert upload.status_code == 413
    question = f"{url}/gradio_api/call/predict"
    assert httpx.post(question, content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413
    assert httpx.get(f"{url}/docs").status_code == 404


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def tab(request, browser):
    """Ein deutsches Fenster in einer Breite und einem Farbschema."""
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, locale="de-DE"
    )
    yield context.new_page()
    context.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="de-DE")
    yield context.new_page()
    context.close()


def visit(page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("#result h2")


def wait_for_text(page, text: str) -> None:
    page.locator("#result", has_text=text).wait_for()


def submit(page, label: str, typed: str, expected) -> None:
    """Tippt und drückt wie ein Mensch noch einmal, wenn sich nichts tut.

    Gradio übernimmt Getipptes mit Verzögerung, und ein Feld, das eben erst erschienen ist,
    bekommt noch einmal seinen Anfangswert.
    """
    for _ in range(20):
        page.get_by_label(label).first.fill(typed)
        page.get_by_role("button", name="Preis schätzen").click()
        page.wait_for_timeout(500)
        if expected.count():
            break
    expected.wait_for()


def violations(page) -> set[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return {violation["id"] for violation in found}


def test_first_view_shows_a_price_without_foreign_requests_or_barriers(tab, url, price_of):
    problems = []

    def check_request(request):
        if not request.url.startswith((url, "data:", "blob:")):
            problems.append(f"fremde Anfrage an {request.url}")

    def check_console(message):
        if message.type in ("error", "warning"):
            problems.append(f"Konsole: {message.text}")

    tab.on("request", check_request)
    tab.on("console", check_console)
    tab.on("pageerror", lambda error: problems.append(f"Skriptfehler: {error}"))
    visit(tab, url)
    wait_for_text(tab, price_of(EXAMPLE))
    assert not violations(tab)
    tab.get_by_role("button", name="Maße").click()
    tab.get_by_label("Höhe (mm)").first.wait_for()
    assert not violations(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") == tab.viewport_size["width"]
    picture = tab.get_by_role("img", name="Histogramm").bounding_box()
    assert picture["x"] + picture["width"] <= tab.viewport_size["width"]
    assert not problems, "\n".join(problems)


def test_page_speaks_german_to_eyes_and_ears(page, url):
    visit(page, url)
    page.get_by_role("button", name="Maße").click()
    page.get_by_label("Höhe (mm)").first.wait_for()
    spoken = page.locator("[aria-label], [title], [alt]").evaluate_all(
        "all => all.map(e => e.ariaLabel ?? (e.title || e.alt))"
    )
    text = page.locator("body").inner_text() + "\n" + "\n".join(spoken)
    english = r"\b(the|for|of|number|slider|range|reset|examples?|error|empty|label|use|with)\b"
    assert page.evaluate("document.documentElement.lang") == "de"
    assert "Reinheit" in spoken
    assert page.locator("footer").count() == 0, "Die Seiten hinter der Fußzeile sind englisch"
    assert not re.findall(english, text, re.IGNORECASE)
    assert page.locator("#result").get_attribute("aria-live") == "polite"


def test_keyboard_alone_leads_to_a_price(page, url, price_of):
    visit(page, url)
    seen = []

    def press(key: str) -> None:
        page.keyboard.press(key)
        page.wait_for_timeout(KEY_PAUSE_MS)

    def tab_to(name: str, kind: str) -> None:
        for _ in range(20):
            press("Tab")
            here = page.evaluate(
                """() => {
                    const element = document.activeElement;
                    const style = getComputedStyle(element);
                    const name = element.ariaLabel ?? element.innerText;
                    const width = parseInt(style.outlineWidth);
                    return [name.trim(), element.type, style.outlineStyle, width];
                }"""
            )
            seen.append(here)
            assert here[2] == "solid" and here[3] >= 2, f"Der Fokus ist unsichtbar: {here}"
            if here[:2] == [name, kind]:
                return
        pytest.fail(f"Mit Tab nicht erreichbar: {name}; besucht: {seen}")

    def choose(label: str, keys: str, grade: str) -> None:
        tab_to(label, "text")
        press(keys)
        press("Enter")
        taken = "([at, grade]) => document.querySelector(at).value.startsWith(grade)"
        page.wait_for_function(taken, arg=[f"input[aria-label='{label}']", grade])

    tab_to("Gewicht (Karat)", "range")
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(KEY_PAUSE_MS)
    choose("Schliff", "ArrowUp", "Premium")
    choose("Reinheit", "ArrowDown", "VS1")
    tab_to("Preis schätzen", "submit")
    page.keyboard.press("Enter")
    wait_for_text(page, "für 1,00 Karat, Premium, E, VS1")
    measures = {"x": 6.42, "y": 6.43, "z": 3.97}
    wait_for_text(page, price_of(stone(carat=1.0, cut="Premium", clarity="VS1", **measures)))


def test_typed_measures_that_contradict_the_weight_are_refused_politely(page, url):
    visit(page, url)
    page.get_by_role("button", name="Maße").click()
    message = page.locator(".validation-error").first
    submit(page, "Länge (mm)", "4", message)
    # Die Meldung wird eingeblendet; auf halbem Weg fehlt ihr der Kontrast.
    page.wait_for_function("() => !document.getAnimations().length")
    assert message.inner_text().strip() == "Ein Stein dieser Maße wiegt etwa 0,49 Karat."
    assert message.locator("..").get_attribute("aria-live") == "polite"
    number = page.get_by_label("Gewicht (Karat)").first.bounding_box()
    assert number["y"] >= message.bounding_box()["y"] + message.bounding_box()["height"]
    assert violations(page) == {GRADIO_NESTS_BUTTONS}


@pytest.mark.parametrize(("typed", "kept"), [("9", "5.01"), ("-1", "0.2"), ("", "0.2")])
def test_typed_weight_outside_the_slider_is_moved_to_its_end(page, url, typed, kept):
    visit(page, url)
    text = f"für {float(kept):.2f} Karat".replace(".", ",")
    submit(page, "Gewicht (Karat)", typed, page.locator("#result", has_text=text))
    assert page.get_by_label("Gewicht (Karat)").first.input_value() == kept
    assert page.locator(".validation-error").count() == 0


def test_example_fills_in_all_values_and_calculates(page, url):
    visit(page, url)
    page.get_by_role("button", name="Großer Stein").click()
    wait_for_text(page, "für 2,01 Karat, Very Good, H, VS2")
    page.get_by_role("button", name="Maße").click()
    numbers = page.locator("input[type=number]")
    numbers.nth(5).wait_for()
    values = [float(value) for value in numbers.evaluate_all("all => all.map(e => e.value)")]
    assert values == [2.01, 62.1, 57.0, 8.02, 8.06, 4.99]
