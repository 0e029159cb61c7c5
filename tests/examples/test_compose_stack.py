"""Der Stapel: geprüfte Dateien, dichte Netze und kein Ausfall beim Töten und Ersetzen."""

import contextlib
import json
import re
import runpy
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

import needs
import process
from contract import STACK, ComposeStack, compose_stack, stone
from examples.compose_stack import registry, release, rollout, secret, start, under_load
from examples.load_balancing.load import run, summary
from examples.price_model.predict import ModelMissingError
from examples.price_model.schema import MAX_BODY_BYTES, REFUSALS

PATIENCE_SECONDS = 60
FILES = {
    "compose": ["compose.yaml"],
    "mounted": ["compose.yaml", "mounted.yaml"],
    "naive": ["naive/compose.yaml"],
}
SERVICES = {"api", "lb", "prometheus", "registry"}


def docker(*arguments: str) -> str:
    return process.output(["docker", *arguments])


@pytest.fixture(scope="module")
def image(needs_docker):
    """Das Image des Preisdienstes, gebaut aus dem Stand der Dateien."""
    process.output(["python", "-m", "examples.docker_image.build"], timeout=600)


@pytest.fixture(scope="module")
def stack(image, tmp_path_factory):
    """Der ganze Stapel mit Monitoring; jede Antwort dauert, damit beim Töten welche offen sind."""
    with compose_stack(tmp_path_factory.mktemp("secrets")) as stack:
        stack.env["PRICE_DELAY_SECONDS"] = "0.2"
        stack("--profile", "monitoring", "up", "--detach", "--wait")
        yield stack


@pytest.fixture
def healed(stack):
    """Stellt vor einem Test die drei Replikate der Vorgabe wieder her."""
    stack("up", "--detach", "--wait", "--remove-orphans")
    stack("exec", "-T", "lb", "nginx", "-s", "reload")
    return stack


def containers(stack: ComposeStack, service: str) -> list[str]:
    return sorted(stack("ps", "--all", "--quiet", service).split())


def inspect(container: str) -> dict:
    return json.loads(docker("inspect", container))[0]


def login(stack: ComposeStack) -> tuple[str, str]:
    folder = Path(stack.env["PRICE_SECRETS"])
    return secret.USER, (folder / "monitoring.password").read_text(encoding="utf-8")


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"Nach {PATIENCE_SECONDS} s noch nicht: {what}"
        time.sleep(0.2)


# --- Die Dateien


