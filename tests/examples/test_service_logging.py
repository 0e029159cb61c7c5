"""Das Log beantwortet Fragen, verrät niemanden und kostet keine Antwort."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from logging.handlers import RotatingFileHandler
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

import process
from contract import free_port
from examples.fastapi_service.app import app
from examples.price_model.schema import EXAMPLE, FEATURES
from examples.service_logging import forgery, journal, middleware, query, shared_file
from examples.service_logging.journal import DayFile, JsonFormatter, read

SECRET = "Mustermann"
LOGGED = "examples.service_logging.logged:app"


def serve(
    port: int, folder: Path, app: str = LOGGED, workers: int = 1, **env: str
) -> process.Service:
    command = ["python", "-m", "uvicorn", app, "--port", str(port), "--workers", str(workers)]
    url = f"http://127.0.0.1:{port}/health/ready"
    env = {"PRICE_LOG": str(folder)} | env
    return process.serve(command, url, timeout=60, env=env, workers=workers)


def wait_for_model(client: TestClient) -> None:
    """Wartet, bis der Dienst in diesem Prozess sein Modell hat."""
    deadline = time.monotonic() + 20
    while client.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Der Dienst mit zwei Workern, Zugriffslog und Health-Checks im Log: (Client, Ordner)."""
    folder, port = tmp_path_factory.mktemp("log"), free_port()
    old = datetime.now(UTC).date() - timedelta(days=journal.KEPT_DAYS + 1)
    (folder / f"{old}.jsonl").write_text("{}\n")
    running = serve(
        *(port, folder, LOGGED, 2),
        **{"PRICE_LOG_LEVEL": "DEBUG", "PRICE_ACCESS_LEVEL": "INFO", "PRICE_LOG_KEY": "k" * 32},
    )
    assert not (folder / f"{old}.jsonl").exists()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client, folder
    running.stop()


@pytest.fixture
def handler(tmp_path):
    """Ein Handler auf einen leeren Ordner, am Logger des Dienstes."""
    own = logging.getLogger(journal.LOGGER)
    before = own.handlers, own.propagate, own.level
    made = DayFile(tmp_path)
    made.setFormatter(JsonFormatter())
    own.handlers, own.propagate = [made], False
    own.setLevel("DEBUG")
    yield made
    own.handlers, own.propagate = before[:2]
    own.setLevel(before[2])


@pytest.fixture
def wrapped(handler):
    """Der Dienst mit der Schicht, im selben Prozess."""
    with TestClient(middleware.RequestLog(app)) as client:
        wait_for_model(client)
        yield client


def asked(client, payload=EXAMPLE, **headers):
    identity = str(uuid.uuid4())
    answer = client.post("/predict", json=payload, headers={"X-Request-ID": identity} | headers)
    return identity, answer


def test_one_question_leaves_a_request_and_a_prediction(service):
    client, folder = service
    identity, answer = asked(client)
    assert answer.headers["X-Request-ID"] == identity
    access, request, prediction = query.trace(folder, identity)
    assert (access["event"], access["route"], access["status"]) == (
        "uvicorn.access",
        "/predict",
        200,
    )
    assert request["event"] == "request" and request["level"] == "INFO"
    assert request["model_version"] == prediction["model_version"] == answer.json()["model_version"]
    assert request["duration_ms"] > 0 and datetime.fromisoformat(request["time"]).tzinfo
    assert prediction["features"] == EXAMPLE
    assert prediction["price_usd"] == answer.json()["price_usd"]


@pytest.mark.parametrize("sent", ["", "kurz", "max.mustermann@example.org", "a" * 65, 'a"; b' * 5])
def test_strange_request_id_is_replaced(service, sent):
    client, folder = service
    answer = client.post("/predict", json=EXAMPLE, headers={"X-Request-ID": sent})
    given = answer.headers["X-Request-ID"]
    assert uuid.UUID(given).version == 4
    assert len(query.trace(folder, given)) == 3


def test_several_workers_write_whole_lines(service):
    client, folder = service
    batch = [EXAMPLE] * 50
    with ThreadPoolExecutor(8) as pool:
        identities = list(pool.map(lambda _: asked(client, batch)[0], range(60)))
    lines = list(read(folder))
    assert None not in lines
    found = Counter(line["request_id"] for line in lines if line["event"] == "prediction")
    assert {found[identity] for identity in identities} == {50}


