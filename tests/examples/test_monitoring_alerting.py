"""Metriken stimmen, Regeln feuern und schweigen zur rechten Zeit, Meldungen kommen an."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stdout
from http.server import ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import httpx
import psutil
import pytest
import yaml
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.testclient import TestClient

import process
from contract import free_port
from examples.fastapi_service.metered import REQUESTS, Metered
from examples.monitoring_alerting import batch, rules, run, serve, traffic, watch, webhook
from examples.price_model.predict import load_metadata
from needs import tool

HERE = process.ROOT / "examples" / "monitoring_alerting"
RULES = (HERE / "rules.yml").read_text(encoding="utf-8")
RUNBOOKS = (HERE / "runbooks.md").read_text(encoding="utf-8")
TESTS = yaml.safe_load((HERE / "rules_test.yml").read_text(encoding="utf-8"))
MODULE = ["python", "-m"]
CHECKED = {"window": 1, "alarm": False, "psi": {"carat": 0.01}, "drifted": []}


def call(name: str, *arguments: object) -> str:
    """Ruft ein Programm des Kapitels auf und gibt seine Ausgabe zurück."""
    return process.output([*MODULE, f"examples.monitoring_alerting.{name}", *arguments])


def awaited(*words: object) -> dict | list[dict]:
    """Ruft `watch` auf, ohne dafür einen Prozess zu starten, und gibt zurück, was eintrat."""
    said = io.StringIO()
    with redirect_stdout(said), mock.patch.object(sys, "argv", ["watch", *map(str, words)]):
        assert watch.main() == 0
    return json.loads(said.getvalue())


def refused(*command: object) -> str:
    """Gibt die Meldung eines Programms zurück, das scheitern soll, ohne Traceback."""
    words = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(words, cwd=process.ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and done.stderr.strip()
    assert "Traceback" not in done.stderr
    return done.stderr


class Stack:
    """Dienst, Prüfungen, Empfänger, Alertmanager und Prometheus auf freien Ports."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.alerts = folder, folder / "alerts.jsonl"
        self.drift, self.labels = folder / "drift.jsonl", folder / "labels.jsonl"
        self.drift.write_text(f"{json.dumps(CHECKED)}\n")
        names = ("service", "batch", "webhook", "alertmanager", "prometheus")
        self.ports = {name: free_port() for name in names}
        self.url = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        self.running = []

    def serve(self, name: str, ready: str, *words: object, workers: int = 1) -> process.Service:
        command = [*MODULE, *map(str, words), "--port", str(self.ports[name])]
        service = process.serve(command, self.url[name] + ready, timeout=90, workers=workers)
        self.running.append(service)
        return service

    def start(self) -> None:
        here, port = "examples.monitoring_alerting", self.ports
        options = ("--app", "failing", "--log", self.folder / "log", "--workers", 2)
        self.service = self.serve("service", "/health/ready", f"{here}.serve", *options, workers=2)
        files = ("--drift", self.drift, "--labels", self.labels)
        self.serve("batch", "/metrics", f"{here}.batch", *files)
        self.serve("webhook", "/health/ready", f"{here}.webhook", self.alerts)
        fast = ("--speed", 60)
        hook = ("--webhook", self.url["webhook"])
        self.serve("alertmanager", "/-/ready", f"{here}.run", "alertmanager", *fast, *hook)
        targets = ("--target", f"price=127.0.0.1:{port['service']}")
        targets += ("--target", f"checks=127.0.0.1:{port['batch']}")
        targets += ("--alertmanager", f"127.0.0.1:{port['alertmanager']}")
        self.serve("prometheus", "/-/ready", f"{here}.run", "prometheus", *fast, *targets)
        # Bereit heißt noch nicht abgerufen: Was vorher geschieht, ist für `rate` kein Anstieg.
        self.query('up{job="price"} == 1')

    def query(self, expression: str) -> list[dict]:
        return awaited("query", self.url["prometheus"], expression)

    def message(self, *words: str) -> dict:
        return awaited("message", self.alerts, *words)

    def counted(self) -> dict[str, int]:
        """Die Anfragen je Status, wie der Dienst sie nennt."""
        text = httpx.get(f"{self.url['service']}/metrics").text
        line = r'^price_requests_total\{route="/predict",status="(\d+)"\} (\d+)'
        return {status: int(number) for status, number in re.findall(line, text, re.MULTILINE)}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    tool("prometheus")
    tool("alertmanager")
    made = Stack(tmp_path_factory.mktemp("monitoring"))
    try:
        made.start()
        yield made
    finally:
        for service in reversed(made.running):
            service.stop()