@pytest.mark.parametrize("name", FILES)
def test_compose_accepts_the_files(needs_docker, name):
    files = [part for file in FILES[name] for part in ("-f", STACK / file)]
    command = ["docker", "compose", *files, "--profile", "*", "config", "--quiet"]
    done = subprocess.run(process._command(command), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    # Die Fassung aus alten Anleitungen trägt noch `version`; sonst warnt Compose vor nichts.
    assert ("obsolete" in done.stderr) == (name == "naive")


def test_files_keep_the_schema_of_compose():
    assert schema_accepts(*STACK.rglob("*.yaml"))


def test_schema_finds_a_misspelt_key(tmp_path):
    wrong = tmp_path / "compose.yaml"
    text = (STACK / "compose.yaml").read_text(encoding="utf-8")
    wrong.write_text(text.replace("replicas: 3", "replica: 3"), encoding="utf-8")
    assert not schema_accepts(wrong)


def schema_accepts(*paths: Path) -> bool:
    program = needs.program("check-jsonschema", "make test richtet es ein")
    command = [program, "--builtin-schema", "vendor.compose-spec", *paths]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_no_file_names_a_version_nor_a_moving_image():
    content = yaml.safe_load((STACK / "compose.yaml").read_text(encoding="utf-8"))
    assert "version" not in content
    assert set(content["services"]) == SERVICES
    for service in content["services"].values():
        assert re.search(r":(v?\d|\$\{PRICE_VERSION:-\d)", service["image"])


def test_only_the_load_balancer_publishes_a_port_and_only_on_loopback():
    services = yaml.safe_load((STACK / "compose.yaml").read_text(encoding="utf-8"))["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"lb": ["127.0.0.1:${PRICE_PORT:-8141}:8080"]}


# --- Das Secret


def test_secret_is_random_kept_and_readable_only_where_needed(tmp_path):
    for name in ("a", "b"):
        secret.create(tmp_path / name)
    first, second = ((tmp_path / name / "monitoring.password").read_text() for name in ("a", "b"))
    assert first != second and len(first) >= 32
    secret.create(tmp_path / "a")
    assert (tmp_path / "a" / "monitoring.password").read_text() == first
    if sys.platform != "win32":
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a").iterdir()}
        assert modes == {"monitoring.password": 0o600, "monitoring.htpasswd": 0o644}
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert first not in (tmp_path / "a" / "monitoring.htpasswd").read_text()


def test_secret_in_a_file_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    monkeypatch.setattr(sys, "argv", ["secret", str(tmp_path / "a")])
    with pytest.raises(SystemExit, match="Der Ordner für das Passwort lässt sich nicht anlegen"):
        runpy.run_path(secret.__file__, run_name="__main__")


def test_secret_is_ignored_by_git():
    ignored = ["git", "check-ignore", "--quiet", str(secret.FOLDER / "monitoring.password")]
    assert subprocess.run(ignored, cwd=process.ROOT).returncode == 0


# --- Der laufende Stapel


def test_everything_that_runs_is_hardened_and_limited(stack):
    for service in ("api", "lb", "prometheus"):
        for container in containers(stack, service):
            found = inspect(container)
            host = found["HostConfig"]
            assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]
            assert "no-new-privileges:true" in host["SecurityOpt"]
            assert host["RestartPolicy"]["Name"] == "unless-stopped"
            assert host["Memory"] > 0 and host["NanoCpus"] > 0 and host["PidsLimit"] > 0
            assert found["Config"]["User"] not in ("", "0", "root")


def test_replica_cannot_write(stack):
    with pytest.raises(process.ProcessError, match="Read-only file system"):
        stack("exec", "-T", "api", "python", "-c", "open('/srv/x', 'w')")


@pytest.mark.skipif(sys.platform != "linux", reason="nur unter Linux gehört die Bridge dem Rechner")
def test_replica_knows_no_way_out(stack):
    networks = inspect(containers(stack, "lb")[0])["NetworkSettings"]["Networks"]
    gateway = networks[f"{stack.project}_frontend"]["Gateway"]
    with socket.create_server((gateway, 0)) as outside:
        port = outside.getsockname()[1]
        stack("exec", "-T", "lb", "bash", "-c", f"exec 3<>/dev/tcp/{gateway}/{port}")
        connect = f"import socket; socket.create_connection(('{gateway}', {port}), 2)"
        with pytest.raises(process.ProcessError, match="OSError|Timeout|timed out"):
            stack("exec", "-T", "api", "python", "-c", connect)


@pytest.mark.skipif(sys.platform != "linux", reason="nur unter Linux sieht der Rechner die Bridge")
@pytest.mark.parametrize(
    ("service", "page"),
    [("api", ":8000/health/live"), ("prometheus", ":9090/prometheus/-/healthy")],
)
def test_nothing_behind_the_load_balancer_answers_the_machine(stack, service, page):
    for container in containers(stack, service):
        (network,) = inspect(container)["NetworkSettings"]["Networks"].values()
        try:
            # Ohne Weg zur Bridge geht die Frage ins Netz, und dort kann irgendwer antworten.
            answer = httpx.get(f"http://{network['IPAddress']}{page}", timeout=1)
        except httpx.TransportError:
            continue
        assert answer.status_code != 200


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 2**20 + 1])
def test_load_balancer_refuses_too_much_like_the_service(stack, size):
    field, reason = REFUSALS[413]
    answer = httpx.post(f"{stack.url}/predict", content=b" " * size)
    assert answer.status_code == 413
    assert answer.json() == {"detail": [{"field": field, "reason": reason}]}


def test_metrics_and_monitoring_are_not_public(stack):
    assert httpx.get(f"{stack.url}/metrics").status_code == 404
    query = f"{stack.url}/prometheus/api/v1/query?query=up"
    assert httpx.get(query).status_code == 401
    assert httpx.get(query, auth=("leserin", "geraten")).status_code == 401
    assert httpx.get(query, auth=login(stack)).json()["status"] == "success"


