"""Der Flask-Dienst antwortet wie der mit FastAPI, stürzt nicht ab und geht höflich."""

import json
import socket
import sys
import textwrap
import threading
import time

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given

import guard
import process
from contract import (
    FLASK,
    GUNICORN,
    INVALID,
    INVALID_BODIES,
    JSON,
    NOT_FINITE,
    VALID,
    free_port,
    stone,
)
from examples.fastapi_service.app import app as fastapi_app
from examples.flask_service import app as service
from examples.flask_service import naive, serve
from examples.flask_service.app import create_app
from examples.flask_service.validate import check
from examples.price_model.predict import load_model
from examples.price_model.schema import (
    EXAMPLE,
    MAX_BODY_BYTES,
    MAX_NUMBER,
    REASONS,
    InvalidStoneError,
    parse,
)
from test_contract import PROPERTIES, QUESTIONS

SERVERS = {
    "waitress": FLASK,
    "gunicorn": [*GUNICORN, "--bind", "127.0.0.1:{port}"],
    "gunicorn with preload": [*GUNICORN, "--preload", "--bind", "127.0.0.1:{port}"],
}
BODIES = {
    name: json.dumps(payload).encode()
    for name, payload in (
        VALID | {name: question for name, (question, _) in (INVALID | NOT_FINITE).items()}
    ).items()
} | {name: body for name, (body, _) in INVALID_BODIES.items()}


@pytest.fixture
def client():
    return create_app().test_client()


@pytest.fixture(scope="module")
def fastapi():
    with TestClient(fastapi_app) as client:
        deadline = time.monotonic() + 20
        while client.get("/health/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield client


@pytest.fixture
def without_model(monkeypatch, tmp_path):
    """Kein Modell da; der Zwischenspeicher gehört sonst allen Tests dieses Prozesses."""
    service.shared_model.cache_clear()
    monkeypatch.setattr(service, "load_model", lambda engine: load_model(engine, tmp_path))


@pytest.mark.parametrize("name", BODIES)
def test_answer_is_the_one_of_fastapi(client, fastapi, name):
    ours = client.post("/predict", data=BODIES[name], headers=JSON)
    theirs = fastapi.post("/predict", content=BODIES[name], headers=JSON)
    assert (ours.status_code, ours.json) == (theirs.status_code, theirs.json())


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/predict"), ("GET", "/nirgends"), ("GET", "/health/live")]
)
def test_other_answers_are_those_of_fastapi(client, fastapi, method, path):
    ours, theirs = client.open(path, method=method), fastapi.request(method, path)
    assert (ours.status_code, ours.json) == (theirs.status_code, theirs.json())


def test_body_without_content_type_is_no_json_as_in_fastapi(client, fastapi):
    body = json.dumps(EXAMPLE)
    ours, theirs = client.post("/predict", data=body), fastapi.post("/predict", content=body)
    assert (ours.status_code, ours.json) == (theirs.status_code, theirs.json())


@PROPERTIES
@given(payload=QUESTIONS)
def test_hand_written_validation_agrees_with_the_schema(payload):
    assert verdict(check, payload) == verdict(parse, payload)


def verdict(validate, payload):
    try:
        return [stone.model_dump() for stone in validate(payload)]
    except InvalidStoneError as error:
        return error.problems


def test_huge_integer_is_too_large_and_no_crash(client):
    # float(10**400) wäre ein OverflowError.
    answer = client.post("/predict", json=stone(x=10**400))
    assert answer.status_code == 422
    assert answer.json["detail"] == [{"field": "x", "reason": REASONS["less_than_equal"]}]
    assert str(MAX_NUMBER) in REASONS["less_than_equal"]


def test_crash_is_a_german_sentence_without_traceback(client, monkeypatch, caplog):
    def crash(stones):
        raise RuntimeError("geheim")

    monkeypatch.setattr(service.shared_model(), "predict", crash)
    answer = client.post("/predict", json=EXAMPLE)
    assert answer.status_code == 500 and answer.is_json
    assert answer.json["detail"] == [
        {"field": "service", "reason": "Im Dienst ist ein Fehler aufgetreten."}
    ]
    assert "geheim" not in answer.text and "geheim" in caplog.text


def test_wrong_method_names_the_allowed_one(client):
    assert "POST" in client.get("/predict").headers["Allow"]


def test_umlauts_stay_readable(client):
    assert "größer" in client.post("/predict", json=stone(x=0)).text


def test_model_is_loaded_once_for_many_applications(monkeypatch):
    loads = []
    monkeypatch.setattr(service, "load_model", lambda engine: loads.append(1) or load_model(engine))
    service.shared_model.cache_clear()
    clients = [create_app().test_client() for _ in range(3)]
    assert [client.post("/predict", json=EXAMPLE).status_code for client in clients] == [200] * 3
    assert len(loads) == 1


