"""Ein Offline-Lauf hält fest, was gerechnet wurde, und verrät niemandem etwas."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import skops.io

import process
from contract import free_port, require_environment
from examples.experiment_tracking_mlflow.variants import TRAIN_ROWS, VALID_ROWS
from examples.experiment_tracking_wandb import watch
from examples.pickle_model.skops_store import MODEL, TRUSTED
from examples.price_model.data import load_diamonds, split
from examples.price_model.pipeline import build_pipeline
from examples.price_model.predict import load_metadata
from needs import skip_or_fail
from tools.run_nbval import LOOPBACK_ONLY

ROOT = Path(__file__).resolve().parents[2]
SLUG = "experiment_tracking_wandb"
PYTHON = f"python:{SLUG}"
SECRET = "nicht-weitersagen"
pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture(scope="module")
def environment():
    require_environment(SLUG)


def output(module: str, *arguments: object, env: dict | None = None) -> str:
    """Ein Programm des Kapitels in seiner Umgebung."""
    return process.output([PYTHON, "-m", f"examples.{SLUG}.{module}", *arguments], env=env)


def ask(module: str, *arguments: object, env: dict | None = None):
    return json.loads(output(module, *arguments, env=env))


def refused(module: str, *arguments: object, env: dict | None = None) -> str:
    """Die Meldung, mit der ein Programm abbricht; genau eine Zeile."""
    with pytest.raises(process.ProcessError) as error:
        output(module, *arguments, env=env)
    ended, line = str(error.value).splitlines()
    assert ended == "Befehl endete mit 1:"
    return line


@pytest.fixture(scope="module")
def searched(tmp_path_factory, environment):
    """Eine abgeschlossene Suche: (Ordner, Antwort der Suche, Läufe nach Namen)."""
    folder = tmp_path_factory.mktemp("wandb")
    found = ask("search", folder)
    return folder, found, {run["name"]: run for run in ask("summary", folder)}


@pytest.fixture(scope="module")
def data():
    X_train, X_test, y_train, y_test = split(load_diamonds()[0])
    cut, end = TRAIN_ROWS, TRAIN_ROWS + VALID_ROWS
    return X_train[:cut], X_train[cut:end], y_train[:cut], y_train[cut:end], X_test, y_test


def retrained(run: dict, data: tuple):
    """Die Pipeline, wiederholt allein aus dem, was in der Datei des Laufs steht."""
    config = run["config"]
    pipeline = build_pipeline().set_params(
        model__learning_rate=config["learning_rate"], model__max_iter=config["max_iter"]
    )
    return pipeline.fit(data[0][: config["train_rows"]], data[2][: config["train_rows"]])


def test_file_holds_what_scikit_learn_computes(searched, data):
    _, found, runs = searched
    attempts = {name: run for name, run in runs.items() if name != "best"}
    assert len(attempts) == found["runs"] == 6
    for run in attempts.values():
        # Unabhängig vom Programm: ein Modell mit genau so vielen Bäumen, Fehler von Hand.
        trees, error = run["curve"][-1]
        assert trees == run["config"]["max_iter"]
        by_hand = (data[3] - retrained(run, data).predict(data[1])).abs().mean()
        assert error == pytest.approx(by_hand, abs=1e-6)
        assert run["finished"] and run["group"] == "search"
        assert [step for step, _ in run["curve"]] == list(range(10, trees + 1, 10))
    # Auch mitten in der Kurve: vierzig Bäume sind vierzig Bäume.
    for rate in (0.03, 0.1, 0.5):
        long = dict(runs[f"rate {rate}, 120 trees"]["curve"])
        assert long[40] == pytest.approx(runs[f"rate {rate}, 40 trees"]["curve"][-1][1], abs=1e-6)


def test_best_run_holds_origin_model_and_table(searched, data, tmp_path):
    folder, found, runs = searched
    best = runs["best"]
    assert best["config"]["data_sha256"] == load_metadata()["data_sha256"]
    assert set(best["artifacts"]) == {"diamonds", "price-model"}
    assert best["artifacts"]["price-model"] == ["candidate", "latest"]
    chosen = min(
        (run for run in runs.values() if run["curve"]), key=lambda run: run["curve"][-1][1]
    )
    again = retrained(chosen, data)
    missed = (data[5] - again.predict(data[4])).abs()
    assert best["metrics"]["test_mae_usd"] == pytest.approx(missed.mean(), abs=1e-6)
    output("fetch", folder, tmp_path)
    model = skops.io.load(tmp_path / MODEL, trusted=TRUSTED)
    assert abs(model.predict(data[4]) - again.predict(data[4])).max() < 0.01
    (path,) = folder.glob("wandb/offline-run-*/files/media/table/*.table.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    read = pd.DataFrame(table["data"], columns=table["columns"]).set_index("cut")
    by_cut = missed.groupby(data[4]["cut"]).mean()
    assert (read["mae_usd"] - by_cut).abs().max() < 1e-6 and read["stones"].sum() == len(data[4])


def test_changed_or_lost_artifact_is_noticed(searched, tmp_path):
    folder = searched[0]
    (staged,) = [
        path
        for path in (folder / "data").rglob("*")
        if path.is_file() and path.stat().st_size > 1e5
    ]
    original = staged.read_bytes()
    staged.write_bytes(original + b"x")
    try:
        changed = refused("fetch", folder, tmp_path / "out")
        staged.unlink()
        lost = refused("fetch", folder, tmp_path / "out")
    finally:
        staged.write_bytes(original)
    assert changed == "model.skops wurde seit dem Lauf verändert."
    assert lost == "model.skops liegt nicht mehr in der Ablage; der Lauf kennt nur den Pfad."
    assert not (tmp_path / "out").exists()


def test_killed_run_keeps_only_what_was_flushed(tmp_path):
    assert ask("mistakes", "crash", tmp_path) == {"logged": 5, "kept": 0, "finished": False}
    often = ask("mistakes", "crash", tmp_path, "--flush", "0.2")
    assert often == {"logged": 5, "kept": 5, "finished": False}


def test_offline_has_neither_versions_nor_backward_steps(probe):
    _, found, runs, _ = probe
    assert [step for step, _ in runs["backwards"]["curve"]] == [10, 20, 30]
    assert runs["server only"]["artifacts"] == {"notes": ["candidate", "latest"]}
    expected = {"digest": 32, "version": "ArtifactNotLoggedError", "use_artifact": "TypeError"}
    assert found == expected


def test_secret_is_kept_out_only_by_the_list(tmp_path):
    found = ask("mistakes", "careless", tmp_path, "--password", SECRET)["found_in"]
    assert found == ["logs/debug.log", "run-….wandb"]
    told = ask("disclose", tmp_path, "careless")
    assert told["host"] and told["config"] == ["db_password", "max_iter"]
    assert SECRET in told["arguments"] and {"executable", "os", "program"} <= set(told["machine"])
    assert {"files/output.log", "files/requirements.txt"} <= set(told["files"])
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert str(ROOT).encode() in log.read_bytes()
    # Gar nichts entsteht, auch kein Ordner mit einem halben Lauf.
    reason = refused("mistakes", "guarded", tmp_path / "guarded", "--password", SECRET)
    assert reason == "Nicht zum Mitschreiben freigegeben: db_password."
    assert not (tmp_path / "guarded" / "wandb").exists()


def test_settings_leave_nothing_about_person_and_machine(searched):
    told = ask("disclose", searched[0], "best")
    quiet = ("host", "git", "machine", "arguments", "system_metrics", "console")
    assert not any(told[name] for name in quiet), told
    assert all(name.startswith("files/media/table/") for name in told["files"])
    for log in searched[0].glob("wandb/offline-run-*/*.wandb"):
        assert str(ROOT).encode() not in log.read_bytes()


def test_save_code_adds_source_and_uncommitted_changes(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import wandb\n", encoding="utf-8")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "Anfang"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    script.write_text(
        "import sys\nimport wandb\n"
        "settings = wandb.Settings(silent=True, save_code=sys.argv[1] == 'yes')\n"
        "with wandb.init(project='price', settings=settings) as run:\n    run.log({'a': 1})\n",
        encoding="utf-8",
    )
    variables = {**os.environ, "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    variables["WANDB_DATA_DIR"] = str(tmp_path)
    python = process._command([PYTHON])[0]
    for answer, expected in (("no", set()), ("yes", {"code/train.py", "diff.patch"})):
        subprocess.run([python, script, answer], cwd=tmp_path, env=variables, check=True)
        files = (tmp_path / "wandb" / "latest-run" / "files").resolve()
        names = {p.relative_to(files).as_posix() for p in files.rglob("*") if p.is_file()}
        assert names & {"code/train.py", "diff.patch"} == expected


def test_online_without_key_stops_before_training(tmp_path):
    # Niemand hört zu: Auch mit einem Schlüssel auf diesem Rechner ginge nichts hinaus.
    nobody = {"WANDB_BASE_URL": f"http://127.0.0.1:{free_port()}", "WANDB_API_KEY": ""}
    nobody["NETRC"] = str(tmp_path / "none")
    reason = refused("search", tmp_path / "runs", "--mode", "online", env=nobody)
    assert reason == "Ohne Schlüssel (WANDB_API_KEY) nimmt W&B nichts an."
    assert not (tmp_path / "runs" / "wandb").exists()


# Mehrere Programme nacheinander: W&B zu laden dauert länger als jedes von ihnen.
CALLS = """
import importlib, json, sys
from unittest import mock