def test_missing_registry_does_not_disturb_the_rest(stack):
    assert httpx.get(f"{stack.url}/mlflow/", auth=login(stack)).status_code == 502
    assert httpx.get(f"{stack.url}/health/ready").status_code == 200


def test_secret_appears_in_no_description(stack):
    _, password = login(stack)
    described = stack("--profile", "*", "config")
    described += docker("inspect", *stack("ps", "--quiet").split())
    hashed = (Path(stack.env["PRICE_SECRETS"]) / "monitoring.htpasswd").read_text()
    assert "monitoring.htpasswd" in described
    assert password not in described and hashed.strip() not in described


def test_prometheus_counts_exactly_what_was_answered(stack):
    query = 'sum(price_requests_total{route="/predict",status="200"}) or vector(0)'
    before = value(stack, query)
    assert summary(run(stack.url, 60, clients=8, max_requests=120))["answered"] == 120
    wait_for(lambda: value(stack, query) >= before + 120, "Prometheus hat alles abgeholt")
    assert value(stack, query) == before + 120
    assert value(stack, "count(up == 1)") == 3


def value(stack: ComposeStack, query: str) -> float:
    url = f"{stack.url}/prometheus/api/v1/query"
    answer = httpx.get(url, params={"query": query}, auth=login(stack))
    results = answer.json()["data"]["result"]
    return float(results[0]["value"][1]) if results else 0


def test_killed_replica_costs_at_most_a_begun_answer_and_stays_dead(healed):
    victim = containers(healed, "api")[0]
    counted, code = under_load.measure(healed.url, ["docker", "kill", victim])
    assert code == 0 and counted["sent"] > 80
    # Kopf und Körper der Antwort sind zwei Pakete. Stirbt der Prozess genau dazwischen, hat nginx
    # den Kopf schon angenommen und kann nicht mehr wiederholen: Eine kann so verloren gehen.
    cut = counted["by_status"].get("IncompleteRead", 0)
    assert counted["failed"] == cut <= 1, counted["by_status"]
    # `docker kill` gilt als Absicht; `restart` greift nur, wenn der Prozess von selbst endet.
    assert inspect(victim)["State"]["Status"] == "exited"


def test_ended_replica_is_restarted(healed):
    victim = containers(healed, "api")[0]
    counted, code = under_load.measure(
        healed.url,
        ["docker", "exec", victim, "python", "-c", "import os; os.kill(1, 15)"],
    )
    assert code == 0 and counted["failed"] == 0, counted["by_status"]
    wait_for(lambda: inspect(victim)["RestartCount"] == 1, "neu gestartet")
    wait_for(lambda: inspect(victim)["State"]["Health"]["Status"] == "healthy", "wieder gesund")


def test_nginx_learns_new_replicas_only_on_reload(healed):
    healed("up", "--detach", "--wait", "--no-recreate", "--scale", "api=4")
    assert len(containers(healed, "api")) == 4
    assert len(servers(healed)) == 3
    healed("exec", "-T", "lb", "nginx", "-s", "reload")
    wait_for(lambda: len(servers(healed)) == 4, "nginx kennt das vierte Replikat")


def servers(stack: ComposeStack) -> dict:
    counted = summary(run(stack.url, 30, clients=8, max_requests=40, keep=False))
    assert counted["failed"] == 0
    return counted["by_server"]


# --- Ersetzen


def versions(stack: ComposeStack) -> Counter:
    with httpx.Client(base_url=stack.url) as client:
        return Counter(
            client.post("/predict", json=stone()).json()["model_version"] for _ in range(12)
        )


@pytest.fixture(scope="module")
def next_image(image):
    release.build("1.1.0")


def test_replacing_one_after_the_other_costs_no_request(healed, next_image):
    assert versions(healed) == {"1.0.0": 12}
    command = [sys.executable, "-m", "examples.compose_stack.rollout", "1.1.0"]
    env = {**healed.env, "PYTHONPATH": str(process.ROOT)}
    counted, code = under_load.measure(
        healed.url,
        ["env", *(f"{k}={v}" for k, v in env.items()), *command, "--project", healed.project],
    )
    assert code == 0 and counted["sent"] > 100
    assert counted["failed"] == 0, counted["by_status"]
    assert versions(healed) == {"1.1.0": 12}
    assert set(rollout.replicas(healed.project).values()) == {"1.1.0"}