def test_service_without_model_lives_and_recovers(without_model, monkeypatch):
    client = create_app().test_client()
    assert client.get("/health/live").status_code == 200
    for answer in (client.get("/health/ready"), client.post("/predict", json=EXAMPLE)):
        assert answer.status_code == 503
        assert answer.json["detail"][0]["field"] == "model"
        assert "make model" in answer.json["detail"][0]["reason"]
        assert answer.headers["Retry-After"] == "1"
    monkeypatch.setattr(service, "load_model", load_model)
    assert client.get("/health/ready").status_code == 200


@pytest.fixture(params=SERVERS)
def command(request):
    return SERVERS[request.param]


def start(
    command: list[str], env: dict | None = None, workers: int = 1
) -> tuple[process.Service, str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [part.format(port=port) for part in command]
    return process.serve(command, f"{url}/health/ready", env=env, workers=workers), url


@pytest.fixture(scope="module", params=SERVERS)
def running(request):
    """Jeder Server einmal für die Tests, die ihn nur fragen; gibt seine Adresse."""
    server, url = start(SERVERS[request.param])
    yield url
    server.stop()


def test_server_limits_bodies_without_announced_length(running):
    chunks = (b" " * 65_536 for _ in range(2 + MAX_BODY_BYTES // 65_536))
    answer = httpx.post(f"{running}/predict", content=chunks, headers=JSON)
    assert answer.status_code == 413
    assert "256 KiB" in answer.json()["detail"][0]["reason"]


@pytest.mark.parametrize("chunked", [False, True])
def test_the_question_after_one_that_was_too_large_is_answered(running, chunked):
    # Mehr, als gunicorn hinter der Grenze der Anwendung noch verwirft.
    body = b" " * (2 * MAX_BODY_BYTES)
    with httpx.Client(base_url=running) as client:
        for _ in range(20):
            content = iter([body]) if chunked else body
            answer = client.post("/predict", content=content, headers=JSON)
            assert answer.status_code == 413
            assert client.post("/predict", json=EXAMPLE).status_code == 200


def test_a_busy_port_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = ["python", "-m", "examples.flask_service.serve", "--port", port]
        with pytest.raises(process.ProcessError, match=f"Port {port} lässt sich") as refused:
            process.output(command)
    assert "Traceback" not in str(refused.value)


def test_impossible_port_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["serve", "--port", "99999"])
    # waitress lauschte sonst still auf Port 34463.
    monkeypatch.setattr(serve.waitress, "serve", lambda *_, **__: pytest.fail("gestartet"))
    with pytest.raises(SystemExit) as ended:
        serve.main()
    assert ended.value.code == 2
    assert "99999 ist kein Port von 1 bis 65535." in capsys.readouterr().err


@pytest.mark.parametrize("running", ["waitress"], indirect=True)
def test_waitress_refuses_to_read_what_is_far_too_large(running):
    answer = httpx.post(f"{running}/predict", content=b" " * 5_000_000, headers=JSON)
    assert answer.status_code == 413
    assert "waitress" in answer.text


@pytest.fixture
def slow(tmp_path):
    """Umgebung, in der jede Vorhersage dauert und eine Datei anlegt, sobald sie beginnt."""
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
            import pathlib, sys, time
            sys.path.append({str(process.ROOT)!r})
            from examples.price_model.predict import PriceModel
            ask = PriceModel.predict
            def predict(self, stones):
                pathlib.Path({str(tmp_path / "begun")!r}).touch()
                time.sleep(1)
                return ask(self, stones)
            PriceModel.predict = predict
        """),
        encoding="utf-8",
    )
    return {"PYTHONPATH": str(tmp_path)}, tmp_path / "begun"


def ask_and_stop(command: list[str], slow: tuple) -> tuple[object, float]:
    """Beendet den Dienst während einer Vorhersage; gibt deren Ausgang und die Dauer zurück."""
    env, begun = slow
    server, url = start(command, env)
    outcome = []

    def ask():
        try:
            outcome.append(httpx.post(f"{url}/predict", json=EXAMPLE, timeout=20).status_code)
        except httpx.TransportError as error:
            outcome.append(type(error))

    asking = threading.Thread(target=ask)
    asking.start()
    deadline = time.monotonic() + 20
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    started = time.monotonic()
    server.stop()
    seconds = time.monotonic() - started
    asking.join()
    return outcome[0], seconds


def test_running_answer_is_finished_before_the_server_stops(command, slow):
    outcome, seconds = ask_and_stop(command, slow)
    assert outcome == 200
    # Danach beendete der Wächter den Prozess mit Gewalt.
    assert seconds < guard.GRACE_SECONDS


def test_waitress_alone_loses_the_running_answer(slow):
    bare = ["python", "-m", "waitress", "--listen", "127.0.0.1:{port}", "--call"]
    outcome, _ = ask_and_stop([*bare, "examples.flask_service.app:create_app"], slow)
    assert outcome is httpx.RemoteProtocolError


@pytest.mark.skipif(sys.platform != "linux", reason="misst Fork unter Linux")
@pytest.mark.parametrize(
    ("hook", "threads", "answers"),
    [("when_ready", 1, False), ("when_ready", 4, True), ("post_worker_init", 1, True)],
)
def test_warming_up_before_the_fork_paralyses_single_threaded_workers(
    tmp_path, hook, threads, answers
):
    config = tmp_path / "conf.py"
    config.write_text(
        textwrap.dedent(f"""
            from examples.flask_service.app import shared_model
            from examples.flask_service.gunicorn_conf import *
            from examples.price_model.schema import EXAMPLE, Stone

            threads, timeout = {threads}, 3

            def {hook}(_):
                shared_model().predict([Stone(**EXAMPLE)])
        """),
        encoding="utf-8",
    )
    # Mit zwei Threads auch auf einem Rechner mit einem Kern.
    env = {"PRICE_ENGINE": "sklearn", "OMP_NUM_THREADS": "2", "PYTHONPATH": str(process.ROOT)}
    command = ["python", "-m", "gunicorn", "--config", config, "--preload"]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = process.serve([*command, "--bind", f"127.0.0.1:{port}"], f"{url}/health/live", env=env)
    try:
        assert httpx.post(f"{url}/predict", json=EXAMPLE, timeout=20).is_success
        assert answers
    except httpx.TransportError:
        assert not answers
    finally:
        server.stop()


@pytest.mark.parametrize(
    "body",
    [json.dumps(stone(carat=None)), json.dumps(stone(clarity="VS9")), "[" * 100_000],
    ids=["missing", "unknown grade", "deep"],
)
def test_naive_version_crashes_where_the_service_explains(client, body):
    broken = naive.app.test_client().post("/predict", data=body, headers=JSON)
    assert (broken.status_code, broken.mimetype) == (500, "text/html")
    answer = client.post("/predict", data=body, headers=JSON)
    assert answer.status_code in (400, 422) and answer.is_json


@pytest.mark.parametrize("carat", [-5, float("nan"), "0.7"])
def test_naive_version_prices_nonsense(client, carat):
    body = json.dumps(stone(carat=carat))
    assert naive.app.test_client().post("/predict", data=body, headers=JSON).json["price"] > 0
    assert client.post("/predict", data=body, headers=JSON).status_code == 422


@pytest.mark.skipif(sys.platform != "linux", reason="misst PSS und Fork unter Linux")
def test_preloaded_workers_share_their_memory():
    memory = {}
    for name in ("gunicorn", "gunicorn with preload"):
        server, url = start([*SERVERS[name], "--workers", "3"], workers=3)
        try:
            for _ in range(100):
                httpx.post(f"{url}/predict", json=EXAMPLE).raise_for_status()
            command = ["python", "-m", "examples.flask_service.memory", url.rsplit(":", 1)[1]]
            memory[name] = json.loads(process.output(command))
        finally:
            server.stop()
    alone, shared = memory.values()
    assert alone["private"] > 2 * shared["private"]
    assert alone["total"] > 1.3 * shared["total"]


@pytest.mark.skipif(sys.platform != "linux", reason="misst PSS und Fork unter Linux")
def test_only_models_with_threads_of_their_own_hang_after_a_fork():
    assert json.loads(process.output(["python", "-m", "examples.flask_service.fork"])) == {
        "ONNX, ein Thread": "antwortet",
        "ONNX, eigene Threads": "hängt",
        "scikit-learn": "antwortet",
        "scikit-learn, vorher aufgewärmt": "hängt",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Aufruf: python -m examples.flask_service.memory parts | PORT"),
        (["viele"], "Aufruf: python -m examples.flask_service.memory parts | PORT"),
        (["1"], "Auf Port 1 läuft kein Dienst mit Workerprozessen."),
    ],
)
def test_memory_of_nothing_is_one_sentence(arguments, message):
    with pytest.raises(process.ProcessError) as refused:
        process.output(["python", "-m", "examples.flask_service.memory", *arguments])
    assert str(refused.value) == f"Befehl endete mit 1:\n{message}"


@pytest.mark.skipif(sys.platform != "linux", reason="misst PSS und Fork unter Linux")
def test_fork_without_a_model_ends_with_the_remedy(tmp_path):
    env = {"PRICE_MODEL_DIR": str(tmp_path)}
    with pytest.raises(process.ProcessError, match="Zuerst ausführen: make model") as refused:
        process.output(["python", "-m", "examples.flask_service.fork"], env=env)
    assert "Traceback" not in str(refused.value)
