"""Ein Lauf hält alles fest, was ihn wiederholbar macht, und nichts, was geheim ist."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import yaml

import process
from contract import free_port
from examples.price_model.schema import REASONS
from worker import worker

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "examples.experiment_tracking_mlflow"
OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
# MLflow warnt beim Import vor Teilen von SQLAlchemy; im eigenen Prozess stört das keine Prüfung.
# Einer für alle Prüfungen, denn der Import kostet Sekunden: je Zeile ein Stück Code.
WORKER = f"""
import contextlib, io, json, os, pathlib, sys, traceback
from unittest import mock
from {PACKAGE} import search, store, tracking
from {PACKAGE}.tracking import mlflow

for line in sys.stdin:
    code, arguments = json.loads(line)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            exec(code, {{**globals(), "arguments": arguments}})
        except Exception:  # der nächste Test braucht den Prozess noch
            traceback.print_exc(file=said)
    print(json.dumps(said.getvalue()), flush=True)
"""


@pytest.fixture(scope="module")
def run():
    """Führt Code mit den Modulen des Beispiels im Prozess dafür aus; gibt dessen Ausgabe zurück."""
    command = process._command(["python", "-W", "ignore", "-c", WORKER])
    with worker(command, 120, cwd=process.ROOT, env=process._environment(OFF)) as ask:

        def call(code: str, *arguments: object) -> str:
            said = ask([code, [str(argument) for argument in arguments]])
            assert "Traceback" not in said, said
            return said

        yield call


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Ein Server mit einer abgeschlossenen Suche: (Adresse, Ordner, Antwort der Suche)."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", folder / "artifacts"]
    service = process.serve(command, f"{url}/health", timeout=120, env=OFF)
    found = process.output(["python", "-m", f"{PACKAGE}.search", url, "--create"])
    yield url, folder, json.loads(found)
    service.stop()


def test_search_records_everything_that_makes_it_repeatable(server, run):
    url, folder, found = server
    code = """
url, run_id = arguments
client = mlflow.MlflowClient(url)
parent = client.get_run(run_id)
query = f"tags.mlflow.parentRunId = '{run_id}'"
children = client.search_runs([parent.info.experiment_id], query, order_by=["metrics.mae_usd"])
best = children[0]
steps = [m.step for m in client.get_metric_history(best.info.run_id, "mae_usd")]
# Nur aus dem Lauf heraus wiederholt, ohne das gespeicherte Modell.
X, _, y, _ = search.split(search.load_diamonds()[0])
rows = int(best.data.params["train_rows"])
again = search.build_pipeline().set_params(
    model__learning_rate=float(best.data.params["learning_rate"]),
    model__max_iter=int(best.data.params["max_iter"]),
).fit(X[:rows], y[:rows])
saved, version = tracking.load_model(url, run_id)
print(json.dumps({
    "status": {run.info.status for run in [parent, *children]} == {"FINISHED"},
    "children": len(children), "best": best.info.run_id == parent.data.tags["best_run"],
    "tags": parent.data.tags, "metrics": parent.data.metrics, "steps": steps,
    "params": best.data.params, "version": version,
    "difference": float(abs(again.predict(X) - saved.predict(X)).max()),
    "environment": mlflow.artifacts.load_text(parent.info.artifact_uri + "/environment.txt"),
}))
"""
    seen = json.loads(run(code, url, found["run_id"]))
    assert seen["status"] and seen["best"] and seen["children"] == found["children"] == 6
    metadata = json.loads((ROOT / "examples/price_model/artifacts/metadata.json").read_text())
    assert seen["tags"]["data_sha256"] == metadata["data_sha256"]
    assert seen["tags"]["git_dirty"] in ("true", "false", "unknown")
    assert seen["version"] == seen["tags"]["model_version"] == metadata["model_version"]
    assert set(seen["params"]) == {"learning_rate", "max_iter", "train_rows", "seed"}
    assert seen["steps"][-1] == int(seen["params"]["max_iter"]) and len(seen["steps"]) > 1
    assert set(seen["metrics"]) == {"mae_usd", "test_mae_usd"}
    assert "scikit-learn==" in seen["environment"] and "mlflow==" in seen["environment"]
    assert seen["difference"] < 0.01
    # Die Datei auf der Platte gehört zum Server, nicht zum Arbeitsverzeichnis.
    assert (folder / "mlflow.db").exists() and (folder / "artifacts").exists()


def test_model_is_saved_without_pickle_and_with_pinned_packages(server):
    _, folder, _ = server
    (description,) = folder.glob("artifacts/**/MLmodel")
    flavor = yaml.safe_load(description.read_text())["flavors"]["sklearn"]
    assert flavor["serialization_format"] == "skops"
    assert not list(folder.glob("artifacts/**/*.pkl"))
    lines = (description.parent / "requirements.txt").read_text().split()
    assert len(lines) == 5 and all("==" in line for line in lines)


def test_deleted_is_only_hidden_until_gc(server):
    url, folder, _ = server
    with httpx.Client(base_url=f"{url}/api/2.0/mlflow/runs/", timeout=60) as client:
        created = client.post("create", json={"experiment_id": "0"})
        run_id = created.raise_for_status().json()["run"]["info"]["run_id"]
        secret = {"run_id": run_id, "key": "token", "value": "geheim"}
        client.post("log-parameter", json=secret).raise_for_status()
        client.post("delete", json={"run_id": run_id}).raise_for_status()

    def left() -> int:
        with closing(sqlite3.connect(folder / "mlflow.db")) as database:
            return len(database.execute("SELECT 1 FROM params WHERE key = 'token'").fetchall())

    assert left() == 1
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--tracking-uri", url]
    process.output(["mlflow", "gc", *store], env=OFF)
    assert left() == 0


def test_command_line_fails_in_one_german_line(server, run):
    code = """