def test_an_exception_flies_past_the_outer_layer():
    def crash(request):
        raise ZeroDivisionError

    routes = [Route("/predict", crash, methods=["POST"])]
    app = Starlette(routes=routes, middleware=[Middleware(Metered)])
    failures = REQUESTS.labels("/predict", "500")
    before = failures._value.get()
    client = TestClient(app, raise_server_exceptions=False)
    assert client.post("/predict").status_code == 500
    assert failures._value.get() == before


def test_several_workers_answer_without_waiting_for_a_receipt(stack):
    took = []
    with httpx.Client(base_url=stack.url["service"]) as client:
        for _ in range(60):
            before = time.monotonic()
            client.get("/health/live").raise_for_status()
            took.append(time.monotonic() - before)
    # Die ersten bestätigt Linux sofort, danach kosten zwei kleine Pakete nacheinander 40 ms.
    assert min(took[20:]) < 0.035


def test_workers_count_together_crashes_included(stack):
    url = stack.url["service"]
    before = stack.counted()
    words = ("--requests", 60, "--crash-every", 4, "--reject-every", 5)
    sent = json.loads(call("traffic", url, *words))
    assert sent["by_status"] == {"200": 36, "422": 9, "500": 15}
    assert all(httpx.get(f"{url}/health/ready").status_code == 200 for _ in range(5))
    for _ in range(10):
        now = stack.counted()
        grown = {status: now[status] - before[status] for status in now}
        assert {status: n for status, n in grown.items() if n} == sent["by_status"]
    answer = httpx.post(f"{url}/predict", json={"carat": 1})
    assert answer.status_code == 422


def test_a_crash_pages_someone_and_the_page_ends(stack):
    # Auf einem vollen Rechner fallen Abrufe aus; ein Ausfall von einer Sekunde bliebe unbemerkt.
    before = time.monotonic()
    call("traffic", stack.url["service"], "--requests", 200, "--crash-every", 2, "--pause", 0.3)
    assert time.monotonic() - before > 200 / traffic.CLIENTS * 0.3
    fired = stack.message("PriceErrorBudgetFast")
    assert fired["receiver"] == "page"
    assert fired["labels"]["owner"] == "pricing"
    assert fired["annotations"]["runbook_url"].endswith("#priceerrorbudgetfast")
    assert stack.message("PriceErrorBudgetFast", "resolved")["status"] == "resolved"


def test_drift_is_a_ticket_and_a_silence_holds_it_back(stack):
    alertmanager = stack.url["alertmanager"]
    amtool = ["amtool", f"--alertmanager.url={alertmanager}", "silence"]
    why = ["--comment", "Test", "--author", "test", "--duration", "1h"]
    silence = process.output([*amtool, "add", "alertname=PriceDrift", *why]).strip()
    drifted = CHECKED | {"window": 2, "alarm": True, "psi": {"carat": 0.6}}
    stack.drift.write_text(f"{json.dumps(drifted)}\n")
    held = awaited("alert", alertmanager, "PriceDrift", "suppressed")
    assert held["silenced"] and not held["inhibited"]
    assert "PriceDrift" not in stack.alerts.read_text()
    process.output([*amtool, "expire", silence])
    assert stack.message("PriceDrift")["receiver"] == "ticket"
    assert stack.query("price_drift_psi")[0]["value"] == 0.6


def test_late_labels_and_a_high_error_are_tickets(stack):
    expected = load_metadata()["mae_usd"]
    sale = {"time": "2026-01-01T00:00:00+00:00", "model_version": "1.0.0", "sold_usd": 9000}
    stack.labels.write_text(f"{json.dumps(sale | {'price_usd': 9000 - 2 * expected})}\n")
    assert stack.message("PriceErrorHigh")["receiver"] == "ticket"
    assert stack.message("PriceLabelsLate")["labels"]["severity"] == "ticket"


def test_a_killed_worker_keeps_its_counts_and_is_replaced(stack):
    total = sum(stack.counted().values())
    victim = stack.query("price_worker_start_time_seconds")[0]["labels"]["pid"]
    os.kill(int(victim), signal.SIGKILL)
    stack.query(f'count(price_worker_start_time_seconds{{pid!="{victim}"}}) == 2')
    assert sum(stack.counted().values()) == total


def test_the_log_agrees_with_the_histogram(stack):
    query = ["examples.service_logging.query", stack.folder / "log", "rows"]
    logged = json.loads(process.output([*MODULE, *query]))
    assert logged
    same = f"sum(price_predicted_usd_count) == {len(logged)}"
    assert stack.query(same)
    (mean,) = stack.query("sum(price_predicted_usd_sum) / sum(price_predicted_usd_count)")
    prices = [row["price_usd"] for row in logged]
    assert mean["value"] == pytest.approx(sum(prices) / len(prices))