def test_replacing_all_at_once_loses_requests(stack):
    # Ersetzt wird jedes Replikat, gleich welcher Fassung: Vorher muss keines geheilt werden.
    stack("exec", "-T", "lb", "nginx", "-s", "reload")  # der Load Balancer kennt die von jetzt
    up = ["up", "--detach", "--wait", "--force-recreate", "api"]
    command = process._command([*stack.command, *up])
    env = [f"{name}={value}" for name, value in stack.env.items()]
    counted, code = under_load.measure(stack.url, ["env", *env, *command])
    assert code == 0
    assert counted["failed"] > 0 and counted["sent"] == counted["answered"] + counted["failed"]


def test_unknown_version_changes_nothing(healed, monkeypatch):
    for name, setting in healed.env.items():
        monkeypatch.setenv(name, setting)
    before = containers(healed, "api")
    with pytest.raises(rollout.RolloutError, match="9.9.9"):
        rollout.replace("1.0.0", "9.9.9", healed.project)
    assert containers(healed, "api") == before
    assert versions(healed) == {"1.0.0": 12}


def test_rollout_to_the_running_version_changes_nothing(healed, monkeypatch, capsys):
    for name, setting in healed.env.items():
        monkeypatch.setenv(name, setting)
    before = containers(healed, "api")
    monkeypatch.setattr("sys.argv", ["rollout", "1.0.0", "--project", healed.project])
    assert rollout.main() == 1 and "läuft schon" in capsys.readouterr().err
    assert containers(healed, "api") == before


def test_rollout_needs_exactly_one_running_version(image):
    with pytest.raises(rollout.RolloutError, match="gefunden: keine"):
        rollout.running("price-test-nobody")


# --- Kaputtes Modell, belegter Port, verlorene Daten


def test_corrupt_model_never_becomes_ready_and_the_old_ones_answer_on(image, tmp_path):
    with compose_stack(tmp_path / "secrets", "mounted.yaml") as stack:
        stack("up", "--detach", "--wait")
        spoil(f"{stack.project}_models")
        fourth = ["up", "--detach", "--wait", "--no-recreate", "--scale", "api=4"]
        counted, code = under_load.measure(stack.url, [*impatient(stack, tmp_path), *fourth])
        stack("exec", "-T", "lb", "nginx", "-s", "reload")
        # Je Frage eine neue Verbindung: Beim Reload schließt nginx die ruhenden alten.
        after = summary(run(stack.url, 30, clients=4, max_requests=60, keep=False))
        # Compose meldet den Fehler, und kein Client hat etwas bemerkt.
        assert code != 0 and counted["sent"] > 100
        assert counted["failed"] == after["failed"] == 0, after["by_status"]
        # Auch nach dem Reload fragt nginx das vierte und reicht seine 503 nicht weiter.
        assert len(after["by_server"]) == 3
        assert health(stack) == {"healthy": 3, "unhealthy": 1}


def spoil(volume: str) -> None:
    """Kürzt die Modelldatei in einem Volume, wie ein abgebrochenes Kopieren es täte."""
    cut = "open('/models/price_model.onnx', 'r+b').truncate(1000)"
    mounted = ["--user", "0", "--volume", f"{volume}:/models"]
    docker("run", "--rm", *mounted, "price-api:1.0.0", "python", "-c", cut)


def impatient(stack: ComposeStack, folder: Path) -> list[str]:
    """Der Befehl des Stapels, mit dem ein neues Replikat schon nach Sekunden als krank gilt."""
    extra = folder / "impatient.yaml"
    change = "services: {api: {healthcheck: {start_period: 1s, retries: 3}}}"
    extra.write_text(change, encoding="utf-8")
    settings = [f"{name}={value}" for name, value in stack.env.items()]
    return ["env", *settings, *map(str, stack.command), "-f", str(extra)]


def health(stack: ComposeStack) -> Counter:
    return Counter(inspect(name)["State"]["Health"]["Status"] for name in containers(stack, "api"))


@pytest.fixture
def settings(tmp_path, monkeypatch) -> str:
    """Ein eigenes Projekt für den Starter; danach ist nichts mehr davon da."""
    monkeypatch.setenv("PRICE_SECRETS", str(tmp_path))
    project = f"price-test-{time.monotonic_ns()}"
    yield project
    docker("compose", "-f", STACK / "compose.yaml", "-p", project, "down", "--volumes")


