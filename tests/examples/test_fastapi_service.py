"""Der FastAPI-Dienst hält sein OpenAPI-Dokument ein und wehrt sich."""

import importlib
import runpy
import sys
import threading
import time
from collections.abc import Callable

import httpx
import pytest
import schemathesis
from fastapi.testclient import TestClient
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

import process
from contract import free_port
from examples.fastapi_service import app as service
from examples.fastapi_service import load
from examples.fastapi_service.app import app
from examples.price_model.predict import load_model
from examples.price_model.schema import EXAMPLE, MAX_BODY_BYTES, REFUSALS

KEY = {"X-API-Key": "k" * 16}
MANY = "1000000/minute"
with pytest.MonkeyPatch.context() as patch:
    # Der geschützte Dienst verlangt seinen Schlüssel schon beim Import.
    patch.setenv("PRICE_API_KEY", KEY["X-API-Key"])
    protected = importlib.import_module("examples.fastapi_service.protected")


def wait_until(client: TestClient, true_of: Callable[[httpx.Response], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true_of(answer := client.get("/health/ready")):
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)


def wait_until_ready(client: TestClient) -> None:
    wait_until(client, lambda answer: answer.status_code == 200)


@pytest.fixture(scope="module")
def client():
    with TestClient(app) as client:
        wait_until_ready(client)
        yield client


@pytest.fixture(scope="module")
def served(request):
    """Beide Dienste als Prozess: schemathesis soll auch den HTTP-Server treffen."""
    name, port = request.param, free_port()
    command = ["python", "-m", "uvicorn", f"examples.fastapi_service.{name}:app", "--port", port]
    url = f"http://127.0.0.1:{port}"
    service = process.serve(
        command, f"{url}/health/ready", env={"PRICE_API_KEY": KEY["X-API-Key"], "PRICE_LIMIT": MANY}
    )
    yield url
    service.stop()


@pytest.mark.parametrize("served", ["app"], indirect=True)
@schemathesis.openapi.from_dict(app.openapi()).parametrize()
def test_every_answer_is_the_one_documented(served, case):
    case.call_and_validate(base_url=served)


@pytest.mark.parametrize("served", ["protected"], indirect=True)
@schemathesis.openapi.from_dict(protected.app.openapi()).parametrize()
def test_every_guarded_answer_is_the_one_documented(served, case):
    case.call_and_validate(base_url=served, headers=KEY)


def test_service_is_live_before_it_is_ready(monkeypatch):
    may_load = threading.Event()
    monkeypatch.setattr(
        service, "load_model", lambda engine: may_load.wait() and load_model(engine)
    )
    with TestClient(app) as client:
        assert client.get("/health/live").status_code == 200
        early = client.get("/health/ready")
        assert early.status_code == 503
        assert early.json()["detail"][0]["reason"] == "Das Modell wird noch geladen."
        may_load.set()
        wait_until_ready(client)


def test_model_is_loaded_once_for_many_questions(monkeypatch):
    loads = []
    monkeypatch.setattr(service, "load_model", lambda engine: loads.append(1) or load_model(engine))
    with TestClient(app) as client:
        wait_until_ready(client)
        for _ in range(5):
            assert client.post("/predict", json=EXAMPLE).status_code == 200
    assert len(loads) == 1


def test_service_without_model_lives_and_names_the_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(service, "load_model", lambda engine: load_model(engine, tmp_path))
    with TestClient(app) as client:
        wait_until(client, lambda answer: "wird noch geladen" not in answer.text)
        answers = [client.get("/health/ready"), client.post("/predict", json=EXAMPLE)]
        assert client.get("/health/live").status_code == 200
    for answer in answers:
        assert answer.status_code == 503
        assert "make model" in answer.json()["detail"][0]["reason"]
        assert answer.headers["Retry-After"] == "1"


def test_body_without_announced_length_is_limited_too(client):
    chunks = (b" " * 65_536 for _ in range(2 + MAX_BODY_BYTES // 65_536))
    answer = client.post("/predict", content=chunks, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "256 KiB" in answer.json()["detail"][0]["reason"]


def test_a_crash_is_answered_in_the_form_of_the_contract(client, monkeypatch):
    def crash(stones):
        raise RuntimeError("geheim")

    monkeypatch.setattr(client.app.state.model, "predict", crash, raising=False)
    # Ohne `with`: Ein zweiter `lifespan` würde das Modell neu laden.
    careless = TestClient(client.app, raise_server_exceptions=False)
    answer = careless.post("/predict", json=EXAMPLE)
    assert answer.status_code == 500
    assert answer.json()["detail"] == [dict(zip(("field", "reason"), REFUSALS[500], strict=True))]
    # uvicorn schließt danach.
    assert answer.headers["Connection"] == "close"


def test_document_describes_every_field_in_german_with_an_example(client):
    stone = client.get("/openapi.json").json()["components"]["schemas"]["Stone"]
    assert stone["example"] == EXAMPLE
    assert all(field["description"] for field in stone["properties"].values())
    assert "Karat" in stone["properties"]["carat"]["description"]


def test_documentation_page_loads_nothing_foreign(client):
    page = client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text


@pytest.fixture(scope="module")
def guarded():
    with TestClient(protected.app) as client:
        wait_until_ready(client)
        yield client


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "falsch"}, {"X-API-Key": ""}])
def test_wrong_key_is_refused(guarded, headers):
    answer = guarded.post("/predict", json=EXAMPLE, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["detail"][0]["field"] == "X-API-Key"


def test_too_many_questions_are_throttled(guarded, monkeypatch):
    monkeypatch.setattr(protected, "LIMIT", parse("2/minute"))
    answers = [guarded.post("/predict", json=EXAMPLE, headers=KEY) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60


@pytest.mark.parametrize("body", [b"{", b'{"cut": "\xff"}', b"[" * 100_000])
def test_unreadable_questions_need_the_key_and_are_throttled_too(guarded, monkeypatch, body):
    monkeypatch.setattr(protected, "LIMIT", parse("3/minute"))
    monkeypatch.setattr(protected, "limiter", MovingWindowRateLimiter(MemoryStorage()))
    typed = {"Content-Type": "application/json"}
    sent = [{}, KEY, KEY, KEY, KEY]
    answers = [guarded.post("/predict", content=body, headers=typed | key) for key in sent]
    assert [answer.status_code for answer in answers] == [401, 400, 400, 400, 429]
    assert answers[-1].headers["Retry-After"]


def test_a_wrong_stone_counts_once(guarded, monkeypatch):
    monkeypatch.setattr(protected, "LIMIT", parse("4/minute"))
    wrong = {**EXAMPLE, "carat": -1}
    answers = [guarded.post("/predict", json=wrong, headers=KEY) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [422, 422, 422, 422, 429]


@pytest.mark.parametrize(
    ("page", "status"), [("http://127.0.0.1:8000", 200), ("http://127.0.0.1:1", 400)]
)
def test_only_the_named_page_may_ask(guarded, page, status):
    ask = {"Origin": page, "Access-Control-Request-Method": "POST"}
    assert guarded.options("/predict", headers=ask).status_code == status


def test_only_the_named_page_sees_a_crash(guarded, monkeypatch):
    def crash(stones):
        raise RuntimeError

    monkeypatch.setattr(guarded.app.state.model, "predict", crash, raising=False)
    careless = TestClient(guarded.app, raise_server_exceptions=False)
    for page, seen in ((protected.PAGE, protected.PAGE), ("http://127.0.0.1:1", None)):
        answer = careless.post("/predict", json=EXAMPLE, headers=KEY | {"Origin": page})
        assert answer.status_code == 500
        assert answer.headers.get("Access-Control-Allow-Origin") == seen


@pytest.fixture
def begin(monkeypatch):
    """Führt das Modul noch einmal aus, wie beim Start; die Umgebung nennt `begin(NAME=…)`."""

    def run(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        runpy.run_path(protected.__file__)

    return run


# `SystemExit` mit einem Satz heißt: Exitcode 1 und auf stderr nur dieser Satz, kein Traceback.
def test_start_without_key_is_refused(begin):
    with pytest.raises(SystemExit, match="PRICE_API_KEY fehlt"):
        begin(PRICE_API_KEY="")


def test_unreadable_limit_is_a_sentence(begin):
    with pytest.raises(SystemExit, match="PRICE_LIMIT ist unverständlich"):
        begin(PRICE_API_KEY="k" * 16, PRICE_LIMIT="unsinn")


@pytest.mark.parametrize("url", ["foo", "http://127.0.0.1:viele/predict"])
def test_mistyped_address_is_a_sentence(monkeypatch, url):
    monkeypatch.setattr(sys, "argv", ["load", url])
    with pytest.raises(SystemExit, match="Keine Messung: Erwartet wird eine Adresse"):
        load.main()


@pytest.mark.parametrize(("length", "starts"), [(15, False), (16, True)])
def test_key_has_at_least_sixteen_characters(begin, length, starts):
    if starts:
        begin(PRICE_API_KEY="k" * length)
    else:
        with pytest.raises(SystemExit, match="kürzer als 16 Zeichen"):
            begin(PRICE_API_KEY="k" * length)