def test_dashboard_shows_every_panel(stack, tmp_path):
    picture = tmp_path / "dashboard.png"
    call("traffic", stack.url["service"], "--requests", 100)
    stack.query("sum(rate(price_predicted_usd_count[5s])) > 0")
    said = call("dashboard", stack.url["prometheus"], picture, "--window", "5s")
    assert said == "4 Felder, davon ohne Werte: 0\n"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_outage_pages_and_holds_tickets_back(stack):
    stack.service.stop()
    assert stack.message("PriceServiceDown")["receiver"] == "page"
    held = awaited("alert", stack.url["alertmanager"], "PriceDrift", "suppressed")
    assert held["inhibited"] and not held["silenced"]


def test_rules_pass_their_unit_tests():
    tool("prometheus")
    said = process.output(["promtool", "test", "rules", str(HERE / "rules_test.yml")])
    assert "SUCCESS" in said


def test_every_alert_is_seen_firing_in_a_unit_test():
    fired = {
        case["alertname"]
        for test in TESTS["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules.alerts(RULES)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("          and job:price_request_errors:ratio_rate5m > 14.4 * 0.01\n", ""),
        ("> 14.4 * 0.01", "> 9 * 0.01"),
        ('expr: up{job="price"} == 0\n        for: 1m', 'expr: up{job="price"} == 0'),
        ("        keep_firing_for: 10m\n", ""),
        ("        for: 5m\n        keep_firing_for", "        keep_firing_for"),
        ('absent(up{job="price"})', 'up{job="price"} == 0'),
        ("1.5 * price_error_expected_usd", "3 * price_error_expected_usd"),
        ("> 14 * 86400", "> 16 * 86400"),
        (" > 0.05\n", " > 0.5\n"),
    ],
)
def test_a_changed_rule_fails_its_unit_test(old, new, tmp_path):
    tool("prometheus")
    assert old in RULES
    known, changed = list(rules.alerts(RULES)), RULES.replace(old, new)
    names = {rule["alert"] for rule in rules.alerts(changed) if rule not in known}
    # Nur die Tests dieser Regel: Alle zusammen rechnen mehrere Sekunden.
    tests = [
        test
        for test in TESTS["tests"]
        if names & {case["alertname"] for case in test["alert_rule_test"]}
    ]
    (tmp_path / "rules_test.yml").write_text(yaml.safe_dump(TESTS | {"tests": tests}))
    command = ["promtool", "test", "rules", str(tmp_path / "rules_test.yml")]
    (tmp_path / "rules.yml").write_text(RULES)
    process.output(command)  # unverändert sind sie grün
    (tmp_path / "rules.yml").write_text(changed)
    with pytest.raises(process.ProcessError, match="FAILED"):
        process.output(command)


def test_rules_say_who_and_what_to_do():
    assert rules.problems(RULES, RUNBOOKS) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("severity: ticket", "severity: urgent", "severity"),
        (", owner: pricing", "", "owner"),
        ("service: price, owner: data", "owner: data", "service"),
        ("runbooks.md#pricedrift\n", "runbooks.md#elsewhere\n", "Runbook"),
        ('summary: "Der Detektor meldet Drift"', "note: a", "Zusammenfassung"),
        ('up{job="price"} == 0', "cpu > 0.9", "Symptom"),
        ("        for: 1m\n", "", "Ausreißer"),
    ],
)
def test_incomplete_rules_are_named(old, new, problem):
    assert old in RULES
    assert any(problem in found for found in rules.problems(RULES.replace(old, new), RUNBOOKS))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("expr: up, annotations: ", "Die Zusammenfassung fehlt."),
        ("expr: up, labels: ", "severity muss page oder ticket sein."),
        ("expr: up, annotations: {runbook_url: 1}", "Das Runbook fehlt"),
        ("labels: {severity: page}", "Der Ausdruck fehlt."),
        ("expr: , labels: {severity: page}", "Der Ausdruck fehlt."),
        ("expr: 1, labels: {severity: page}", "Geweckt wird nur wegen eines Symptoms."),
    ],
)
def test_keys_without_a_usable_value_are_named_too(keys, problem):
    text = f"groups: [{{rules: [{{alert: Half, {keys}}}]}}]"
    assert any(found.startswith(f"Half: {problem}") for found in rules.problems(text, RUNBOOKS))