def test_nothing_personal_reaches_the_log(service):
    client, folder = service
    headers = {
        **{"X-API-Key": SECRET, "Authorization": f"Bearer {SECRET}", "Cookie": f"name={SECRET}"},
        **{"User-Agent": SECRET, "X-Forwarded-For": "192.0.2.17", "X-Request-ID": SECRET},
    }
    wrong = [EXAMPLE | {SECRET: 1}, EXAMPLE | {"cut": SECRET}, SECRET, [EXAMPLE, {SECRET: 2}]]
    for payload in [EXAMPLE, *wrong]:
        client.post(f"/predict?name={SECRET}", json=payload, headers=headers)
    client.post("/predict", content=f'{{"{SECRET}'.encode(), headers=headers)
    client.get(f"/{SECRET}", headers=headers)
    text = "".join(path.read_text() for path in folder.glob("*.jsonl"))
    assert query.rejected(folder)["unknown"] >= 2
    assert SECRET not in text and "192.0.2" not in text and "127.0.0.1" not in text


def test_health_checks_are_only_for_debugging(service):
    client, folder = service
    client.get("/health/live")
    counts = query.summary(folder)
    assert counts["request DEBUG"] >= 1
    probes = [line for line in read(folder) if line.get("route", "").startswith("/health/")]
    assert {line["level"] for line in probes if line["event"] == "request"} == {"DEBUG"}


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [
        ("/predict", 200, "INFO"),
        ("/predict", 422, "WARNING"),
        ("/predict", 500, "ERROR"),
        ("/health/ready", 200, "DEBUG"),
        ("/health/ready", 503, "DEBUG"),
        ("/health", 200, "DEBUG"),
        ("/metrics", 200, "DEBUG"),
    ],
)
def test_level_follows_the_answer(path, status, level):
    assert logging.getLevelName(middleware.level_of(path, status)) == level


def test_unhandled_error_is_one_line_and_a_polite_answer(tmp_path):
    port = free_port()
    running = serve(port, tmp_path, "examples.service_logging.faulty:app")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            identity, answer = asked(client)
        console = running.log(50)
    finally:
        running.stop()
    assert answer.status_code == 500 and answer.headers["X-Request-ID"] == identity
    assert identity in answer.json()["detail"][0]["reason"]
    error, request = query.trace(tmp_path, identity)
    assert (error["event"], error["level"], error["exception"]) == (
        "unhandled",
        "ERROR",
        "ValueError",
    )
    assert any(frame.endswith(" scaled") for frame in error["stack"])
    assert request["status"] == 500 and request["level"] == "ERROR"
    # Die Meldung von Python zitiert die Eingabe, auch auf der Konsole darf sie nicht stehen.
    assert "Traceback" not in console and "VS2" not in json.dumps([error, request])


def test_lost_folder_costs_no_answer_and_is_reported(wrapped, handler, capsys):
    handler.folder = handler.folder / "missing"
    for _ in range(3):
        assert asked(wrapped)[1].status_code == 200
    assert handler.lost == 3
    assert capsys.readouterr().err.count("lässt sich nicht schreiben") == 1
    handler.folder.mkdir()
    identity, _ = asked(wrapped)
    first, *rest = read(handler.folder)
    assert (first["event"], first["lost"]) == ("lines_lost", 3)
    assert {line["request_id"] for line in rest} == {identity}
    assert handler.lost == 0