def leftovers(project: str) -> str:
    label = f"label=com.docker.compose.project={project}"
    return docker("ps", "-aq", "--filter", label) + docker("network", "ls", "-q", "--filter", label)


@pytest.mark.parametrize("noticed", ["before", "by docker"])
def test_port_in_use_is_one_sentence_and_leaves_nothing(image, settings, monkeypatch, noticed):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        if noticed == "by docker":  # jemand nahm den Port zwischen Prüfung und Start
            monkeypatch.setattr(start, "taken", lambda port: False)
        problem = start.start(settings, port, [])
    assert str(port) in problem and "\n" not in problem
    assert not leftovers(settings)


def test_start_without_port_says_so(capsys, monkeypatch, image, settings):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        monkeypatch.setattr(sys, "argv", ["start", "--project", settings, "--port", port])
        assert start.main() == 1
    assert capsys.readouterr().err.startswith(f"Nichts gestartet: Port {port} ist belegt.")


def test_measurements_survive_down_but_not_down_with_volumes(stack):
    def known() -> str:
        query = ("query", "instant", f"--time={moment}", "http://127.0.0.1:9090/prometheus", "up")
        return stack("exec", "-T", "prometheus", "promtool", *query)

    only = ("--profile", "monitoring", "up", "--detach", "--wait", "--no-deps", "prometheus")
    moment = int(time.time())
    wait_for(lambda: "=> 1" in known(), "Prometheus hat gemessen")
    stack("--profile", "*", "down")
    stack(*only)
    assert "=> 1" in known()
    stack("--profile", "*", "down", "--volumes")
    stack(*only)
    assert known().strip() == ""


# --- Die Programme drumherum


def test_registry_keeps_a_model_behind_password_and_profile(image, tmp_path):
    process.output(["python", "-m", "examples.compose_stack.registry"], timeout=600)
    with compose_stack(tmp_path) as stack:
        stack("--profile", "registry", "up", "--detach", "--wait", "--scale", "api=1")
        models = f"{stack.url}/mlflow/api/2.0/mlflow/registered-models"
        assert httpx.post(f"{models}/create", json={"name": "price_model"}).status_code == 401
        with httpx.Client(auth=login(stack), timeout=30) as client:
            created = client.post(f"{models}/create", json={"name": "price_model"})
            assert created.status_code == 200, created.text
            found = client.get(f"{models}/get", params={"name": "price_model"})
            # Eine Modelldatei ist größer als alles, was der Preisdienst annimmt.
            file = f"{stack.url}/mlflow/api/2.0/mlflow-artifacts/artifacts/price_model.joblib"
            sent = client.put(file, content=bytes(1_000_000))
            assert sent.status_code == 200, sent.text
            assert len(client.get(file).content) == 1_000_000
        assert found.json()["registered_model"]["name"] == "price_model"