argv = ["search", *arguments, "--experiment", "price_serach"]
with mock.patch.object(sys, "argv", argv), contextlib.redirect_stderr(sys.stdout):
    print(search.main())
"""
    reason = "Das Experiment price_serach gibt es nicht; neu mit --create."
    assert run(code, server[0]) == f"{reason}\n1\n"


def test_errors_say_what_is_wrong_and_leave_nothing_behind(server, run, tmp_path):
    code = """
url, closed, empty = arguments
for action in (
    lambda: tracking.log_parameters({"max_iter": 1, "db_password": "x"}),
    lambda: tracking.load_model(url, "0" * 32),
    lambda: search.search(closed, create=True),
    lambda: store.load(pathlib.Path(empty)),
):
    try:
        action()
    except tracking.TrackingError as error:
        print(error)
assert mlflow.active_run() is None
with mock.patch.dict(os.environ, PATH=""):
    print(tracking.provenance("x"))
"""
    closed = f"http://127.0.0.1:{free_port()}"
    listed, missing, down, empty, tags = run(code, server[0], closed, tmp_path).splitlines()
    assert listed == "Nicht zum Mitschreiben freigegeben: db_password."
    assert missing.startswith("MLflow lehnt ab: ")
    assert down == f"Der Tracking-Server {closed} antwortet nicht."
    assert "liegt keine mlflow.db" in empty and not list(tmp_path.iterdir())
    assert "'git_commit': 'unknown', 'git_dirty': 'unknown'" in tags


def test_git_ignores_what_mlflow_leaves_behind():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"mlflow.db", "mlruns/", "mlartifacts/"} <= set(ignored)


def test_both_allow_lists_are_the_same(run):
    # Beide Kapitel laden dasselbe Modell mit skops; freigegeben ist hier wie dort dasselbe.
    code = (
        "from examples.pickle_model.skops_store import TRUSTED; print(tracking.TRUSTED == TRUSTED)"
    )
    assert run(code) == "True\n"


def test_every_line_gets_an_answer(run):
    # Der zweite Durchgang ist `--question`: Auch ein leerer Text ist eine Frage.
    code = """
bad = ["", "carat=0.7", "1" * 5000, "[" * 100_000]
print(*(store.answers(None, "1", line)["detail"][0]["reason"] for line in bad), sep="\\n")
with (
    mock.patch.object(store, "load", lambda _: (None, "1")),
    mock.patch.object(sys, "argv", ["store", "answer", ".", "--question", ""]),
    mock.patch.object(sys, "stdin", io.StringIO()),
):
    store.main()
"""
    *reasons, answered = run(code).splitlines()
    assert reasons == [REASONS["json_invalid"]] * 4
    detail = json.loads(answered)["detail"]
    assert detail == [{"field": "body", "reason": REASONS["json_invalid"]}]


def test_aborted_saving_leaves_no_run_to_load(run, tmp_path):
    (tmp_path / "mlflow.db").touch()
    code = """
client = mock.Mock(**{"search_runs.return_value": []})
with (
    mock.patch.object(tracking, "connect", lambda *_: "1"),
    mock.patch.object(mlflow, "MlflowClient", lambda: client),
):
    try:
        store.load(pathlib.Path(*arguments))
    except tracking.TrackingError as error:
        print(error)
"""
    assert run(code, tmp_path) == f"In {tmp_path.name}/ steht kein Lauf.\n"


def test_folder_may_be_named_from_here(run, tmp_path):
    # Nur bis zum Anlegen: Danach käme, was schon die Suche mit ihrem Server prüft.
    code = """
def create(_, place):
    print(mlflow.get_tracking_uri(), place)
    raise InterruptedError

with contextlib.chdir(*arguments), mock.patch.object(mlflow, "create_experiment", create):
    with contextlib.suppress(InterruptedError):
        store.save(None, pathlib.Path("ablage"))
"""
    folder = tmp_path / "ablage"
    database = f"sqlite:///{(folder / 'mlflow.db').as_posix()}"
    assert run(code, tmp_path).split() == [database, (folder / "artifacts").as_uri()]


def test_saving_without_a_model_names_the_remedy_and_leaves_nothing(run, tmp_path):
    # So, als zeigte PRICE_MODEL_DIR beim Start auf einen leeren Ordner.
    code = """
(empty,) = arguments
with (
    mock.patch.object(store, "ARTIFACTS", pathlib.Path(empty)),
    mock.patch.object(store.load_metadata, "__defaults__", (pathlib.Path(empty),)),
    mock.patch.object(sys, "argv", ["store", "save", f"{empty}/ablage"]),
    contextlib.redirect_stderr(sys.stdout),
):
    print(store.main())
"""
    said, ended = run(code, tmp_path).splitlines()
    assert said.endswith("Zuerst ausführen: make model") and ended == "1"
    assert not list(tmp_path.iterdir())


# Zuletzt: autolog ersetzt im Prozess dafür Teile von scikit-learn.
def test_autolog_records_unasked(server, run):
    code = f"""
from {PACKAGE} import autolog
with mock.patch.object(sys, "argv", ["autolog", *arguments]):
    assert autolog.main() == 0
"""
    counted = json.loads(run(code, server[0]))
    assert len(counted["params"]) > 30
    assert "mean_absolute_error_X_test" in counted["metrics"]
    assert "model.pkl" in counted["model"]
