"""Das Gate sperrt, der Canary rollt zurück, und der Workflow ruft genau die Stufen auf."""

import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from unittest import mock

import httpx
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import mean_absolute_error

import needs
import process
from contract import free_port, require_environment
from examples.ci_cd_pipeline import (
    canary,
    deploy,
    finish,
    gate,
    image,
    local,
    rules,
    run,
    scenarios,
    slots,
    smoke,
    train,
    users,
)
from examples.ci_cd_pipeline.image import ReleaseError, check_evidence
from examples.price_model import data
from examples.price_model.data import TARGET
from examples.price_model.predict import ARTIFACTS, load_metadata
from examples.price_model.schema import EXAMPLE as STONE
from examples.price_model.schema import FEATURES

MODULE = "examples.ci_cd_pipeline"
EXAMPLE = process.ROOT / "examples" / "ci_cd_pipeline"
DEPLOY = EXAMPLE / "deploy.yml"
BROKEN = sorted((EXAMPLE / "broken").glob("*.yml"))
LOCAL = ["python:ci_cd_pipeline", "-m", f"{MODULE}.local"]


def ran(program: ModuleType, *words: object, code: int = 0, **env: str) -> str:
    """Führt ein Programm aus, verlangt seinen Exitcode und gibt alles zurück, was es sagte."""
    done = subprocess.run(
        [sys.executable, "-m", program.__name__, *map(str, words)],
        cwd=process.ROOT,
        env=process._environment(env),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


def told(program: ModuleType, *words: object, code: int = 0) -> str:
    """Wie `ran`, aber in diesem Prozess: pandas und onnxruntime sind schon da."""
    said = io.StringIO()
    with (
        kept_signals(),
        mock.patch.object(sys, "argv", [program.__name__, *map(str, words)]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        assert program.main() == code, said.getvalue()
    return said.getvalue()


@contextlib.contextmanager
def kept_signals() -> Iterator[None]:
    """Danach gilt wieder, was vorher bei SIGTERM und `SIGINT` geschah."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Die Lage vor einem Lauf; `worse` und `brittle` sind trainiert."""
    folder = tmp_path_factory.mktemp("pipeline")
    for name in ("worse", "brittle"):
        scenarios.prepare(folder, name)
        settings = json.loads((folder / "settings.json").read_text())
        train.train(folder / "stones.csv", settings, folder / name)
    return folder


def judged(folder: Path, candidate: str, *more: object, code: int, how: Callable = told) -> str:
    pair = ["--champion", folder / "champion", "--candidate", folder / candidate]
    return how(gate, *pair, "--testset", folder / "testset.csv", *more, code=code)


def test_a_delivery_can_come_from_a_changed_world(tmp_path):
    files = ("stones.csv", "testset.csv")
    scenarios.prepare(tmp_path, "good")
    before = {name: pd.read_csv(tmp_path / name) for name in files}
    scenarios.prepare(tmp_path, "good", "concept")
    # Das nächste Szenario behält, was geliefert wurde.
    scenarios.prepare(tmp_path, "worse")
    for name in files:
        after = pd.read_csv(tmp_path / name)
        assert after.drop(columns=TARGET).equals(before[name].drop(columns=TARGET))
        assert after[TARGET].to_numpy() == pytest.approx(1.15 * before[name][TARGET].to_numpy())
    scenarios.prepare(tmp_path, "good", "none")
    assert pd.read_csv(tmp_path / "testset.csv").equals(before["testset.csv"])


def test_an_unknown_drift_changes_nothing(tmp_path):
    said = ran(scenarios, tmp_path, "good", "--drift", "unheard", code=1)
    assert "Die Drift 'unheard' gibt es nicht." in said and not list(tmp_path.iterdir())


def test_champion_passes_against_itself(folder):
    assert "gesperrt" not in judged(folder, "champion", code=0)


def test_worse_model_is_blocked_and_numbers_agree_with_sklearn(folder):
    report = folder / "worse.json"
    assert "gesperrt" in judged(folder, "worse", "--report", report, code=1, how=ran)
    found = json.loads(report.read_text())
    table = pd.read_csv(folder / "testset.csv")
    import joblib

    for part, name in (("champion_usd", "champion"), ("candidate_usd", "worse")):
        pipeline = joblib.load(folder / name / "price_model.joblib")
        expected = mean_absolute_error(table[TARGET], pipeline.predict(table[list(FEATURES)]))
        assert found["parts"]["alle"][part] == pytest.approx(expected, abs=0.05)
    assert sum(p["rows"] for n, p in found["parts"].items() if n != "alle") == len(table)


def test_tolerance_decides(folder):
    wide = ["--tolerance", "0.9", "--segment-tolerance", "0.9"]
    judged(folder, "worse", *wide, code=0)


def test_segment_blocks_although_the_total_is_better():
    rng = np.random.default_rng(0)
    champion = np.concatenate([rng.uniform(10, 90, 500), rng.uniform(500, 900, 500)])
    candidate = champion * np.repeat([1.5, 0.9], 500)
    assert gate.compare(candidate, champion, 0.02)["passed"]
    assert not gate.compare(candidate[:500], champion[:500], 0.15)["passed"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: (f / "testset.csv").write_text("carat,price\n1,2\n"),
        lambda f: (f / "testset.csv").write_text(",".join([*FEATURES, TARGET]) + "\n"),
        lambda f: (f / "candidate" / "price_model.onnx").write_bytes(b"kaputt"),
        lambda f: shutil.rmtree(f / "champion"),
    ],
    ids=["columns", "empty", "model", "no champion"],
)
def test_gate_without_an_answer_stays_closed(tmp_path, spoil):
    shutil.copytree(ARTIFACTS, tmp_path / "champion")
    shutil.copytree(ARTIFACTS, tmp_path / "candidate")
    data.load_diamonds()[0].head(200).to_csv(tmp_path / "testset.csv", index=False)
    report = tmp_path / "gate.json"
    report.write_text('{"passed": true}')
    spoil(tmp_path)
    said = judged(tmp_path, "candidate", "--report", report, code=2)
    assert said.startswith("Nicht entscheidbar")
    assert not report.exists()


def test_only_what_passed_the_gate_becomes_an_image(folder, tmp_path):
    report = tmp_path / "gate.json"
    for content, reason in (
        (None, "Kein Bericht"),
        ({"passed": False}, "nicht bestanden"),
        ({"passed": "true"}, "nicht bestanden"),
        ({"passed": True, "model_sha256": "0" * 64}, "anderen Modell"),
    ):
        if content is not None:
            report.write_text(json.dumps(content))
        with pytest.raises(ReleaseError, match=reason):
            check_evidence(folder / "worse", report)
    sha256 = gate.sha256(folder / "worse" / "price_model.onnx")
    report.write_text(json.dumps({"passed": True, "model_sha256": sha256}))
    check_evidence(folder / "worse", report)


def test_run_stops_at_the_first_red_stage(folder):
    scenarios.prepare(folder, "broken_data")
    said = ran(run, code=1, PIPELINE_FOLDER=str(folder))
    assert said.splitlines() == ["data       rot", "  test_weight_fits_the_size"]
    assert not (folder / "candidate").exists()


def test_behaviour_finds_what_the_mean_error_hides(folder):
    shutil.copytree(folder / "brittle", folder / "candidate", dirs_exist_ok=True)
    judged(folder, "candidate", code=0)
    said = ran(run, "model", "--folder", folder, code=1)
    assert "test_turning_a_stone_keeps_its_price" in said


def test_bad_calls_are_explained(tmp_path):
    assert "Unbekannt: rollout" in ran(run, "rollout", "--folder", tmp_path, code=2)
    assert "settings.json" in ran(run, "--folder", tmp_path, code=2)
    words = [tmp_path, "staging", "--release", tmp_path / "x.json", "--url", "http://127.0.0.1:9"]
    assert "Nicht ausgerollt" in told(deploy, *words, code=1)
    lonely = f"http://127.0.0.1:{free_port()}"
    assert "antwortet nicht" in told(canary, "--router", lonely, code=1)
    assert "Rauchtest nicht bestanden" in ran(smoke, lonely, "--model", ARTIFACTS, code=1)


# Der Workflow


@pytest.mark.parametrize("path", [DEPLOY, *BROKEN], ids=lambda path: path.stem)
def test_rules_know_good_from_broken(path):
    problems = rules.problems(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert (not problems) == (path == DEPLOY), problems


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("run gate\n", "run gate || true\n", "verschluckt"),
        ("- name: build\n", "- name: build\n        if: always()\n", "nach einem Fehler"),
        ("- name: gate\n", "- name: gate\n        if: false\n", "unter einer Bedingung"),
        ("- name: gate\n", "- name: gate\n        continue-on-error: true\n", "läuft nach"),
        ("run gate\n", "run code\n", "Stufen fehlen: gate"),
        ("@9c091bb21b7c1c1d1991bb908d89e4e9dddfe3e0 # v7.0.0", "@v7", "nicht auf einen Commit"),
    ],
)
def test_each_rule_can_be_broken(old, new, problem):
    text = DEPLOY.read_text(encoding="utf-8")
    assert old in text
    assert any(problem in found for found in rules.problems(yaml.safe_load(text.replace(old, new))))


def test_steps_carry_the_names_of_their_stages():
    steps = yaml.safe_load(DEPLOY.read_text(encoding="utf-8"))["jobs"]["pipeline"]["steps"][1:]
    assert [step["name"] for step in steps] == run.names()
    assert [step["run"].split()[-1] for step in steps] == run.names()


def test_linters_accept_all_but_the_old_workflow():
    for tool, options in (("actionlint", []), ("zizmor", ["--offline", "--pedantic"])):
        program = needs.program(tool, "make test richtet es ein")
        for path in (DEPLOY, *BROKEN):
            done = subprocess.run([program, *options, path], capture_output=True)
            assert (done.returncode == 0) == (path.stem != "vintage"), path.name


@pytest.mark.skipif(sys.platform == "win32", reason="Die Befehle der Workflows sind für sh.")
@pytest.mark.parametrize(
    ("name", "job", "delivered"),
    [("swallowed", "succeeded", True), ("always", "failed", True), ("nothing", "succeeded", False)],
)
def test_act_runs_what_github_would(folder, name, job, delivered):
    require_environment("ci_cd_pipeline")
    scenarios.prepare(folder, "worse")
    shutil.copytree(folder / "worse", folder / "candidate", dirs_exist_ok=True)
    env = {"PIPELINE_FOLDER": str(folder)}
    workflow = f"examples/ci_cd_pipeline/broken/{name}.yml"
    try:
        said = process.output([*LOCAL, "act", workflow], env=env)
    except process.ProcessError as error:
        said = str(error)
    assert f"Job: {job}" in said
    assert ("ausgeliefert" in said) == delivered


# Ausrollen ohne Docker: Plätze, Router und Canary


@pytest.fixture(scope="module")
def platform(folder, tmp_path_factory):
    """Zwei Plätze, auf dem ersten der Champion, davor der Router."""
    state = tmp_path_factory.mktemp("state")
    (state / "production.json").write_text(
        json.dumps({"model": str(ARTIFACTS), "model_version": load_metadata()["model_version"]})
    )
    urls = {n: f"http://127.0.0.1:{free_port()}" for n in ("production", "staging", "router")}
    ports = {name: url.rpartition(":")[2] for name, url in urls.items()}
    slots = ["python", "-m", f"{MODULE}.slots", state]
    for name in ("production", "staging"):
        slots += ["--slot", f"{name}={ports[name]}"]
    router = ["python", "-m", "examples.ab_test.router", "--mode", "canary", "--share", "0"]
    router += ["--control", urls["production"], "--treatment", urls["staging"], "--salt", "test"]
    router += ["--log", state / "log.jsonl", "--port", ports["router"], "--min-requests", "20"]
    router += ["--max-slowdown", "100"]
    services = [process.serve(slots, f"{urls['production']}/health/ready", timeout=90)]
    services.append(process.serve(router, f"{urls['router']}/health", timeout=60))
    yield state, urls
    for service in reversed(services):
        service.stop()


@pytest.fixture
def counter(platform) -> Iterator[str]:
    """Nutzer, solange der Test läuft; danach kosteten sie nur noch Rechenzeit."""
    address = f"http://127.0.0.1:{free_port()}"
    command = ["python", "-m", f"{MODULE}.users", platform[1]["router"]]
    command += ["--port", address.rpartition(":")[2], "--rate", "60"]
    service = process.serve(command, address, timeout=60)
    yield address
    service.stop()


def counted(address: str) -> dict:
    return httpx.get(address, timeout=10).json()


def test_good_candidate_reaches_everyone(folder, platform, counter):
    state, urls = platform
    said = told(deploy, state, "staging", "--model", folder / "brittle", "--url", urls["staging"])
    assert "1.3.0" in said
    told(smoke, urls["staging"], "--model", folder / "brittle")
    told(canary, "--router", urls["router"], "--requests", "25", "--timeout", "60")
    assert counted(f"{urls['router']}/split")["share"] == 1
    seen = counted(counter)
    assert seen["failed"] == 0 and seen["by_version"]["1.3.0"] > 20
    # Abschließen: Produktion übernimmt, der Platz des Kandidaten wird leer.
    take = ["--from", "staging", "--url", urls["production"]]
    told(deploy, state, "production", *take)
    told(canary, "--router", urls["router"], "--requests", "1000000", "--timeout", "1", code=1)
    assert counted(f"{urls['router']}/split")["share"] == 0
    assert counted(counter)["failed"] == 0


def test_hasty_candidate_is_rolled_back_and_no_user_notices(folder, platform, counter):
    state, urls = platform
    before = (state / "production.json").read_text()
    scenarios.prepare(folder, "hasty")
    wanted = {
        "model": str(folder / "candidate"),
        "model_version": "1.5.0",
        "app": scenarios.SCENARIOS["hasty"]["app"],
    }
    (state / "wanted.json").write_text(json.dumps(wanted))
    release = ["--release", state / "wanted.json", "--url", urls["staging"]]
    told(deploy, state, "staging", *release)
    # Der Rauchtest fragt nach einem anderen Schliff und merkt nichts.
    told(smoke, urls["staging"], "--model", folder / "candidate")
    assert "zurückgerollt" in told(canary, "--router", urls["router"], "--timeout", "60", code=1)
    split = counted(f"{urls['router']}/split")
    assert split["share"] == 0 and "gescheitert" in split["rollback"]["reason"]
    assert split["arms"]["treatment"]["failed"] > 0
    assert counted(counter)["failed"] == 0
    assert (state / "production.json").read_text() == before


def test_another_service_under_the_same_version_is_waited_for(folder, platform, tmp_path):
    state, urls = platform
    scenarios.prepare(folder, "hasty")
    wanted = {"model": str(folder / "candidate"), "model_version": "1.5.0"}
    # Very Good kann nur der alte Dienst beantworten; beide nennen Version 1.5.0.
    question = {**STONE, "cut": "Very Good"}
    for app, status in ((slots.APP, 200), (scenarios.SCENARIOS["hasty"]["app"], 500)):
        (tmp_path / "wanted.json").write_text(json.dumps(wanted | {"app": app}))
        release = ["--release", tmp_path / "wanted.json", "--url", urls["staging"]]
        told(deploy, state, "staging", *release)
        answer = httpx.post(f"{urls['staging']}/predict", json=question, timeout=10)
        assert answer.status_code == status


@pytest.mark.parametrize("app", [image.APP, scenarios.SCENARIOS["hasty"]["app"]])
def test_the_image_gets_all_files_its_service_needs(tmp_path, app):
    for name in image.CODE:
        target = tmp_path / "examples" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image.EXAMPLES / name, target)
    load = f"import importlib; importlib.import_module({app.partition(':')[0]!r})"
    command = [sys.executable, "-c", load]
    # Nur diese Dateien: Das Grundimage darf nichts dazutun müssen, was sich ändern kann.
    subprocess.run(command, cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": ""})


def test_failed_deployment_restores_what_was_there(platform, tmp_path):
    state, urls = platform
    before = (state / "production.json").read_text()
    broken = tmp_path / "model"
    shutil.copytree(ARTIFACTS, broken)
    (broken / "price_model.onnx").write_bytes(b"kaputt")
    (broken / "metadata.json").write_text('{"model_version": "9.9.9"}')
    words = ["--model", broken, "--url", urls["production"], "--timeout", "3"]
    assert "Nicht ausgerollt" in told(deploy, state, "production", *words, code=1)
    assert (state / "production.json").read_text() == before


@pytest.mark.parametrize(
    "content",
    [
        '{"imgae": 1}',
        "[1]",
        '{"image": null}',
        "{",
        '"x"',
        '{"model": 1}',
        '{"model": "x", "app": 1}',
        '{"model": "a\\u0000b"}',
        '{"image": "a\\u0000b"}',
        '{"model": "a\\ud800b"}',
        "[" * 100_000,
    ],
    ids=lambda content: content[:20],
)
def test_a_wrong_state_stops_nothing(tmp_path, content):
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    slot = slots.Slot("staging", 1, tmp_path)
    slot.process, slot.running = running, {"model": "alt"}
    slot.file.write_text(content, encoding="utf-8")
    try:
        slot.reconcile()
        assert running.poll() is None
    finally:
        slot.stop()


@pytest.mark.parametrize(
    ("wanted", "url"),
    [
        ({"image": "x@sha256:0"}, "http://127.0.0.1:1"),
        ({"model": "x", "model_version": "2"}, "http://[::1"),
        ({"model": "x", "model_version": "2"}, "http://127.0.0.1:1"),
    ],
)
def test_what_was_not_delivered_is_taken_back(tmp_path, wanted, url):
    file = tmp_path / "production.json"
    file.write_text('{"alt": 1}', encoding="utf-8")
    with pytest.raises((deploy.DeployError, KeyError)):
        deploy.deploy(file, wanted, url, 0.3)
    assert file.read_text(encoding="utf-8") == '{"alt": 1}'


@pytest.fixture
def silent_router() -> Iterator[tuple[str, list[float]]]:
    """Ein Router, den niemand fragt: seine Adresse und jeder gesetzte Anteil."""
    shares: list[float] = []

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            shares.append(json.loads(body)["share"])
            self.do_GET()

        def do_GET(self) -> None:
            share = shares[-1] if shares else 0
            arms = {"treatment": {"assigned": 0}}
            body = json.dumps({"share": share, "rollback": None, "arms": arms}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", shares
        server.shutdown()


def test_canary_without_traffic_does_not_pass(silent_router):
    url, shares = silent_router
    said = told(canary, "--router", url, "--timeout", "0.3", code=1)
    assert "kamen nur 0 von 50 Fragen" in said
    assert shares == [0.25, 0]


def weighed(tmp_path, monkeypatch, rows: int, factors: tuple[float, float]) -> dict:
    """Entscheidet über Fehler, die erfunden sind: je ein Faktor für leichte und schwere Steine."""
    table = data.load_diamonds()[0].sample(rows, random_state=0)
    table.to_csv(tmp_path / "testset.csv", index=False)
    shutil.copytree(ARTIFACTS, tmp_path / "candidate")
    champion = 100 * table["carat"].to_numpy() ** 2
    changed = champion * np.where(table["carat"] < 0.5, *factors)
    errors = {"candidate": changed}
    monkeypatch.setattr(
        gate, "absolute_errors", lambda folder, _: errors.get(folder.name, champion)
    )
    return gate.decide(ARTIFACTS, tmp_path / "candidate", tmp_path / "testset.csv")


def test_one_bad_segment_blocks_the_whole_candidate(tmp_path, monkeypatch):
    report = weighed(tmp_path, monkeypatch, 2000, (1.5, 0.9))
    parts = {name: part["passed"] for name, part in report["parts"].items()}
    assert parts.pop("alle") and not parts.pop("unter 0,5 ct") and all(parts.values())
    assert report["passed"] is False


def test_too_few_stones_decide_nothing(tmp_path, monkeypatch):
    with pytest.raises(gate.UndecidableError, match="99 Zeilen, nötig sind 100"):
        weighed(tmp_path, monkeypatch, 99, (0.9, 0.9))


def test_a_whole_run_forgets_what_the_last_one_left(tmp_path, monkeypatch):
    (tmp_path / "settings.json").write_text('{"app": "x"}', encoding="utf-8")
    (tmp_path / "candidate").mkdir()
    for name in ("gate.json", "release.json", "candidate/price_model.onnx"):
        (tmp_path / name).write_text("von gestern", encoding="utf-8")
    monkeypatch.setattr(run, "run", lambda *_: 1)
    for stages, left in ((["build"], 4), ([], 1)):
        monkeypatch.setattr(sys, "argv", ["run", *stages, "--folder", str(tmp_path)])
        assert run.main() == 1
        assert len(list(tmp_path.iterdir())) == left


def test_stages_in_another_order_are_a_problem():
    workflow = yaml.safe_load(DEPLOY.read_text(encoding="utf-8"))
    steps = workflow["jobs"]["pipeline"]["steps"]
    gate_at, build_at = (run.names().index(name) + 1 for name in ("gate", "build"))
    steps[gate_at], steps[build_at] = steps[build_at], steps[gate_at]
    assert rules.problems(workflow) == ["Stufen vertauscht"]


@pytest.mark.parametrize("added", ["|| :", "|| exit 0", "; true"])
def test_every_way_to_swallow_the_exit_code_is_found(added):
    workflow = yaml.safe_load(DEPLOY.read_text(encoding="utf-8"))
    workflow["jobs"]["pipeline"]["steps"][1]["run"] += f" {added}"
    assert "data: verschluckt den Exitcode" in rules.problems(workflow)


@pytest.mark.parametrize(
    ("spoiled", "problem"),
    [
        ({}, []),
        ({"ready": 503}, ["nicht bereit"]),
        ({"version": "9.9.9"}, ["falsche Modellversion"]),
        ({"more": 1}, ["anderer Preis als das Modell"]),
        ({"bad": 200}, ["negatives Gewicht nicht abgelehnt"]),
        ({"status": 500}, ["Beispielfrage mit 500 beantwortet"]),
    ],
)
def test_smoke_test_finds_what_is_wrong(monkeypatch, spoiled, problem):
    version = load_metadata()["model_version"]

    def service(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(spoiled.get("ready", 200))
        if json.loads(request.content)["carat"] < 0:
            return httpx.Response(spoiled.get("bad", 422))
        price = 2987.87 + spoiled.get("more", 0)
        content = {"price_usd": price, "model_version": spoiled.get("version", version)}
        return httpx.Response(spoiled.get("status", 200), json=content)

    client = functools.partial(httpx.Client, transport=httpx.MockTransport(service))
    monkeypatch.setattr(smoke.httpx, "Client", client)
    assert smoke.problems("http://staging", ARTIFACTS) == problem


@pytest.mark.parametrize("honest", [True, False])
def test_digest_is_the_one_of_the_content(monkeypatch, honest):
    content = b'{"schemaVersion": 2}'
    right = f"sha256:{hashlib.sha256(content).hexdigest()}"
    headers = {"Docker-Content-Digest": right if honest else f"sha256:{'0' * 64}"}
    answer = httpx.Response(200, content=content, headers=headers)
    answer.request = httpx.Request("GET", "http://registry")
    monkeypatch.setattr(image.httpx, "get", lambda *_, **__: answer)
    if honest:
        assert image.digest("127.0.0.1:1/price-api:1.0.0") == right
    else:
        with pytest.raises(ReleaseError, match="Inhalt und Digest"):
            image.digest("127.0.0.1:1/price-api:1.0.0")


def test_interrupted_deployment_restores_what_was_there(tmp_path, monkeypatch):
    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy, "await_version", interrupt)
    file = tmp_path / "production.json"
    file.write_text('{"alt": 1}', encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        deploy.deploy(file, {"model": "x", "model_version": "2"}, "http://127.0.0.1:1", 1)
    assert file.read_text(encoding="utf-8") == '{"alt": 1}'


def test_a_service_that_died_is_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "command", lambda *_: ([sys.executable, "-c", "pass"], {}))
    slot = slots.Slot("staging", 1, tmp_path)
    slot.file.write_text('{"model": "x"}', encoding="utf-8")
    slot.reconcile()
    first = slot.process
    first.wait(30)
    slot.reconcile()
    try:
        assert slot.process is not first
    finally:
        slot.stop()


def test_image_on_a_slot_is_hardened_and_only_reachable_from_here():
    words, _ = slots.command("staging", 8237, {"image": "price-api@sha256:0"})
    assert words[words.index("--publish") + 1] == "127.0.0.1:8237:8000"
    for option in (["--read-only"], ["--cap-drop", "ALL"], ["--security-opt", "no-new-privileges"]):
        at = words.index(option[0])
        assert words[at : at + len(option)] == option


def test_rollback_after_the_last_step_stops_before_production():
    options = run.read_options([])
    check = run.stages(Path(), options, "x")["production"][0]
    assert check[2:] == [f"{MODULE}.canary", "--router", options.router, "--steps"]
    arms = {"treatment": {"assigned": 50}}
    for rollback in (None, {"reason": "zu langsam"}):
        state = httpx.Response(200, json={"rollback": rollback, "share": 0, "arms": arms})
        state.request = httpx.Request("GET", "http://router")
        transport = httpx.MockTransport(lambda _, state=state: state)
        with httpx.Client(base_url="http://router", transport=transport) as client:
            if rollback:
                with pytest.raises(canary.CanaryError, match="zurückgerollt"):
                    canary.ramp(client, [], 1, 1)
            else:
                canary.ramp(client, [], 1, 1)


def test_share_left_behind_is_taken_back_before_the_slot_changes(silent_router):
    url, shares = silent_router
    check = run.stages(Path(), run.read_options(["--router", url]), "x")["staging"][0]
    assert check[2:] == [f"{MODULE}.canary", "--router", url, "--stop"]
    for share, sent in ((1, [0]), (0, [])):
        shares[:] = [share]
        assert not told(canary, "--router", url, "--stop")
        assert shares == [share, *sent]


def test_terminated_canary_takes_the_candidate_out(silent_router):
    url, shares = silent_router
    command = [sys.executable, "-m", f"{MODULE}.canary", "--router", url, "--timeout", "60"]
    with subprocess.Popen(command, cwd=process.ROOT, stderr=subprocess.PIPE) as ramping:
        deadline = time.monotonic() + 30
        while not shares:
            assert ramping.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        ramping.terminate()
        said = ramping.communicate(timeout=30)[1].decode()
    assert ramping.returncode == 1 and "abgebrochen" in said and "Traceback" not in said
    assert shares == [0.25, 0]


@pytest.mark.parametrize(
    ("first", "later"),
    [(None, "withdraw"), (signal.SIGTERM, "give_up"), (signal.SIGINT, "give_up")],
)
def test_later_signals_do_not_keep_the_share(silent_router, monkeypatch, first, later):
    url, shares = silent_router
    undisturbed = getattr(canary, later)

    def ramp(client: httpx.Client, *_: object) -> None:
        canary.split(client, 0.25, "")
        if first is None:
            raise canary.CanaryError("zu wenige Fragen")
        signal.raise_signal(first)

    def disturbed(*arguments: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        undisturbed(*arguments)

    monkeypatch.setattr(canary, "ramp", ramp)
    monkeypatch.setattr(canary, later, disturbed)
    monkeypatch.setattr(sys, "argv", ["canary", "--router", url])
    # Ein `KeyboardInterrupt` beendete mit dem Test den ganzen Lauf.
    with kept_signals(), contextlib.suppress(KeyboardInterrupt):
        assert canary.main() == 1
    assert shares == [0.25, 0]


def test_terminated_deployment_restores_what_was_there(tmp_path):
    """SIGTERM kommt, während auf eine Antwort des Neuen gewartet wird."""
    file, wanted = tmp_path / "production.json", tmp_path / "wanted.json"
    file.write_text('{"alt": 1}', encoding="utf-8")
    wanted.write_text('{"model": "x", "model_version": "2"}', encoding="utf-8")
    words = [tmp_path, "production", "--release", wanted, "--url", "http://127.0.0.1:1"]
    command = [sys.executable, "-m", f"{MODULE}.deploy", *map(str, words)]
    with subprocess.Popen(command, cwd=process.ROOT, stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 30
        while "alt" in file.read_text(encoding="utf-8"):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        running.terminate()
        said = running.communicate(timeout=30)[1].decode()
    assert running.returncode == 143 and "Traceback" not in said
    assert file.read_text(encoding="utf-8") == '{"alt": 1}'


def test_champion_stays_until_the_whole_candidate_is_copied(tmp_path, monkeypatch, capsys):
    for name in ("previous", "champion", "candidate"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.json").write_text(name, encoding="utf-8")
    gap = tmp_path / "candidate" / "price_model.onnx"
    gap.symlink_to("fehlt")
    monkeypatch.setattr(finish, "split", lambda *_: None)
    monkeypatch.setattr(finish, "assigned", lambda *_: 0)
    words = ["finish", str(tmp_path), "--router", "http://127.0.0.1:1"]
    monkeypatch.setattr(sys, "argv", words)
    assert finish.main() == 1
    assert "nicht alle Dateien ließen sich kopieren" in capsys.readouterr().err
    names = ("champion", "previous")
    read = [(tmp_path / name / "metadata.json").read_text("utf-8") for name in names]
    assert read == ["champion", "previous"]
    # Der Rest der halben Kopie hindert den nächsten Versuch nicht.
    gap.unlink()
    assert finish.main() == 0
    read = [(tmp_path / name / "metadata.json").read_text("utf-8") for name in names]
    assert read == ["candidate", "champion"] and not (tmp_path / "champion.new").exists()


@pytest.mark.parametrize("error", [PermissionError, KeyboardInterrupt])
def test_champion_that_cannot_be_replaced_comes_back(tmp_path, monkeypatch, error):
    for name in ("champion", "candidate"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.json").write_text(name, encoding="utf-8")
    replace = Path.replace

    def stuck(path: Path, target: Path) -> Path:
        if path.name == "champion.new":
            raise error
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stuck)
    with pytest.raises(error):
        finish.crown(tmp_path)
    assert (tmp_path / "champion" / "metadata.json").read_text("utf-8") == "champion"


def test_rollback_while_production_is_rolled_out_is_not_erased(tmp_path, monkeypatch, capsys):
    for name in ("champion", "candidate"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.json").write_text(name, encoding="utf-8")

    def assigned(client):
        raise canary.CanaryError("Der Router hat zurückgerollt.")

    monkeypatch.setattr(finish, "assigned", assigned)
    monkeypatch.setattr(finish, "split", lambda *_: pytest.fail("gelöscht"))
    monkeypatch.setattr(sys, "argv", ["finish", str(tmp_path), "--router", "http://127.0.0.1:1"])
    assert finish.main() == 1
    assert "zurückgerollt" in capsys.readouterr().err
    assert (tmp_path / "champion" / "metadata.json").read_text("utf-8") == "champion"


def test_check_that_breaks_off_is_no_agreement(monkeypatch, capsys):
    def called(name, *_):
        return subprocess.CompletedProcess([], 3, stdout="[]" if name == "zizmor" else "")

    monkeypatch.setattr(local, "called", called)
    assert local.lint(["x.yml"]) == 1
    assert "nicht geprüft: actionlint brach ab" in capsys.readouterr().out


def test_broken_yaml_is_a_finding_and_no_crash(tmp_path):
    require_environment("ci_cd_pipeline")
    (tmp_path / "broken.yml").write_text("on: [push\njobs: {", encoding="utf-8")
    with pytest.raises(process.ProcessError, match="nicht geprüft") as refused:
        process.output([*LOCAL, "lint", tmp_path / "broken.yml"])
    assert "actionlint:\n  Zeile" in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_digest_of_another_push_is_not_taken(monkeypatch, tmp_path):
    shutil.copytree(ARTIFACTS, tmp_path, dirs_exist_ok=True)
    for name in ("check_evidence", "build"):
        monkeypatch.setattr(image, name, lambda *_: None)
    pushed, other = (f"sha256:{digit * 64}" for digit in "12")
    monkeypatch.setattr(image, "docker", lambda *_: f"1.0.0: digest: {pushed} size: 1")
    monkeypatch.setattr(image, "digest", lambda _: pushed)
    assert image.release(tmp_path, tmp_path, "r", "a")["image"] == f"r/price-api@{pushed}"
    monkeypatch.setattr(image, "digest", lambda _: other)
    with pytest.raises(ReleaseError, match="schon auf ein anderes Image"):
        image.release(tmp_path, tmp_path, "r", "a")


@pytest.mark.parametrize("tag", ["127.0.0.1:viele/price-api:1.0.0", "[::1/price-api:1.0.0"])
def test_unusable_registry_is_one_sentence(tag):
    with pytest.raises(ReleaseError, match="kennt .* nicht oder antwortet nicht"):
        image.digest(tag)


@pytest.mark.parametrize("url", ["localhost", "http://127.0.0.1:viele", "http://127.0.0.1:65536"])
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (canary, ["--router"]),
        (finish, [".", "--router"]),
        (smoke, ["--model", "."]),
        (users, []),
    ],
)
def test_unusable_address_is_named_before_anybody_is_asked(monkeypatch, capsys, module, words, url):
    monkeypatch.setattr(users, "ThreadingHTTPServer", None)
    monkeypatch.setattr(sys, "argv", [module.__name__, *words, url])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2 and "ist keine Adresse" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "words", "reason"),
    [
        (users, ["http://127.0.0.1:1", "--rate", "0"], "'0' ist keine Zahl über null."),
        (users, ["http://127.0.0.1:1", "--port", "99999"], "'99999' ist kein Port"),
        (slots, [".", "--slot", "staging=99999"], "'99999' ist kein Port"),
    ],
)
def test_impossible_number_is_named(monkeypatch, capsys, module, words, reason):
    # Nähmen sie die Zahl an, liefen beide ohne Ende.
    monkeypatch.setattr(users, "ThreadingHTTPServer", None)
    monkeypatch.setattr(slots, "Slot", None)
    monkeypatch.setattr(sys, "argv", [module.__name__, *words])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2 and reason in capsys.readouterr().err


def test_counting_on_a_busy_port_is_one_sentence(monkeypatch):
    monkeypatch.setattr(users, "ask_forever", lambda *_: pytest.fail("gefragt"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["users", "http://127.0.0.1:1", "--port", str(port)])
        with pytest.raises(SystemExit, match=f"Port {port} lässt sich nicht öffnen: "):
            users.main()