def test_registry_lock_leaves_out_what_only_training_needs():
    lock = (registry.FOLDER / "serving.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    assert {"mlflow", "sqlalchemy", "uvicorn"} <= names
    assert not names & {"scikit-learn", "scipy", "pyarrow", "matplotlib", "skops"}


def test_release_without_model_is_a_sentence(tmp_path):
    with pytest.raises(ModelMissingError, match="make model"):
        release.build("1.1.0", tmp_path)


@pytest.mark.parametrize("arguments", [[], ["latest"], ["1.1"], ["1.1.0", "2.0.0"]])
def test_release_wants_one_version(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["release", *arguments])
    assert release.main() == 2
    assert "Aufruf:" in capsys.readouterr().err


def test_failing_command_under_load_fails_and_says_why(stack, capsys, monkeypatch):
    command = ["docker", "kill", "price-test-nobody"]
    monkeypatch.setattr(sys, "argv", ["under_load", stack.url, "--", *command])
    assert under_load.main() == 1
    captured = capsys.readouterr()
    assert "price-test-nobody" in captured.err and '"sent"' in captured.out


def test_missing_program_under_load_is_a_sentence(stack, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["under_load", stack.url, "--", "dokcer"])
    assert under_load.main() == 1
    assert capsys.readouterr().err.startswith("dokcer lässt sich nicht starten")


def test_start_names_an_impossible_port_and_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(start.subprocess, "run", lambda *_, **__: pytest.fail("Docker gefragt"))
    monkeypatch.setattr(sys, "argv", ["start", "--port", "99999"])
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert ended.value.code == 2 and "kein Port von 1 bis 65535" in capsys.readouterr().err
    (tmp_path / "a").touch()
    monkeypatch.setenv("PRICE_SECRETS", str(tmp_path / "a"))
    monkeypatch.setattr(sys, "argv", ["start"])
    assert start.main() == 1
    said = "Nichts gestartet: Der Ordner für das Passwort lässt sich nicht anlegen: "
    assert capsys.readouterr().err.startswith(said)


def test_mistyped_address_under_load_is_named(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["under_load", "foo", "--", "true"])
    with pytest.raises(SystemExit) as ended:
        under_load.main()
    assert ended.value.code == 2 and "'foo' ist keine Adresse" in capsys.readouterr().err


class Recorded:
    """Ein erfundenes Docker: schreibt Aufrufe auf, `up` scheitert oder wird abgebrochen."""

    def __init__(self, running: str = "", interrupted: bool = False) -> None:
        self.running, self.interrupted, self.calls = running, interrupted, []

    def run(self, command: list, **_: object) -> subprocess.CompletedProcess:
        words = [str(word) for word in command]
        self.calls.append(words)
        if "up" in words:
            if self.interrupted:
                raise KeyboardInterrupt
            return subprocess.CompletedProcess(words, 1, "", "Bind failed\n")
        return subprocess.CompletedProcess(words, 0, self.running if "ps" in words else "", "")

    def said(self, word: str) -> list[list[str]]:
        return [words for words in self.calls if word in words]


@pytest.mark.parametrize(("running", "removed"), [("", True), ("abc123\n", False)])
def test_failed_start_takes_down_only_what_it_brought(monkeypatch, tmp_path, running, removed):
    docker = Recorded(running)
    monkeypatch.setenv("PRICE_SECRETS", str(tmp_path))
    monkeypatch.setattr(start.subprocess, "run", docker.run)
    monkeypatch.setattr(start, "taken", lambda port: False)
    assert start.start("price-test", 8141, []) == "Bind failed"
    # Was vorher schon lief, beantwortet weiter Fragen.
    assert bool(docker.said("down")) == removed


@pytest.mark.parametrize(("running", "removed"), [("", True), ("abc123\n", False)])
def test_interrupted_start_takes_down_only_what_it_brought(
    monkeypatch, tmp_path, capsys, running, removed
):
    docker = Recorded(running, interrupted=True)
    monkeypatch.setenv("PRICE_SECRETS", str(tmp_path))
    monkeypatch.setattr(start.subprocess, "run", docker.run)
    monkeypatch.setattr(start, "taken", lambda port: False)
    monkeypatch.setattr(sys, "argv", ["start"])
    with contextlib.suppress(KeyboardInterrupt):  # sonst endete mit dem Test der ganze Lauf
        assert start.main() == 1
    assert capsys.readouterr().err == "Nichts gestartet: Der Start wurde abgebrochen.\n"
    assert bool(docker.said("down")) == removed


@pytest.mark.parametrize("interrupted", [False, True])
def test_failed_rollout_removes_the_new_and_only_the_new(monkeypatch, capsys, interrupted):
    listed = "price-api-1 1.0.0\nprice-api-2 1.0.0\nprice-api-3 1.1.0\n"
    docker = Recorded(listed, interrupted)
    monkeypatch.setattr(rollout.subprocess, "run", docker.run)
    monkeypatch.setattr(rollout, "running", lambda project: "1.0.0")
    monkeypatch.setattr(sys, "argv", ["rollout", "1.1.0"])
    with contextlib.suppress(KeyboardInterrupt):
        assert rollout.main() == 1
    said = "Der Wechsel wurde abgebrochen." if interrupted else "Bind failed"
    assert capsys.readouterr().err == f"Nicht ganz ersetzt: {said}\n"
    assert [words[-1] for words in docker.said("stop") + docker.said("rm")] == ["price-api-3"] * 2
