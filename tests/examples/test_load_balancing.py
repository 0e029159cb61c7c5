"""Lastverteilung: Störungen unter Last mit Zählung, und nichts bleibt übrig."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

import needs
import process
from contract import free_port
from examples.load_balancing import admin, faults, load, retry, simulate
from examples.load_balancing.cluster import Cluster, ask_status, main
from examples.price_model.schema import EXAMPLE

EXAMPLE_FOLDER = process.ROOT / "examples" / "load_balancing"
CLUSTER = ["python", "-m", "examples.load_balancing.cluster"]
FAULTY = (
    "{python} -m uvicorn examples.load_balancing.faulty:app --port {port}"
    " --no-access-log --timeout-keep-alive 60"
)
# Für Tests, in denen niemand nach einem Preis fragt: vier Modelle zu laden, kostet Sekunden.
LIGHT = "{python} -m http.server {port} --bind 127.0.0.1"
GRADIO = "{python} -m uvicorn examples.gradio_app.app:app --port {port} --log-level warning"
STREAMLIT = "{python} -m streamlit run examples/streamlit_app/app.py --server.port {port}"
# Sonst unterschreibt jeder Prozess seine Cookies anders, auch die gegen fremde Formulare.
SAME_SECRET = {"STREAMLIT_SERVER_COOKIE_SECRET": "test"}
STONES = "carat,cut,color,clarity,depth,table,x,y,z\n0.7,Ideal,E,VS2,61.5,55.0,5.7,5.72,3.51\n"


@pytest.fixture(scope="module", autouse=True)
def haproxy():
    needs.tool("haproxy")


class Workers:
    """Backends auf freien Ports; HAProxy davor wird je Test neu gestartet."""

    def __init__(
        self, folder: Path, count: int, *options: str, ready: str = "/health/ready", **env: str
    ) -> None:
        self.folder = folder
        self.ports = [free_port() for _ in range(count)]
        self.env = {f"PORT_{n}": str(port) for n, port in enumerate(self.ports, start=1)}
        options = ("--ready", ready, *options)
        command = [*CLUSTER, folder, "--workers-only", *options]
        urls = [f"http://127.0.0.1:{port}{ready}" for port in self.ports]
        self.service = process.serve(command, urls[0], timeout=120, env=self.env | env)
        wait(lambda: all(ask_status(url) == 200 for url in urls))

    @contextmanager
    def behind_haproxy(self, config: str = "haproxy.cfg", **settings: str):
        """Stellt HAProxy davor; gibt dessen Adressen für HTTP und TCP zurück."""
        port, tcp = free_port(), free_port()
        own = {"ADMIN_SOCKET": str(self.folder / "admin.sock"), "PORT": str(port)}
        url = f"http://127.0.0.1:{port}"
        balancer = process.serve(
            ["haproxy", "-db", "-f", EXAMPLE_FOLDER / config],
            f"{url}/balancer/ready",
            env=self.env | own | {"TCP_PORT": str(tcp)} | settings,
        )
        try:
            yield url, f"http://127.0.0.1:{tcp}"
        finally:
            balancer.stop()


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """Vier Preisdienste, deren Antwort 30 ms braucht: So ist immer etwas unterwegs."""
    folder = tmp_path_factory.mktemp("workers")
    env = {"PRICE_DELAY_SECONDS": "0.03", "ORDER_BOOK": str(folder / "orders.txt")}
    started = Workers(folder, 4, "--command", FAULTY, **env)
    yield started
    started.service.stop()


def ask(url: str, count: int, clients: int = 1) -> dict:
    """Stellt eine feste Zahl von Fragen."""
    return load.summary(load.run(url, seconds=60, clients=clients, max_requests=count))


@pytest.mark.parametrize("policy", ["roundrobin", "leastconn", "random(2)", "hdr(X-Customer)"])
@pytest.mark.parametrize("config", ["haproxy.cfg", "sticky.cfg"])
def test_haproxy_accepts_the_config_without_a_warning(config, policy):
    env = {**os.environ, "ADMIN_SOCKET": "/admin.sock", "POLICY": policy, "STICKY": "yes"}
    command = ["haproxy", "-c", "-f", EXAMPLE_FOLDER / config]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr


def test_round_robin_is_fair_for_requests_but_not_for_connections(workers):
    with workers.behind_haproxy() as (http, tcp):
        admin.settle(workers.folder)
        assert ask(http, 40)["by_server"] == dict.fromkeys(("s1", "s2", "s3", "s4"), 10)
        assert len(ask(tcp, 40)["by_server"]) == 1


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("map-based", 100, 200), ("consistent", 20, 80)]
)
def test_consistent_hash_moves_only_the_customers_of_the_lost_backend(workers, kind, least, most):
    with workers.behind_haproxy(POLICY="hdr(X-Customer)", HASH_TYPE=kind) as (url, _):
        admin.settle(workers.folder)
        with httpx.Client(base_url=url) as client:

            def places() -> list[str]:
                return [
                    client.get("/health/live", headers={"X-Customer": f"c{n}"}).headers[
                        "X-Served-By"
                    ]
                    for n in range(200)
                ]

            before = places()
            admin.send(workers.folder, "set server workers/s4 state maint")
            after = places()
    moved = [old for old, new in zip(before, after, strict=True) if old != new]
    assert least <= len(moved) <= most
    assert "s4" not in after
    if kind == "consistent":
        assert set(moved) == {"s4"}


@pytest.mark.parametrize("retries", ["0", "2"])
def test_crash_under_load_loses_answers_only_without_retries(workers, retries):
    with workers.behind_haproxy(RETRIES=retries) as (url, _):
        report = faults.run("crash", workers.folder, url, rate=40)
    print(f"kill -9, RETRIES={retries}: {report}")
    assert report["sent"] == report["answered"] + report["failed"]
    assert (report["failed"] > 0) == (retries == "0"), report


def test_draining_every_backend_loses_nothing_even_without_retries(workers):
    before = faults.worker(workers.folder, "s1")["pid"]
    with workers.behind_haproxy(RETRIES="0") as (url, _):
        report = faults.run("drain", workers.folder, url, rate=40)
    assert report["failed"] == 0, report["by_status"]
    assert set(report["by_server"]) == {"s1", "s2", "s3", "s4"}
    assert faults.worker(workers.folder, "s1")["pid"] != before


def attempts(workers: Workers) -> int:
    """Zählt bei den Backends, wie oft sie gefragt wurden."""
    urls = [f"http://127.0.0.1:{port}/attempts" for port in workers.ports]
    return sum(httpx.get(url).json()["attempts"] for url in urls)


@pytest.mark.parametrize(
    ("retries", "budget", "expected"),
    [("0", [], 150), ("2", [], 450), ("2", ["--budget", "0.1"], 165)],
)
def test_retries_of_two_layers_multiply(workers, retries, budget, expected):
    # Ein Check, der auf einem vollen Rechner zu spät kommt, schließt hier kein Backend aus.
    settings = {"RETRIES": retries, "REPEATABLE": "/predict /overloaded", "FALL": "1000"}
    with workers.behind_haproxy(**settings) as (url, _):
        admin.settle(workers.folder)
        before = attempts(workers)
        command = ["python", "-m", "examples.load_balancing.retry", f"{url}/overloaded"]
        report = json.loads(process.output([*command, "--requests", "50", *budget]))
        backends = admin.servers(workers.folder)
    assert report["answered"] == 0
    assert attempts(workers) - before == expected, (report, backends)


def test_budget_allows_a_share_of_all_requests():
    budget = retry.Budget(0.1)
    for _ in range(25):
        budget.requests += 1
    assert [budget.spend() for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("repeatable", "headers", "status", "booked"),
    [
        ("/predict", {}, 502, 1),
        ("/orders", {}, 200, 2),
        ("/orders", {"Idempotency-Key": "order-17"}, 200, 1),
    ],
    ids=["not repeated", "booked twice", "with a key"],
)
def test_repeated_order_is_booked_twice_unless_it_carries_a_key(
    workers, repeatable, headers, status, booked
):
    book = workers.folder / "orders.txt"
    book.unlink(missing_ok=True)
    with workers.behind_haproxy(RETRIES="2", REPEATABLE=repeatable) as (url, _):
        admin.settle(workers.folder)
        answer = httpx.post(f"{url}/orders", headers=headers)
        assert answer.status_code == status
        assert len(book.read_text(encoding="utf-8").splitlines()) == booked
        admin.settle(workers.folder)


@pytest.mark.parametrize(("fall", "failed"), [("1", True), ("10", False)])
def test_flapping_readiness_takes_everything_down_only_without_a_threshold(workers, fall, failed):
    settings = {"CHECK_PATH": "/health/flapping", "INTERVAL": "100ms", "RISE": "1"}
    with workers.behind_haproxy(FALL=fall, **settings) as (url, _):
        admin.settle(workers.folder)
        report = load.summary(load.run(url, seconds=3, rate=40))
    assert (report["failed"] > 0) == failed
    assert not failed or set(report["by_status"]) == {"200", "503"}


@contextmanager
def started(folder: Path, *options: str, prices: bool = False, **settings: str):
    """Der ganze Verbund als ein Prozess auf freien Ports; nur mit `prices` kennt er das Modell."""
    if not prices:
        options = ("--command", LIGHT, "--ready", "/", *options)
        settings["CHECK_PATH"] = "/"
    env = {f"PORT_{n}": str(free_port()) for n in range(1, 5)} | {"TCP_PORT": str(free_port())}
    port = free_port()
    command = process._command([*CLUSTER, folder, "--port", port, *options])
    environment = process._environment(env | settings)
    with subprocess.Popen(command, cwd=process.ROOT, env=environment) as cluster:
        try:
            url = f"http://127.0.0.1:{port}"
            wait(lambda: ask_status(f"{url}/balancer/ready") == 200 or cluster.poll())
            assert cluster.poll() is None
            yield cluster, url
        finally:
            cluster.terminate()


def wait(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(family: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_backend_with_a_damaged_model_never_gets_a_request(tmp_path):
    with started(tmp_path, "--broken", "s4", prices=True) as (_, url):
        admin.wait(tmp_path, "s4", "DOWN")
        report = ask(url, 40, clients=4)
        assert report["failed"] == 0
        assert set(report["by_server"]) == {"s1", "s2", "s3"}
        assert admin.servers(tmp_path)["s4"]["requests"] == 0
        assert httpx.post(f"{url}/predict", json=EXAMPLE).json()["price_usd"] > 0


def test_kill_nine_of_the_starter_leaves_no_orphan(tmp_path):
    with started(tmp_path) as (cluster, _):
        family = psutil.Process(cluster.pid).children(recursive=True)
        assert len(family) == 6  # vier Backends, HAProxy, der Aufpasser
        cluster.kill()
        wait(lambda: not alive(family), seconds=10)


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGINT])
def test_stopping_the_starter_stops_everything(tmp_path, kill):
    with started(tmp_path, prices=kill == signal.SIGTERM) as (cluster, _):
        family = psutil.Process(cluster.pid).children(recursive=True)
        cluster.send_signal(kill)
        assert cluster.wait(timeout=15) == 0
        assert not alive(family)


def refused(folder: Path, *options: str, **settings: str) -> str:
    """Startet den Verbund, der nicht starten kann; gibt seine Meldung zurück."""
    ports = {f"PORT_{n}": str(free_port()) for n in range(1, 5)} | {"TCP_PORT": str(free_port())}
    done = subprocess.run(
        process._command([*CLUSTER, folder, "--port", free_port(), *options]),
        cwd=process.ROOT,
        env=process._environment(ports | settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture
def refused_here(monkeypatch):
    """Wie `refused`, aber im Prozess des Tests: für weitere Werte, deren Weg dort schon vorkam."""

    def message(folder: Path, *options: str, **settings: str) -> str:
        names = ("PORT", "TCP_PORT", "PORT_1", "PORT_2", "PORT_3", "PORT_4")
        for name, value in ({name: str(free_port()) for name in names} | settings).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["cluster", str(folder), *options])
        monkeypatch.setattr(signal, "signal", lambda *_: None)  # die Signale gehören hier pytest
        monkeypatch.setattr(Cluster, "supervise", lambda _: pytest.fail("Der Verbund läuft."))
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return message


def test_port_in_use_is_named_and_nothing_starts(tmp_path, refused_here):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        messages = [refused(tmp_path, PORT_3=str(port)), refused_here(tmp_path, TCP_PORT=str(port))]
    assert messages == [f"Fehler: Port {port} ist belegt: Läuft der Verbund schon?"] * 2
    assert not list(tmp_path.iterdir())


def test_other_mistakes_are_german_sentences(tmp_path, refused_here):
    assert "haproxy.cfg ab, Zeile" in refused(tmp_path, POLICY="fair")
    assert "Den Ordner nowhere gibt es nicht" in refused(tmp_path / "nowhere")
    assert "Unbekanntes Backend: s9" in refused_here(tmp_path, "--slow", "s9=1")
    assert "ist keine Zahl von Sekunden" in refused_here(tmp_path, "--slow", "s4=viel")
    assert "Es fehlt HAProxy" in refused(tmp_path, PATH=str(Path(sys.executable).parent))


def test_impossible_port_is_named_and_nothing_starts(tmp_path, refused_here):
    for call, port in ((refused, "viele"), (refused_here, "0"), (refused_here, "65536")):
        message = call(tmp_path, PORT_2=port)
        assert message == f"Fehler: PORT_2={port} ist kein Port von 1 bis 65535."
    assert not list(tmp_path.iterdir())


def test_backend_that_ends_at_once_ends_the_cluster(tmp_path):
    assert refused(tmp_path, "--command", "{python} -c pass").endswith("endete beim Start.")


def test_admin_explains_what_is_wrong(tmp_path, workers):
    command = ["python", "-m", "examples.load_balancing.admin"]
    with pytest.raises(process.ProcessError, match="Läuft HAProxy"):
        process.output([*command, tmp_path, "show"])
    with workers.behind_haproxy(), pytest.raises(process.ProcessError, match="No such server"):
        process.output([*command, workers.folder, "set server workers/s9 state drain"])


def test_settling_where_nothing_runs_is_one_sentence(tmp_path):
    with pytest.raises(admin.AdminError, match=f"In {tmp_path.name} läuft kein Verbund"):
        admin.settle(tmp_path)


def test_load_without_clients_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["load", "http://127.0.0.1:1", "--clients", "0"])
    with pytest.raises(SystemExit) as ended:
        load.main()
    assert ended.value.code == 2 and "Clients zählen ab eins." in capsys.readouterr().err


@pytest.mark.parametrize(("module", "words"), [(retry, ["foo"]), (faults, [".", "foo", "crash"])])
def test_mistyped_address_is_named(monkeypatch, capsys, module, words):
    monkeypatch.setattr(sys, "argv", [module.__name__, *words])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2 and "'foo' ist keine Adresse" in capsys.readouterr().err


def test_a_failed_question_took_forever():
    answers = [(0.0, 0.1, "200", "a")] * 98 + [(0.0, 0.1, "503", "a")] * 2
    report = load.summary(answers)
    assert (report["median_ms"], report["p90_ms"], report["p99_ms"]) == (100, 100, None)


def test_connection_closed_by_the_service_is_no_failure():
    class Impatient(BaseHTTPRequestHandler):
        protocol_version, timeout = "HTTP/1.1", 0.1

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Impatient) as server:
        threading.Thread(target=server.serve_forever).start()
        client = load.Client(f"http://127.0.0.1:{server.server_address[1]}", timeout=5, keep=True)
        assert client.ask()[0] == "200"
        time.sleep(0.5)  # länger, als der Dienst wartet
        assert client.ask()[0] == "200"
        client.close()
        server.shutdown()


def test_load_ends_in_time_even_if_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started_at = time.monotonic()
        report = load.summary(load.run(url, seconds=1, clients=3, timeout=0.5))
        elapsed = time.monotonic() - started_at
    assert report["answered"] == 0 and report["failed"] == report["sent"] <= 9
    assert elapsed < 10


def test_load_ends_after_the_number_or_when_told(workers):
    url = f"http://127.0.0.1:{workers.ports[0]}"
    assert ask(url, 17, clients=4)["sent"] == 17
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started_at = time.monotonic()
    assert load.run(url, seconds=60, rate=20, stop=stop)
    assert time.monotonic() - started_at < 3  # die nächste Frage wäre erst später fällig


def test_simulation_shows_the_herd():
    fresh = {name: simulate.p99(policy, 0) for name, policy in simulate.POLICIES.items()}
    stale = {name: simulate.p99(policy, 20) for name, policy in simulate.POLICIES.items()}
    assert fresh["leastconn"] < fresh["two choices"] < fresh["random"] / 2
    assert stale["two choices"] < stale["random"] < stale["leastconn"] / 2


@pytest.mark.parametrize("sticky", ["no", "yes"])
def test_gradio_session_survives_only_with_a_cookie(gradio_pair, sticky):
    with (
        gradio_pair.behind_haproxy("sticky.cfg", STICKY=sticky) as (url, _),
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        admin.settle(gradio_pair.folder)
        complete = 0
        for _ in range(10):
            call = "/gradio_api/call/predict"
            event = client.post(call, json={"data": [EXAMPLE]}).json()["event_id"]
            try:
                complete += "event: complete" in client.get(f"{call}/{event}").text
            except httpx.RemoteProtocolError:
                assert sticky == "no"
    assert complete == (10 if sticky == "yes" else 0)


@pytest.fixture(scope="module")
def gradio_pair(tmp_path_factory):
    pair = Workers(
        tmp_path_factory.mktemp("gradio"), 2, "--config", "sticky.cfg", "--command", GRADIO
    )
    yield pair
    pair.service.stop()


@pytest.fixture(scope="module")
def streamlit_pair(tmp_path_factory):
    options = ("--config", "sticky.cfg", "--command", STREAMLIT)
    folder = tmp_path_factory.mktemp("streamlit")
    pair = Workers(folder, 2, *options, ready="/_stcore/health", **SAME_SECRET)
    yield pair
    pair.service.stop()


def is_upload(answer) -> bool:
    return "upload_file" in answer.url and answer.request.method == "PUT"


@pytest.mark.parametrize("sticky", ["no", "yes"])
def test_streamlit_upload_reaches_its_session_only_with_a_cookie(streamlit_pair, browser, sticky):
    from playwright.sync_api import Error

    file = {"name": "steine.csv", "mimeType": "text/csv", "buffer": STONES.encode()}
    settings = {"STICKY": sticky, "READY_PATH": "/_stcore/health"}
    with streamlit_pair.behind_haproxy("sticky.cfg", **settings) as (url, _):
        page = browser.new_page()
        tab = page.get_by_role("tab", name="Datei bewerten")
        # Chromium bricht alles ab, sobald irgendwo auf dem Rechner ein Netz kommt oder geht.
        for _ in range(10):
            with suppress(Error):
                page.goto(url)
                tab.click(timeout=15_000)
                break
        idle = page.locator("[data-test-script-state=notRunning]")
        answers = []
        for number in range(10):
            if number % 2:
                # Kostet eine Datei gerade viele Anfragen, träfe sie sonst immer denselben Server.
                httpx.get(f"{url}/_stcore/health").raise_for_status()
            # Während das Skript läuft, vergisst die Seite manche Datei, die man ihr gibt.
            with suppress(Error):
                idle.wait_for(timeout=20_000)
            with (
                suppress(Error),
                page.expect_response(is_upload, timeout=5_000) as sent,
            ):
                page.locator("input[type=file]").set_input_files(file)
            # Auch eine abgelaufene Frist gilt als erledigt; dann fehlt die Antwort.
            with suppress(Error):
                answers.append(sent.value.ok)
        page.close()
    print(f"STICKY={sticky}: {answers.count(True)} von {len(answers)} Dateien angekommen")
    assert len(answers) >= 5 and all(answers) == (sticky == "yes")
