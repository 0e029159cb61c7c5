"""Git und DVC sehen nur ihren Ordner; gleiche Zutaten, gleiche Bytes; was fehlt, fällt auf."""

import contextlib
import hashlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import joblib
import onnx
import pandas as pd
import pytest
import yaml

import process
from contract import require_environment
from examples.price_model.data import TARGET, load_diamonds, split
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import FEATURES
from examples.versioning_git_dvc import project as versioned
from examples.versioning_git_dvc import provenance, sealed
from examples.versioning_git_dvc.template.stages import evaluate, prepare, train
from worker import worker

MODULE = "examples.versioning_git_dvc"
# DVC startet langsamer, als es arbeitet: ein Prozess für alle Befehle, je Zeile einer.
WORKER = """
import io, json, os, sys
# Was `repro` startet, erbt die Standardausgabe und schriebe sonst zwischen die Antworten.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
from dvc.cli import main  # erst hier, denn DVC merkt sich, wohin es schreibt

for line in sys.stdin:
    folder, variables, arguments = json.loads(line)
    os.environ.update(variables)
    os.chdir(folder)
    code = main(arguments)
    said = [stream.getvalue() for stream in (sys.stdout, sys.stderr)]
    print(json.dumps([code, *said]), file=answers, flush=True)
    for stream in (sys.stdout, sys.stderr):
        stream.seek(0)
        stream.truncate()
"""