def test_old_file_that_stays_costs_no_line(wrapped, handler, capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(journal, "forget", refuse)
    handler.day = None
    assert asked(wrapped)[1].status_code == 200
    assert handler.lost == 0 and len(list(read(handler.folder))) > 0
    assert capsys.readouterr().err.count("Alte Tage lassen sich nicht löschen") == 1


def test_websocket_brings_neither_address_nor_query(tmp_path):
    code = f"""
import logging
from pathlib import Path
from examples.service_logging.journal import configure
configure(Path({str(tmp_path)!r}), "INFO")
message = '%s - "WebSocket %s" 403'
logging.getLogger("uvicorn.error").error(message, "203.0.113.7:1", "/predict?name=Mustermann")
logging.getLogger("uvicorn.error").error("Application startup complete.")
"""
    process.output(["python", "-c", code])
    (line,) = read(tmp_path)
    assert line["message"] == "Application startup complete."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full gibt es nur unter Linux.")
def test_full_disk_costs_no_answer(wrapped, handler):
    (handler.folder / f"{datetime.now(UTC):%Y-%m-%d}.jsonl").unlink()
    (handler.folder / f"{datetime.now(UTC):%Y-%m-%d}.jsonl").symlink_to("/dev/full")
    assert asked(wrapped)[1].status_code == 200
    assert handler.lost == 1


@pytest.mark.skipif(os.name == "nt", reason="Grenzen je Prozess kennt nur Unix.")
def test_half_a_line_spoils_no_other(tmp_path):
    # Die Grenze für Dateien lässt wie eine fast volle Platte nur einen Teil durch.
    code = f"""
import logging, resource
from pathlib import Path
from examples.service_logging.journal import configure
handler = configure(Path({str(tmp_path)!r}), "INFO")
resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
for number in range(8):
    logging.getLogger("price").info("number", extra={{"rows": [{{"number": number}}]}})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logging.getLogger("price").info("number", extra={{"rows": [{{"number": 8}}]}})
"""
    process.output(["python", "-c", code])
    lines = list(read(tmp_path))
    whole = [line for line in lines if line and line["event"] == "number"]
    (gap,) = (line for line in lines if line and line["event"] == "lines_lost")
    assert lines.count(None) == 1 and whole[-1]["number"] == 8
    assert len(whole) + gap["lost"] == 9


def test_a_bug_in_the_log_costs_no_answer(wrapped, handler, monkeypatch):
    monkeypatch.setattr(middleware, "predictions", lambda *bodies: 1 / 0)
    identity, answer = asked(wrapped)
    assert answer.status_code == 200
    (line,) = query.trace(handler.folder, identity)
    assert (line["event"], line["exception"]) == ("not_logged", "ZeroDivisionError")


def test_forged_line_is_only_read_where_text_is_glued_together():
    found = {
        way: [forgery.accepted(line) for line in text.splitlines()]
        for way, text in forgery.written(forgery.CUT).items()
    }
    assert found["text"].count("prediction") == found["json by hand"].count("prediction") == 1
    assert found["formatter"] == ["request"]


@pytest.mark.parametrize(
    "evil", ["\n", "\r", "\x1b[2J", "\u2028", "\x85", '"', "\\", "\x00", "\ud800"]
)
def test_any_value_stays_in_its_line(evil):
    text = forgery.written(f"a{evil}b")["formatter"]
    assert len(text.splitlines()) == 1 and text.isascii() and "\x1b" not in text
    assert json.loads(text)["cut"] == f"a{evil}b"


def test_old_days_disappear_and_new_ones_stay(tmp_path):
    today = date(2026, 3, 1)
    ages = {0, 1, journal.KEPT_DAYS, journal.KEPT_DAYS + 1, 400}
    for age in ages:
        (tmp_path / f"{today - timedelta(days=age)}.jsonl").write_text("{}\n")
    (tmp_path / "notes.txt").write_text("bleibt")
    handler = DayFile(tmp_path)
    handler.setFormatter(JsonFormatter())

    def kept_after_event(day: date) -> set[int]:
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()
        event = {"name": journal.LOGGER, "msg": "request", "levelname": "INFO", "created": noon}
        handler.handle(logging.makeLogRecord(event))
        return {(today - date.fromisoformat(path.stem)).days for path in tmp_path.glob("*.jsonl")}

    assert kept_after_event(today) == {0, 1, journal.KEPT_DAYS}
    # Das erste Ereignis des nächsten Tages löscht den nächsten, ohne Neustart.
    assert kept_after_event(today + timedelta(days=1)) == {-1, 0, 1}
    assert (tmp_path / "notes.txt").exists()


def test_pseudonym_needs_the_key_and_changes_daily():
    first = middleware.pseudonym("192.0.2.17", "2026-03-01", b"a")
    assert first == middleware.pseudonym("192.0.2.17", "2026-03-01", b"a")
    others = [("192.0.2.18", "2026-03-01", b"a"), ("192.0.2.17", "2026-03-02", b"a")]
    others += [("192.0.2.17", "2026-03-01", b"b")]
    assert first not in {middleware.pseudonym(*other) for other in others}


def test_explain_reproduces_the_price_and_names_the_mistake(wrapped, handler):
    identity, answer = asked(wrapped, [EXAMPLE, EXAMPLE | {"clarity": "I1"}])
    found = query.explain(handler.folder, identity, 1)
    assert found["reproduced"] and found["features"]["clarity"] == "I1"
    assert found["price_usd"] == round(answer.json()[1]["price_usd"])
    assert found["other_grades"]["clarity"]["VS2"] == round(answer.json()[0]["price_usd"])


def test_explain_notices_a_changed_price_and_another_model(wrapped, handler):
    identity, _ = asked(wrapped)
    (path,) = handler.folder.glob("*.jsonl")
    text = path.read_text()
    price = query.trace(handler.folder, identity)[1]["price_usd"]
    path.write_text(text.replace(f'"price_usd": {price}', f'"price_usd": {price + 1}'))
    assert not query.explain(handler.folder, identity, 0)["reproduced"]
    path.write_text(text.replace('"model_version": "1', '"model_version": "7'))
    with pytest.raises(query.UnansweredError, match="Gerechnet hat Modell 7"):
        query.explain(handler.folder, identity, 0)


def test_rows_are_what_the_comparison_of_distributions_reads(wrapped, handler):
    asked(wrapped, [EXAMPLE, EXAMPLE])
    found = query.rows(handler.folder)
    assert len(found) == 2
    assert list(found[0]) == ["day", "model_version", *FEATURES, "price_usd"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing", "summary"], "Den Ordner missing gibt es nicht."),
        ([".", "explain", "nie\ngefragt"], "Zu nie?gefragt steht nichts im Log."),
        ([".", "guess"], "invalid choice"),
    ],
)
def test_unanswerable_question_ends_with_a_clear_message(tmp_path, arguments, message):
    command = [sys.executable, "-m", "examples.service_logging.query", *arguments]
    env = os.environ | {"PYTHONPATH": str(process.ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8")
    assert done.returncode and message in done.stderr and "Traceback" not in done.stderr
    assert not done.stdout


def test_unreadable_lines_are_counted_and_skipped(tmp_path):
    (tmp_path / "2026-03-01.jsonl").write_bytes(b'{"event": "request", "lev\n[1]\n\n\xff\n{}\n')
    assert query.summary(tmp_path) == {"unreadable": 4}
    assert query.rows(tmp_path) == [] and query.rejected(tmp_path) == {}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"PRICE_LOG_LEVEL": "LAUT"}, "PRICE_LOG_LEVEL muss"),
        ({"PRICE_ACCESS_LEVEL": ""}, "PRICE_ACCESS_LEVEL muss"),
        ({"PRICE_LOG": __file__}, "für das Log lässt sich nicht anlegen"),
    ],
)
def test_start_with_wrong_settings_is_refused(tmp_path, env, message):
    command = ["python", "-c", "import examples.service_logging.logged"]
    with pytest.raises(process.ProcessError, match=message) as refused:
        process.output(command, env={"PRICE_LOG": str(tmp_path)} | env)
    assert "Traceback" not in str(refused.value)