codes = set()
for name, *arguments in json.loads(sys.argv[1]):
    program = importlib.import_module(f"examples.experiment_tracking_wandb.{name}")
    with mock.patch.object(sys, "argv", [name, *arguments]):
        codes.add(program.main())
sys.exit(max(codes) if all(codes) else 0)
"""


def test_programs_fail_in_one_german_line(tmp_path):
    empty, broken = str(tmp_path / "empty"), tmp_path / "wandb" / "offline-run-x"
    broken.mkdir(parents=True)
    (broken / "run-x.wandb").write_bytes(b"kein Protokoll")
    calls = [["summary", empty], ["fetch", empty, str(tmp_path / "out")]]
    calls += [["disclose", empty, "best"], ["store", empty], ["summary", str(tmp_path)]]
    with pytest.raises(process.ProcessError) as error:
        variables = {"PRICE_MODEL_DIR": str(tmp_path)}
        process.output([PYTHON, "-c", CALLS, json.dumps(calls)], env=variables)
    ended, missing, lacking, unknown, untrained, unreadable = str(error.value).splitlines()
    assert ended == "Befehl endete mit 1:"
    assert missing == "Unter empty/wandb/ liegt kein Offline-Lauf."
    assert lacking == "In empty/ liegt kein Lauf mit einem Modell."
    assert unknown == "Unter empty/ gibt es keinen Lauf best."
    assert untrained.endswith("Zuerst ausführen: make model")
    assert unreadable.startswith("run-x.wandb ist nicht lesbar")
    assert not (tmp_path / "empty").exists() and not (tmp_path / "out").exists()


def isolated(*command: object, env: dict | None = None) -> tuple[int, str]:
    """Zählt im eigenen Netz, was hinaus wollte: Verbindungen und Pakete; nennt auch die Ausgabe."""
    if sys.platform != "linux":
        skip_or_fail("Netz-Namensräume gibt es nur auf Linux.")
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    prefix = ["unshare", "--net", *rights, *LOOPBACK_ONLY]
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        skip_or_fail("unshare darf hier keinen Netz-Namensraum anlegen.")
    script = '"$@" >&2 && cat /proc/net/snmp'
    done = subprocess.run(
        [*prefix, "sh", "-c", script, "sh", *process._command([PYTHON, "-m", *command])],
        cwd=ROOT,
        env=process._environment(env),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    counted = {
        f"{names[0]}{name}": int(value)
        for names, values in zip(rows[::2], rows[1::2], strict=True)
        for name, value in zip(names[1:], values[1:], strict=True)
    }
    names = ("Ip:OutNoRoutes", "Tcp:ActiveOpens", "Udp:OutDatagrams")
    return sum(counted[name] for name in names), done.stderr


@pytest.fixture(scope="module")
def probe(tmp_path_factory, environment):
    """Zwei kleine Läufe: (Ordner, Antworten ohne Server, Läufe nach Namen, Versuche)."""
    folder = tmp_path_factory.mktemp("probe")
    found = ask("mistakes", "server_only", folder)
    writing, _ = isolated(f"examples.{SLUG}.mistakes", "backwards", folder)
    reading, said = isolated(f"examples.{SLUG}.summary", folder)
    # Auf stderr kann auch eine Warnung stehen.
    (listed,) = (line for line in said.splitlines() if line.startswith("["))
    runs = {run["name"]: run for run in json.loads(listed)}
    return folder, found, runs, {"writing": writing, "reading": reading}


def test_no_connection_is_even_attempted(probe):
    folder, _, _, attempts = probe
    assert attempts == {"writing": 0, "reading": 0}
    # Die Zählung sieht wirklich etwas: Mit Nutzungsmeldungen will schon der Leser hinaus.
    reporting = {"WANDB_ERROR_REPORTING": "true"}
    assert isolated(f"examples.{SLUG}.summary", folder, env=reporting)[0] > 0


def test_watch_counts_and_names_who_was_meant(probe):
    log, *_ = probe[0].glob("wandb/offline-run-*/*.wandb")
    command = ["--port", free_port(), "--", "-m", "wandb", "leet", "inspect", "--json", log]
    quiet = ask("watch", *command, env={"WANDB_ERROR_REPORTING": "false"})
    assert quiet == {"exit": 0, "attempts": 0, "asked": []}
    told = ask("watch", *command, env={"WANDB_ERROR_REPORTING": "true"})
    assert told["attempts"] > 0 and told["asked"] == ["api.forge.coreweave.com:443"]


def test_watch_on_a_busy_port_is_one_sentence(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["watch", "--port", str(port), "--", "-c", "pass"])
        assert watch.main() == 1
    assert capsys.readouterr().err.startswith(f"Port {port} lässt sich nicht öffnen: ")


def test_git_ignores_what_wandb_leaves_behind():
    assert "wandb/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


# Ein Lauf, wie ihn jemand anderes geschrieben haben kann.
FOREIGN = """
import base64, hashlib, pathlib, sys
from examples.experiment_tracking_wandb import fetch, offline, summary

place, codes = pathlib.Path(sys.argv[1]), set()
(place / "staged").write_bytes(b"fremd")
digest = base64.b64encode(hashlib.md5(b"fremd").digest()).decode()
summary.logs = lambda folder: [folder]
for path in sys.argv[2:]:
    entry = {"path": path, "local_path": str(place / "staged"), "digest": digest}
    artifact = {"name": offline.MODEL_ARTIFACT, "manifest": {"contents": [entry]}}
    summary.records = lambda log: [{"type": "artifact", "artifact": artifact}]
    codes.add(offline.as_json(lambda: fetch.fetch(place, place / "model")))
sys.exit(min(codes))
"""


def test_foreign_artifact_does_not_leave_its_target(tmp_path):
    with pytest.raises(process.ProcessError) as error:
        process.output([PYTHON, "-c", FOREIGN, tmp_path, "../draussen", "a/b"])
    assert str(error.value).count("einen Pfad statt eines Dateinamens") == 2
    assert [item.name for item in tmp_path.iterdir()] == ["staged"]
