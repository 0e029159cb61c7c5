"""Auto-Scaling: die Formel, ein echter HPA, und Ray Serve, von dem kein Prozess bleibt."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

import needs
import process
from contract import RAY, free_port, load_into_cluster, require_environment
from examples.auto_scaling import (
    cold_start,
    cost,
    guard,
    kill_replica,
    ray_service,
    scale_ray,
    simulate,
)
from examples.auto_scaling.simulate import Model, TraceError, explained, limited, wanted
from examples.price_model.schema import EXAMPLE

FOLDER = process.ROOT / "examples" / "auto_scaling"
NAMESPACE = "price-scaling"


# --- Die Formel und das Modell


@pytest.mark.parametrize(
    ("replicas", "utilization", "target", "expected"),
    [
        (50, 90, 75, 60),  # das Beispiel aus der Dokumentation von Kubernetes
        (1, 119, 50, 3),
        (4, 42, 50, 4),  # 16 % darunter, aber aufgerundet bleibt es bei vier
        (4, 15, 50, 2),
        (4, 0, 50, 0),
        (3, 54, 50, 3),  # innerhalb der Toleranz
        (3, 56, 50, 4),
        (3, 46, 50, 3),
    ],
)
def test_formula(replicas, utilization, target, expected):
    assert wanted(replicas, utilization, target) == expected


def test_pods_without_measurement_count_as_idle_only_when_growing():
    assert wanted(4, 200, 50, measured=4) == 16
    assert wanted(4, 200, 50, measured=2) == 8
    assert wanted(4, 200, 50, measured=1) == 4  # dreht sich die Richtung um, bleibt alles
    assert wanted(4, 20, 50, measured=2) == 2


def test_result_stays_within_the_limits():
    assert [limited(n, 1, 4) for n in (0, 1, 3, 9)] == [1, 1, 3, 4]


def line(second: float, utilization: int, replicas: int, desired: int) -> dict:
    limits = {"target": 60, "minimum": 1, "maximum": 4}
    counts = {"ready": replicas, "measured": replicas}
    run = {"utilization": utilization, "replicas": replicas, "desired": desired}
    return {"time": second} | run | limits | counts


def trace() -> list[dict]:
    """Ein Lauf, wie ihn der Cluster gab: in zwei Schritten hinauf, in zweien hinunter."""
    steps = [(0, 0, 1, 1), (5, 86, 1, 2), (10, 86, 2, 2), (15, 138, 2, 4), (20, 138, 4, 4)]
    steps += [(25, 80, 4, 4), (30, 78, 4, 4), (35, 20, 4, 4), (40, 6, 4, 4), (45, 6, 4, 4)]
    steps += [(51, 6, 4, 2), (56, 6, 2, 1), (61, 6, 1, 1)]
    return [line(*step) for step in steps]


def test_decisions_of_a_run_are_predicted():
    assert explained(trace()) == [
        {"from": 1, "to": 2, "predicted": True},
        {"from": 2, "to": 4, "predicted": True},
        {"from": 4, "to": 2, "predicted": True},
        {"from": 2, "to": 1, "predicted": True},
    ]


def test_decision_the_formula_does_not_know_is_noticed():
    wrong = trace()
    wrong[6]["desired"] = 3
    assert [d["predicted"] for d in explained(wrong)].count(False) == 1


def test_window_keeps_the_largest_number():
    lines = simulate.replay(trace(), window=20)
    assert [entry["low"] for entry in lines][8:11] == [4, 4, 2]
    assert [entry["low"] for entry in simulate.replay(trace(), window=0)][7:9] == [2, 1]


def test_fit_finds_what_the_run_was_made_from():
    model = Model(demand=300, lag=20, start=2)
    steps = simulate.simulate(simulate.rectangle(5, 50, 300), 110, model)
    made = []
    for step in steps:
        full = step["desired"] == step["ready"] == 4 and step["time"] > 30
        observed = line(step["time"], 75 if full else 0, step["desired"], step["desired"])
        made.append(observed | {"ready": step["ready"]})
    found = simulate.fit(made, load_seconds=45)
    assert (found["lag"], found["begin"], found["demand"]) == (20, 5, 300)
    assert found["difference"] == 0


@pytest.mark.parametrize("broken", [trace()[:3], [line(0, 0, 1, 1)]])
def test_run_that_never_returned_cannot_be_fitted(broken):
    with pytest.raises(TraceError, match="hinauf"):
        simulate.fit(broken, load_seconds=30)


def test_run_that_was_never_complete_cannot_be_fitted():
    starting = [step | {"ready": step["ready"] - (step["replicas"] == 4)} for step in trace()]
    with pytest.raises(TraceError, match="nie alle Replikate bereit"):
        simulate.fit(starting, load_seconds=30)


def test_longer_window_means_fewer_changes_and_more_replicas():
    rows = simulate.windows(Model(demand=240, lag=15, start=5), 60, [0, 60])
    assert rows[0]["changes"] > 10 and rows[1]["changes"] == 0
    assert rows[0]["replica_seconds"] < rows[1]["replica_seconds"]
    assert rows[0]["overloaded_seconds"] > rows[1]["overloaded_seconds"]


def test_new_replica_answers_only_after_its_start():
    slow = simulate.simulate(simulate.rectangle(0, 60, 240), 60, Model(240, lag=5, start=20))
    grown = next(step["time"] for step in slow if step["desired"] == 4)
    ready = next(step["time"] for step in slow if step["ready"] == 4)
    assert ready - grown == 20


@pytest.mark.parametrize("content", [None, "", "keine Spur", '{"time": 1}', "[1]"])
def test_unusable_trace_is_explained(tmp_path, content):
    path = tmp_path / "trace.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(process.ProcessError, match=r"endete mit 1:\n.*trace\.jsonl[^\n]*$"):
        process.output(["python", "-m", "examples.auto_scaling.simulate", "replay", path])
    assert content is not None or not path.exists()


def test_folder_is_no_trace(tmp_path):
    with pytest.raises(TraceError, match=f"Die Spur {tmp_path.name} lässt sich nicht lesen"):
        simulate.read(tmp_path)


# --- Manifeste


def manifests(name: str) -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def test_deployment_leaves_the_number_to_the_autoscaler():
    _, deployment, _ = manifests("service.yaml")
    assert "replicas" not in deployment["spec"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "cpu" in container["resources"]["requests"]
    # Ein Limit für die CPU bremste genau dann, wenn die Last kommt.
    assert "cpu" not in container["resources"]["limits"]


def test_blind_deployment_has_no_requests():
    deployment, autoscaler = manifests("blind.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "resources" not in container
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_load_is_bounded():
    (job,) = manifests("load_job.yaml")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    arguments = dict(zip(container["args"][::2], container["args"][1::2], strict=False))
    assert float(arguments["--seconds"]) <= 60 and int(arguments["--max-requests"]) <= 10_000
    assert job["spec"]["activeDeadlineSeconds"] <= 120 and job["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_manifest_is_valid_for_current_kubernetes(name):
    program = needs.program("kubernetes-validate", "python tools/setup.py checks")
    done = subprocess.run(
        [program, "--strict", FOLDER / name], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- Kosten


def test_price_of_computing_time():
    # Ein Kern zu 0,04 $ je Stunde, ganz ausgelastet: eine Stunde Rechenzeit kostet 0,04 $.
    assert cost.dollars(3600, 0.04, 1) == pytest.approx(0.04)
    assert cost.dollars(3600, 0.04, 0.5) == pytest.approx(0.08)


def test_cost_waits_until_the_other_pod_is_gone(monkeypatch):
    answers = iter([5.0, 1.0] * 10 + [1.0] * 20)
    monkeypatch.setattr(cost, "cpu_seconds", lambda _: next(answers))
    cost.wait_for_one_pod("http://x")
    assert next(answers, None) is None
    both = itertools.cycle([5.0, 1.0])
    monkeypatch.setattr(cost, "cpu_seconds", lambda _: next(both))
    monkeypatch.setattr(cost, "PATIENCE_SECONDS", 0)
    with pytest.raises(SystemExit, match="Ein anderer Pod"):
        cost.wait_for_one_pod("http://x")


@pytest.mark.parametrize("options", [["--price", "0"], ["--price", "1", "--utilization", "1.5"]])
def test_impossible_price_is_refused(options):
    with pytest.raises(process.ProcessError, match="über null"):
        process.output(["python", "-m", "examples.auto_scaling.cost", "http://x", *options])


@pytest.mark.parametrize(
    ("module", "words", "reason"),
    [
        (cost, ["foo", "--price", "1"], "'foo' ist keine Adresse"),
        (cold_start, ["foo"], "'foo' ist keine Adresse"),
        (kill_replica, ["foo"], "'foo' ist keine Adresse"),
        (scale_ray, ["foo", "trace"], "'foo' ist keine Adresse"),
        (ray_service, ["--port", "99999"], "'99999' ist kein Port"),
    ],
)
def test_mistyped_address_or_port_is_named(monkeypatch, capsys, module, words, reason):
    monkeypatch.setattr(sys, "argv", [module.__name__, *words])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2 and reason in capsys.readouterr().err


# --- Der Cluster


@pytest.fixture(scope="module")
def cluster(needs_docker, needs_kubernetes):
    """Der Dienst mit HPA im eigenen Namespace; danach ist davon nichts mehr da."""
    load_into_cluster()
    created = not kubectl("get", "namespace", NAMESPACE, "--ignore-not-found")
    if not created:
        remedy = f"kubectl delete namespace {NAMESPACE}"
        needs.skip_or_fail(f"Den Namespace {NAMESPACE} gibt es schon. Abhilfe: {remedy}")
    try:
        kubectl("apply", *files("service.yaml"))
        kubectl("rollout", "status", "deployment/price-api", "--timeout=60s")
        kubectl("apply", *files("autoscaler.yaml", "blind.yaml"))
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


def files(*names: str) -> list[str]:
    return [f"--filename={FOLDER / name}" for name in names]


def kubectl(*arguments: str) -> str:
    return process.output(["kubectl", "-n", NAMESPACE, *arguments])


def test_manifests_are_accepted_by_the_server(cluster):
    kubectl("apply", "--dry-run=server", *files("service.yaml", "autoscaler.yaml", "load_job.yaml"))


def test_autoscaler_without_requests_cannot_compute(cluster):
    deadline = time.monotonic() + 60
    while "missing request for cpu" not in kubectl("describe", "hpa", "price-blind"):
        assert time.monotonic() < deadline
        time.sleep(1)
    observed = kubectl("get", "hpa", "price-blind", "-o", "jsonpath={.status}")
    assert "currentCPUUtilizationPercentage" not in observed


def test_missing_autoscaler_is_one_german_line(cluster, tmp_path):
    command = ["python", "-m", "examples.auto_scaling.record", tmp_path / "trace", "--until", "1"]
    with pytest.raises(process.ProcessError, match=r"^Befehl endete mit 1:\n`kubectl` meldet: .*$"):
        process.output([*command, "--name", "nirgends"])


def test_service_comes_back_when_the_measurement_fails(monkeypatch):
    scaled = []

    def until(url: str, status: int) -> float:
        if status == 503:
            sys.exit("Nach 60 s kam keine Antwort mit Status 503.")
        return 0.0

    monkeypatch.setattr(cold_start, "until", until)
    monkeypatch.setattr(cold_start, "ask", lambda url: 200)
    monkeypatch.setattr(cold_start, "scale", scaled.append)
    with pytest.raises(SystemExit, match="503"):
        cold_start.measure("http://127.0.0.1:1", 0)
    assert scaled == [0, 1]


# --- Ray Serve


def test_every_autoscaling_setting_really_applies():
    require_environment("auto_scaling")
    # Einen unbekannten Namen verschluckt Ray Serve; `getattr` scheitert daran.
    code = (
        "import json; from ray.serve.config import AutoscalingConfig;"
        "from examples.auto_scaling.ray_service import AUTOSCALING as wanted;"
        "got = AutoscalingConfig(**wanted);"
        "print(json.dumps([wanted, {name: getattr(got, name) for name in wanted}]))"
    )
    wanted, got = json.loads(process.output(["python:auto_scaling", "-c", code]))
    assert wanted and got == wanted


def test_starting_replica_does_not_count_as_work(monkeypatch):
    lines = iter(
        [
            {"seconds": 10.0, "cpu_seconds": {"7": 5.0, "8": 1.0}},
            {"seconds": 13.0, "cpu_seconds": {"7": 5.3, "9": 2.0}},
        ]
    )
    monkeypatch.setattr(scale_ray, "last", lambda trace: next(lines))
    monkeypatch.setattr(scale_ray, "run", lambda *_, **__: None)
    answered = dict.fromkeys(("sent", "answered", "failed", "per_second", "median_ms"), 0)
    monkeypatch.setattr(scale_ray, "summary", lambda _: answered)
    assert scale_ray.segment("", Path(), 8)["cores"] == 0.1


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """Ein Cluster für alle Prüfungen, mit wartender Arbeit: (Adresse, Port, Starter)."""
    require_environment("auto_scaling")
    port, trace = free_port(), tmp_path_factory.mktemp("ray") / "trace.jsonl"
    command = process._command([part.format(port=port) for part in RAY])
    environment = process._environment({"PRICE_DELAY_SECONDS": "0.2"})
    # Nicht mit `process.serve`: Dessen Wächter nähme dem des Clusters die Arbeit ab.
    starter = subprocess.Popen(
        [*command, "--trace", trace], cwd=process.ROOT, env=environment, start_new_session=True
    )
    # Stirbt pytest, so beendet dieser den Starter; den Rest tut der Wächter des Clusters.
    watcher = subprocess.Popen(
        [sys.executable, "-ISc", process.COMMAND_GUARD, str(starter.pid)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not ready(port):
            assert starter.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", port, starter
    finally:
        starter.terminate()  # räumt den Cluster auf, bevor er endet
        with contextlib.suppress(subprocess.TimeoutExpired):
            starter.wait(2 * guard.TIMEOUT_SECONDS)
        starter.kill()
        starter.wait()
        watcher.communicate(process.STOP)


def cluster_of(starter: subprocess.Popen) -> list[psutil.Process]:
    """Alle Prozesse des Clusters, die von seinem Starter stammen."""
    found = psutil.Process(starter.pid)
    return [found, *found.children(recursive=True)]


def test_only_loopback_is_open(ray):
    listening = {
        (process.name(), connection.laddr.ip)
        for process in cluster_of(ray[2])
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, listening


def test_killed_replica_loses_nothing_with_a_second_attempt(ray):
    url, *_ = ray
    command = ["python", "-m", "examples.auto_scaling.kill_replica", url]
    counted = json.loads(process.output([*command, "--attempts", "2"]))
    assert counted["failed"] == 0 and counted["answered"] == counted["sent"] > 10


def test_question_without_an_attempt_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kill_replica", "http://127.0.0.1:1", "--attempts", "0"])
    with pytest.raises(SystemExit) as ended:
        kill_replica.main()
    assert ended.value.code == 2 and "Versuche zählen ab eins." in capsys.readouterr().err


def test_busy_port_is_refused_before_anything_starts(ray):
    _, port, _ = ray
    # Nicht /tmp vergleichen: Dort legt auch der Vertrag nebenher einen Cluster an.
    code = "import sys; from examples.auto_scaling import ray_service as service;"
    code += "service.tempfile.mkdtemp = lambda **_: sys.exit('Ordner angelegt'); service.main()"
    command = process._command([RAY[0], "-c", code, "--port", port])
    environment = process._environment(None)
    done = subprocess.run(
        command, cwd=process.ROOT, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 1 and "belegt" in done.stderr and "Traceback" not in done.stderr


def run_service(*options: object, **variables: str) -> subprocess.CompletedProcess:
    command = process._command([*RAY[:3], *options])
    environment = process._environment(variables)
    return subprocess.run(
        command, cwd=process.ROOT, env=environment, capture_output=True, encoding="utf-8"
    )


def test_missing_model_is_one_german_line(tmp_path):
    require_environment("auto_scaling")
    done = run_service("--port", free_port(), PRICE_MODEL_DIR=str(tmp_path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "make model" in done.stderr


def test_missing_folder_for_the_trace_is_one_german_line(tmp_path):
    require_environment("auto_scaling")
    done = run_service("--port", free_port(), "--trace", tmp_path / "nirgends" / "trace")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Ordner" in done.stderr


def test_guard_recognises_a_process_by_its_folder(tmp_path):
    (tmp_path / "log").touch()
    # Im Aufruf steht der Ordner nicht, nur in der Liste offener Dateien.
    sleeper = "import time; f = open('log'); print('da', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", sleeper]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as child:
        try:
            child.stdout.readline()
            found = psutil.Process(child.pid)
            assert guard.belongs(found, str(tmp_path))
            assert not guard.belongs(found, str(tmp_path / "another"))
            assert guard.end(str(tmp_path), os.getpid())
            assert not found.is_running()
        finally:
            child.kill()


def test_ray_answers_like_the_bare_service(ray):
    answer = httpx.post(f"{ray[0]}/predict", json=EXAMPLE, timeout=30)
    assert answer.json()["price_usd"] == pytest.approx(2988, abs=1)
    assert re.fullmatch(r"[a-z0-9]+", answer.headers["X-Served-By"])


def folder_of(starter: int) -> Path:
    """Liest den Ordner des Clusters aus dem Aufruf des Wächters."""
    for found in psutil.process_iter(["cmdline"]):
        command = found.info["cmdline"] or []
        if command[1:3] == ["-m", "examples.auto_scaling.guard"] and command[-1] == str(starter):
            return Path(command[3])
    raise AssertionError("Es läuft kein Wächter.")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL gibt es unter Windows nicht")
def test_nothing_survives_a_killed_starter(ray):
    """Der letzte Test: Danach gibt es den Cluster nicht mehr."""
    _, port, starter = ray
    folder = folder_of(starter.pid)
    assert folder.is_dir()
    family = cluster_of(starter)
    assert len(family) > 5
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    deadline = time.monotonic() + guard.TIMEOUT_SECONDS
    while any(p.is_running() for p in family) or folder.exists():
        assert time.monotonic() < deadline, [p for p in family if p.is_running()]
        time.sleep(0.1)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port))