def run(folder: Path, *command: str, env: dict | None = None) -> str:
    """Ein Befehl im abgeschotteten Ordner; scheitert er, scheitert der Test."""
    variables = {**os.environ, **sealed.environment(folder.parent, "november"), **(env or {})}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def refused(module: str, *arguments: object) -> str:
    """Die Meldung, mit der ein Modul abbricht; nie ein Traceback.

    Es läuft wie mit `python -m`, aber in diesem Prozess: pandas und scikit-learn sind schon da.
    """
    said = io.StringIO()
    with (
        mock.patch.dict(os.environ),  # `ingredients` legt die Zahl der Threads fest
        mock.patch.object(sys, "argv", [module, *map(str, arguments)]),
        # `runpy` führt auch aus, was schon importiert ist; sonst warnt es davor.
        warnings.catch_warnings(action="ignore", category=RuntimeWarning),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_module(f"{MODULE}.{module}", run_name="__main__")
    assert ended.value.code in (1, 2)
    return said.getvalue()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def dvc(tmp_path_factory):
    """Führt DVC im abgeschotteten Ordner aus; scheitert es, scheitert der Test."""
    require_environment("versioning_git_dvc")
    env = {**os.environ, **sealed.environment(tmp_path_factory.mktemp("dvc"), "november")}
    with worker([versioned.dvc()[0], "-c", WORKER], 300, env=env) as ask:

        def call(folder: Path, *arguments: str) -> str:
            variables = sealed.environment(folder.parent, "november")
            variables["PYTHONHASHSEED"] = "0"  # der „andere Rechner“ weiter unten hat 1
            code, said, complained = ask([str(folder), variables, arguments])
            assert code == 0, f"{said}{complained}"
            return said

        yield call


def quickly(dvc):
    """Solange das gilt, startet das Modul `project` nur Git neu und nicht jedes Mal auch DVC."""
    run = versioned.run

    def run_quickly(folder: Path, month: str, *commands: list[str]) -> None:
        for command in commands:
            if command[0] == "git":
                run(folder, month, command)
            else:
                dvc(folder, *command[len(versioned.dvc()) :])

    return mock.patch.object(versioned, "run", run_quickly)


@pytest.fixture(scope="module")
def history(tmp_path_factory, dvc) -> Path:
    """Ein Projekt mit beiden Versionen, hochgeschoben; Tests arbeiten in Klonen davon."""
    with quickly(dvc):
        project = versioned.create(tmp_path_factory.mktemp("history"))
        versioned.release(project, "october", "0.9.0")
        versioned.release(project, "november", "1.0.0")
    return project


@pytest.fixture(scope="module")
def restored(history, dvc) -> Path:
    """Der Klon vom Oktober, mit `dvc pull` gefüllt."""
    with quickly(dvc):
        return versioned.restore(history, "0.9.0")


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Path:
    """Ein Ordner, in dem eine Stufe läuft, wie sie im Projekt läuft."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copy(versioned.TEMPLATE / "params.yaml", tmp_path)
    return tmp_path


# Abschottung


def test_foreign_settings_are_neither_read_nor_changed(history, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / ".config" / "dvc").mkdir(parents=True)
    hooks = home / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    (home / ".gitconfig").write_text(
        "[user]\n name = Fremd\n email = fremd@example.org\n"
        f"[commit]\n gpgsign = true\n[core]\n hooksPath = {hooks}\n autocrlf = true\n"
    )
    (home / ".config" / "dvc" / "config").write_text("[core]\n    autostage = true\n")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    folder = tmp_path / "work"
    project = versioned.create(folder)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    assert {path.name for path in folder.iterdir()} == {"home", "project"}
    assert run(project, "git", "log", "--format=%an %ae %cn %s").strip() == (
        "Buch buch@example.org Buch Projekt mit den Steinen vom Oktober"
    )
    assert run(project, "git", "status", "--short") == ""
    # Gleicher Inhalt, gleicher Autor, gleiches Datum: gleicher Commit, wo immer er entsteht.
    first = run(history, "git", "rev-list", "--max-parents=0", "HEAD")
    assert run(project, "git", "rev-parse", "HEAD") == first


def test_environment_is_not_used_inside_another_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    with pytest.raises(sealed.SealError, match="GIT_DIR"):
        sealed.environment(tmp_path)
    assert "Gesetzt ist GIT_DIR" in refused("sealed", tmp_path, "october")
    assert "Gesetzt ist GIT_DIR" in refused("project", "create", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("arguments", [[], ["folder"], ["folder", "december"]])
def test_sealed_explains_its_arguments(tmp_path, arguments):
    assert "Aufruf: python -m" in refused("sealed", *arguments)


def test_dvc_reports_nothing_and_asks_for_no_update(dvc, history):
    settings = dvc(history, "config", "--list")
    assert "core.analytics=false" in settings and "core.check_update=false" in settings
    assert sealed.environment(history.parent)["DVC_NO_ANALYTICS"] == "1"
    # Sonst hinge jede gespeicherte Meldung von der Sprache des Rechners ab.
    assert sealed.environment(history.parent)["LANGUAGE"] == "en"


# Das Projekt


def test_git_holds_pointers_and_never_data(history):
    tracked = run(history, "git", "ls-files").split()
    assert {"data/stones.csv.dvc", "dvc.lock", "metrics.json", "requirements.txt"} <= set(tracked)
    assert "examples/price_model/train.py" in tracked
    assert not [name for name in tracked if name.endswith((".csv", ".joblib", ".onnx", ".pyc"))]


def test_project_is_created_once_and_completely(history):
    assert "project/ gibt es schon" in refused("project", "create", history.parent)
    assert run(history, "git", "tag") == "v0.9.0\nv1.0.0\n"


def test_failed_creation_leaves_no_project(tmp_path, monkeypatch):
    monkeypatch.setattr(versioned, "dvc", lambda: ["git", "no-such-command"])
    with pytest.raises(versioned.ProjectError, match="no-such-command"):
        versioned.create(tmp_path)
    assert not (tmp_path / "project").exists()


def test_interrupted_creation_leaves_no_project(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(versioned, "deliver", mock.Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr(sys, "argv", ["project", "create", str(tmp_path)])
    with contextlib.suppress(KeyboardInterrupt):  # sonst endete mit dem Test der ganze Lauf
        assert versioned.main() == 1
    assert capsys.readouterr().err == "Fehler: Von Hand abgebrochen.\n"
    assert not (tmp_path / "project").exists()


def test_missing_environment_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(versioned, "ROOT", tmp_path)
    with pytest.raises(versioned.ProjectError, match=r"tools/setup.py versioning_git_dvc"):
        versioned.dvc()


def test_delivery_needs_a_project(tmp_path):
    assert "erst create" in refused("project", "deliver", tmp_path, "november")
    assert list(tmp_path.iterdir()) == []


def test_lock_names_what_each_stage_depends_on(dvc, restored):
    assert "up to date" in dvc(restored, "status")
    for name, text, stages in [
        ("params.yaml", "max_iter: 300", {"train"}),
        ("requirements.txt", "scikit-learn==", {"prepare", "train", "evaluate"}),
        ("examples/price_model/schema.py", "MAX_BATCH", {"prepare", "train", "evaluate"}),
        ("stages/evaluate.py", "round", {"evaluate"}),
    ]:
        path = restored / name
        original = path.read_text("utf-8")
        assert text in original
        path.write_text(original.replace(text, text + "0"), encoding="utf-8")
        try:
            assert set(json.loads(dvc(restored, "status", "--json"))) == stages, name
        finally:
            path.write_text(original, encoding="utf-8")


def test_second_run_trains_nothing(dvc, restored):
    said = dvc(restored, "repro")
    assert said.count("didn't change, skipping") == 4 and "Running" not in said


# Gleiche Bytes


def test_clone_holds_the_model_of_the_commit(history, restored):
    lock = yaml.safe_load((restored / "dvc.lock").read_text("utf-8"))
    (model,) = lock["stages"]["train"]["outs"]
    assert provenance.directory_md5(restored / "model") == model["md5"]
    assert provenance.trace(history, "0.9.0")["model_md5"] == model["md5"]
    assert model["md5"] != provenance.trace(history, "1.0.0")["model_md5"]


def test_retraining_yields_the_same_bytes_on_another_machine(restored):
    # Andere Zahl von Threads, andere Reihenfolge der Mengen: So sähe ein anderer Rechner aus.
    command = [*versioned.dvc(), "repro", "--force"]
    run(restored, *command, env={"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "3"})
    assert run(restored, "git", "status", "--short") == ""


def test_full_delivery_yields_the_model_of_the_book(history):
    ours, book = (
        onnx.load(folder / "price_model.onnx") for folder in (history / "model", ARTIFACTS)
    )
    train.in_order(book)
    assert ours.SerializeToString() == book.SerializeToString()
    _, X_test, _, _ = split(load_diamonds()[0])
    prices = [
        joblib.load(folder / "price_model.joblib").predict(X_test)
        for folder in (history / "model", ARTIFACTS)
    ]
    assert (prices[0] == prices[1]).all()


def test_opsets_are_sorted():
    model = onnx.load(ARTIFACTS / "price_model.onnx")
    for names in (["b", "", "a"], ["a", "b", ""]):
        del model.opset_import[:]
        model.opset_import.extend(onnx.helper.make_opsetid(name, 1) for name in names)
        assert [opset.domain for opset in train.in_order(model).opset_import] == ["", "a", "b"]


def test_metadata_holds_no_time(restored):
    metadata = json.loads((restored / "model" / "metadata.json").read_text("utf-8"))
    assert set(metadata) == {"model_version", "train", "rows", "versions"}
    assert metadata["rows"] == {"train": 32_000, "test": 8_000}


def test_each_missing_ingredient_is_seen(restored, tmp_path):
    # Ein Zehntel der Bäume: Worauf es ankommt, ändert sich schon mit dem ersten.
    text = (restored / "params.yaml").read_text("utf-8")
    assert "max_iter: 300" in text
    (tmp_path / "params.yaml").write_text(text.replace("max_iter: 300", "max_iter: 30"), "utf-8")
    shutil.copytree(restored / "data" / "prepared", tmp_path / "data" / "prepared")
    command = ["python", "-m", f"{MODULE}.ingredients", tmp_path]
    found = json.loads(process.output(command, env={"OMP_WAIT_POLICY": "passive"}))
    same = {name for name, result in found.items() if result["same_bytes"]}
    assert same == {"nothing"}
    assert found["threads"]["price_usd"] == found["nothing"]["price_usd"]
    assert found["seed"]["price_usd"] != found["nothing"]["price_usd"]


def test_ingredients_need_a_prepared_project(tmp_path):
    assert "dvc repro" in refused("ingredients", tmp_path)


# Fehler


def test_forgotten_push_is_seen_before_and_after(dvc, history, tmp_path):
    clone = tmp_path / "clone"
    run(history, "git", "clone", "--quiet", ".", str(clone))
    # Der Speicher bleibt erreichbar; nur diese Änderung liegt nicht darin.
    dvc(clone, "remote", "modify", "--local", "storage", "url", str(history.parent / "remote"))
    dvc(clone, "pull", "--quiet", "data/stones.csv.dvc")
    with (clone / "data" / "stones.csv").open("a") as file:
        file.write("0.3,Ideal,E,VS2,61.5,55.0,4.3,4.3,2.6,500\n")
    assert run(clone, "git", "status", "--short") == ""
    assert "modified: data/stones.csv" in dvc(clone, "data", "status")
    dvc(clone, "add", "--quiet", "data/stones.csv")
    assert "new" in dvc(clone, "status", "--cloud", "data/stones.csv.dvc")
    shutil.rmtree(clone / ".dvc" / "cache")
    (clone / "data" / "stones.csv").unlink()
    with pytest.raises(AssertionError, match="missing-files"):
        dvc(clone, "pull", "data/stones.csv.dvc")


def test_installed_hook_checks_out_the_model_as_well(dvc, history):
    clone = history.parent / "hooked"
    run(history, "git", "clone", "--quiet", ".", str(clone))
    dvc(clone, "pull", "--quiet")
    # DVC 3.67 löst den relativen Pfad zum Remote in anderen Commits falsch auf und schweigt.
    assert "up to date" in dvc(clone, "fetch", "--all-tags")
    run(clone, "git", "checkout", "--quiet", "v0.9.0")
    dvc(clone, "fetch", "--quiet")
    dvc(clone, "install")
    # Der Hook ruft `dvc` auf; es muss dafür zu finden sein.
    path = os.pathsep.join([str(Path(versioned.dvc()[0]).parent), os.environ["PATH"]])
    for tag in ("v1.0.0", "v0.9.0"):
        run(clone, "git", "checkout", "--quiet", tag, env={"PATH": path})
        origin = provenance.trace(clone, tag.removeprefix("v"))
        assert provenance.directory_md5(clone / "model") == origin["model_md5"]


def test_broken_cache_is_silent_until_someone_counts(dvc, history):
    with quickly(dvc):
        clone = versioned.restore(history, "1.0.0")
    table = clone / "data" / "stones.csv"
    right = md5(table)
    cached = clone / ".dvc" / "cache" / "files" / "md5" / right[:2] / right[2:]
    cached.chmod(0o644)
    cached.write_bytes(cached.read_bytes()[:-4] + b"0.0\n")
    cached.chmod(0o444)
    table.unlink()
    dvc(clone, "checkout", "--quiet", "data/stones.csv.dvc")
    assert "up to date" in dvc(clone, "status")
    assert md5(table) != right
    cached.unlink()
    table.unlink()
    dvc(clone, "pull", "--quiet")
    assert md5(table) == right


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.drop(columns="carat"), "columns"),
        (lambda table: table.assign(cut="Great"), "cut"),
        (lambda table: table.assign(x=0.0), "x"),
        (lambda table: table.assign(depth=float("nan")), "depth"),
        (lambda table: table.iloc[:0], "n_samples"),
    ],
    ids=["column", "grade", "zero", "gap", "empty"],
)
def test_bad_delivery_stops_the_first_stage(stage, capsys, change, reason):
    table, _ = load_diamonds()
    change(table.head(50)).to_csv(stage / "data" / "stones.csv", index=False)
    assert prepare.main() == 1
    assert reason in capsys.readouterr().err
    assert not (stage / "data" / "prepared").exists()


def test_missing_delivery_stops_the_first_stage(stage, capsys):
    assert prepare.main() == 1
    assert "stones.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    "params",
    [
        "",
        "train: [",
        "model_version: 1.0.0\n",
        "model_version: 1.0.0\ntrain: {max_iter: 1, seed: 0, threads: 1, depth: 3}\n",
        "model_version: 1.0.0\ntrain: {max_iter: many, seed: 0, threads: 1}\n",
    ],
    ids=["empty", "not YAML", "no values", "unknown value", "not a number"],
)
def test_bad_params_stop_the_training(stage, capsys, params):
    table, _ = load_diamonds()
    table.head(100).to_csv(stage / "data" / "stones.csv", index=False)
    assert prepare.main() == 0
    (stage / "params.yaml").write_text(params, encoding="utf-8")
    assert train.main() == 1
    assert "Training abgebrochen" in capsys.readouterr().err
    assert not (stage / "model").exists()


def test_stages_need_the_one_before(stage, capsys):
    assert train.main() == 1 and evaluate.main() == 1
    assert "abgebrochen" in capsys.readouterr().err
    assert not (stage / "metrics.json").exists()


def test_evaluation_agrees_with_scikit_learn(restored):
    from sklearn.metrics import mean_absolute_error, r2_score

    table = pd.read_csv(restored / "data/prepared/test.csv", float_precision="round_trip")
    pipeline = joblib.load(restored / "model" / "price_model.joblib")
    predicted = pipeline.predict(table[list(FEATURES)])
    metrics = json.loads((restored / "metrics.json").read_text("utf-8"))
    assert metrics["mae_usd"] == pytest.approx(mean_absolute_error(table[TARGET], predicted), abs=1)
    assert metrics["r2"] == pytest.approx(r2_score(table[TARGET], predicted), abs=1e-4)


# Herkunft


def test_version_leads_back_to_the_delivery(history):
    for version, month, rows in (("0.9.0", "Oktober", 40_000), ("1.0.0", "November", 53_775)):
        origin = provenance.trace(history, version)
        stored = history.parent / "remote/files/md5" / origin["data_md5"][:2]
        content = (stored / origin["data_md5"][2:]).read_bytes()
        assert (len(content), content.count(b"\n")) == (origin["data_bytes"], rows + 1), month
        assert origin["commit"] == run(history, "git", "rev-parse", f"v{version}").strip()
        assert origin["params"]["model_version"] == version


def test_origin_comes_from_the_commit_and_not_from_the_folder(history, restored):
    clean = provenance.trace(restored, "0.9.0")
    lock = restored / "dvc.lock"
    text = lock.read_text("utf-8")
    lock.write_text("stages: {}\n", encoding="utf-8")
    try:
        assert provenance.trace(restored, "0.9.0") == clean
    finally:
        lock.write_text(text, encoding="utf-8")


def test_wrong_model_and_unknown_version_are_refused(history, restored):
    assert "keinen Tag v2.0.0" in refused("provenance", history, "2.0.0")
    assert "keinen Tag v-x" in refused("provenance", history, "--", "-x")
    assert "ist nicht das von v0.9.0" in refused("provenance", history, "0.9.0", history / "model")
    process.output(["python", "-m", f"{MODULE}.provenance", history, "0.9.0", restored / "model"])


def test_folder_without_git_is_refused(tmp_path):
    assert "keinen Tag" in refused("provenance", tmp_path, "0.9.0")


def test_mlflow_finds_the_run_by_its_data(history):
    found = json.loads(
        process.output(["python", "-m", f"{MODULE}.track", history, "0.9.0", "1.0.0"])
    )
    metrics = provenance.trace(history, "0.9.0")["metrics"]
    assert found == [{"run": "v0.9.0", "mae_usd": metrics["mae_usd"], "same_commit": True}]
    assert (history.parent / "mlflow.db").exists()
    assert "Aufruf" in refused("track", history)
    assert "keinen Tag" in refused("track", history, "9.9.9")