def test_shortened_rules_differ_only_in_time():
    short = rules.shorten(RULES, 60)
    assert short.count("ms") == len(rules.DURATION.findall(RULES)) > 10
    assert "[5000ms]" in short and "[60000ms]" in short and "for: 1000ms" in short
    assert not re.search(r"\[\d+[smhd]\]|for: \d+[smhd]$", short, re.MULTILINE)
    plain = re.compile(r"\d+(?:ms|[smhd])\b")
    assert plain.sub("", short) == plain.sub("", RULES)


@pytest.mark.parametrize(
    ("text", "speed"),
    [("expr: x[5m:1m]", 1), ("expr: x offset 5m", 1), ("expr: x[1m]", 60), ("for: 1h30m", 60)],
)
def test_what_cannot_be_shortened_is_refused(text, speed):
    with pytest.raises(rules.RuleError):
        rules.shorten(text, speed)


def test_configuration_is_accepted_and_routes_as_meant():
    tool("prometheus")
    tool("alertmanager")
    process.output(["promtool", "check", "config", str(HERE / "prometheus.yml")])
    config = f"--config.file={HERE / 'alertmanager.yml'}"
    routes = ["amtool", "config", "routes", "test", config]
    for severity, receiver in {"page": "page", "ticket": "ticket", "typo": "ticket"}.items():
        assert process.output([*routes, f"severity={severity}"]).strip() == receiver


@pytest.mark.parametrize(
    "content",
    [
        *(None, "", "kein JSON\n", "[]\n", '{"window": 1}\n', "[" * 100_000),
        json.dumps(CHECKED | {"psi": {"carat": None}}),
        json.dumps(CHECKED | {"psi": {"carat": 10**400}}),
    ],
    ids=lambda content: content and content[:12],
)
def test_unreadable_checks_are_a_metric_too(tmp_path, content):
    path = tmp_path / "drift.jsonl"
    if content is not None:
        path.write_text(content)
    found = list(batch.Results(path, path, 280).collect())
    assert [metric.name for metric in found] == ["price_batch_readable"]
    assert [sample.value for sample in found[0].samples] == [0, 0]


def test_checks_carry_their_own_time(tmp_path):
    path = tmp_path / "drift.jsonl"
    path.write_text(json.dumps(CHECKED | {"time": "2026-01-01T00:00:00+00:00"}))
    *_, when = batch.drift(path)
    assert when.samples[0].value == 1767225600
    with pytest.raises(ValueError, match="Zone"):
        batch.seconds("2026-01-01T00:00:00")