def test_printed_lines_die_with_the_process_and_logged_ones_do_not():
    assert shared_file.pieces() == 2
    killed = {
        way: json.loads(process.output(["python", "-m", shared_file.__name__, way, "--kill"]))
        for way in ("print", "handler")
    }
    assert killed["print"]["readable"] == 0
    assert killed["handler"]["readable"] == killed["handler"]["written"] == 100


@pytest.mark.skipif(os.name == "nt", reason="Windows benennt keine offene Datei um.")
@pytest.mark.parametrize(("processes", "complete"), [(1, True), (2, False)])
def test_rotating_handlers_of_two_processes_lose_lines(tmp_path, processes, complete):
    # Zwei Handler verhalten sich wie zwei Prozesse: jeder hat die Datei für sich offen.
    path = tmp_path / "service.log"
    handlers = [RotatingFileHandler(path, maxBytes=500, backupCount=3) for _ in range(processes)]
    for number in range(40):
        line = logging.makeLogRecord({"msg": f"{number:040}"})
        handlers[number % processes].emit(line)
    for handler in handlers:
        handler.close()
    kept = sum(len(part.read_text().splitlines()) for part in tmp_path.iterdir())
    assert (kept == 40) is complete


def test_request_id_does_not_leak_into_other_tasks(handler):
    async def one(identity):
        token = journal.request_id.set(identity)
        await asyncio.sleep(0)
        logging.getLogger(journal.LOGGER).info("request", extra={"rows": [{"sent": identity}]})
        journal.request_id.reset(token)

    async def many():
        await asyncio.gather(*(one(f"{number:016}") for number in range(20)))

    asyncio.run(many())
    assert all(line["sent"] == line["request_id"] for line in read(handler.folder))


@pytest.mark.parametrize("module", ["cost", "spans"])
def test_measuring_without_a_model_ends_with_its_remedy(tmp_path, module):
    env = {"PRICE_MODEL_DIR": str(tmp_path)}
    with pytest.raises(process.ProcessError, match="make model") as refused:
        process.output(["python", "-m", f"examples.service_logging.{module}"], 30, env)
    assert "Traceback" not in str(refused.value)