def test_webhook_writes_only_what_is_complete(tmp_path):
    file, port = tmp_path / "alerts.jsonl", free_port()
    command = [*MODULE, "examples.monitoring_alerting.webhook", str(file), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    service = process.serve(command, f"{url}/health/ready")
    try:
        bad = (b"", b"{", b"[]", b'{"alerts": [{}]}', b'{"alerts": 3}', b"[" * 100_000)
        for content in bad:
            assert httpx.post(f"{url}/page", content=content).status_code == 400
        assert httpx.post(f"{url}/elsewhere", content=b"{}").status_code == 404
        too_large = httpx.post(f"{url}/page", content=b" " * (webhook.MAX_BYTES + 1))
        assert too_large.status_code == 413
        assert file.read_bytes() == b""
        taken = ("examples.monitoring_alerting.webhook", file, "--port", port)
        assert "belegt" in refused(*taken)
    finally:
        service.stop()


@pytest.mark.parametrize(
    "words",
    [
        ("rules", "check", "gibt-es-nicht.yml", HERE / "runbooks.md"),
        ("rules", "check", HERE / "postmortem.md", HERE / "runbooks.md"),
        ("rules", "shorten", HERE / "rules.yml", "gibt/es/nicht.yml"),
        ("rules", "shorten", HERE / "rules.yml", "/dev/null", "--speed", 0),
        ("run", "prometheus", "--rules", "gibt-es-nicht.yml"),
        ("run", "prometheus", "--target", "ohne-gleichheitszeichen"),
        ("serve", "--workers", 0),
        ("traffic", "http://127.0.0.1:9", "--requests", 0),
        ("traffic", "http://127.0.0.1:9", "--pause", "inf"),
        ("watch", "--timeout", 0.5, "message", "gibt-es-nicht.jsonl", "PriceDrift"),
        ("watch", "message", "gibt-es-nicht.jsonl", "PriceDrift", "--label", "ohne"),
        ("watch", "--timeout", 0.5, "query", "http://127.0.0.1:9", "up"),
        ("dashboard", "http://127.0.0.1:9", "bild.png"),
    ],
    ids=lambda words: " ".join(map(str, words[:2])),
)
def test_bad_arguments_get_a_german_sentence(words):
    refused(f"examples.monitoring_alerting.{words[0]}", *words[1:])
    assert not (process.ROOT / "bild.png").exists()


@pytest.mark.parametrize(
    ("module", "words"),
    [(batch, []), (run, ["prometheus"]), (run, ["alertmanager"]), (serve, []), (webhook, ["x"])],
)
def test_impossible_port_is_named(monkeypatch, capsys, module, words):
    monkeypatch.setattr(sys, "argv", [module.__name__, *words, "--port", "99999"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2 and "ist kein Port von 1 bis 65535." in capsys.readouterr().err


def test_waiting_survives_an_answer_that_is_no_json(monkeypatch, capsys):
    result = [{"metric": {}, "value": [0, "1"]}]
    starting = httpx.Response(503, text="Service Unavailable")
    ready = httpx.Response(200, json={"status": "success", "data": {"result": result}})
    answers = iter([starting, ready])
    monkeypatch.setattr(watch.httpx, "get", lambda *_, **__: next(answers))
    monkeypatch.setattr(watch.time, "sleep", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["watch", "query", "http://127.0.0.1:9", "up"])
    assert watch.main() == 0
    assert json.loads(capsys.readouterr().out) == [{"labels": {}, "value": 1}]
    monkeypatch.setattr(watch.httpx, "get", lambda *_, **__: starting)
    sys.argv[1:1] = ["--timeout", "0.01"]
    assert watch.main() == 1
    assert "Die Antwort ist kein JSON." in capsys.readouterr().err


def test_a_message_is_found_by_its_labels(tmp_path):
    file = tmp_path / "alerts.jsonl"
    rows = [
        {"alert": "PriceErrorHigh", "status": "firing", "labels": {"model_version": version}}
        for version in ("1.0.0", "1.1.0")
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    words = ("watch", "--timeout", 5, "message", file, "PriceErrorHigh", "--label")
    assert json.loads(call(*words, "model_version=1.0.0")) == rows[0]
    with pytest.raises(process.ProcessError, match="nicht eingetreten"):
        call("watch", "--timeout", 0.5, *words[3:], "model_version=1.3.0")


def test_nothing_survives_a_killed_wrapper():
    tool("alertmanager")
    port = free_port()
    command = [sys.executable, "-m", "examples.monitoring_alerting.run", "alertmanager"]
    wrapper = psutil.Popen([*command, "--port", str(port)], cwd=process.ROOT)
    try:
        deadline = time.monotonic() + 30
        while not (family := wrapper.children(recursive=True)) or len(family) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        wrapper.kill()
        wrapper.wait(10)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


class Full(io.FileIO):
    """Eine Datei auf voller Platte: Nach sieben Byte ist Schluss, ohne eine Ausnahme."""

    def write(self, content: bytes) -> int:
        return super().write(content[:7])


@pytest.mark.parametrize("opened", [open, lambda path, *_, **__: Full(path, "ab")])
def test_a_message_that_was_not_written_is_sent_again(tmp_path, monkeypatch, opened):
    # In einen Ordner lässt sich so wenig schreiben wie auf eine volle Platte.
    file = tmp_path if opened is open else tmp_path / "alerts.jsonl"
    monkeypatch.setattr(webhook, "open", opened, raising=False)
    bound = type("Bound", (webhook.Webhook,), {"file": file})
    one = {"status": "firing", "labels": {"alertname": "PriceDrift"}, "annotations": {}}
    one |= {"startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}
    with ThreadingHTTPServer(("127.0.0.1", 0), bound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/page"
        answer = httpx.post(url, json={"alerts": [one]})
        server.shutdown()
    # Mit 2xx wäre der Alarm für den Alertmanager zugestellt.
    assert answer.status_code == 503
    assert opened is open or file.read_bytes() == b""


def test_error_is_told_per_version_and_the_newest_sale_counts(tmp_path):
    path = tmp_path / "labels.jsonl"
    rows = [
        ("2026-01-01T00:00:00+00:00", "1.0.0", 100, 150),
        ("2026-01-03T00:00:00+00:00", "1.1.0", 100, 110),
        ("2026-01-02T00:00:00+00:00", "1.0.0", 100, 70),
    ]
    names = ("time", "model_version", "price_usd", "sold_usd")
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    error, _, latest = batch.labels(path, 280)
    found = {sample.labels["model_version"]: sample.value for sample in error.samples}
    assert found == {"1.0.0": 40, "1.1.0": 10}
    assert latest.samples[0].value == batch.seconds("2026-01-03T00:00:00+00:00")
