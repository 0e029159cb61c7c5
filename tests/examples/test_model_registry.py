"""Die Registry lässt nur Freigegebenes zu, und der Dienst folgt ihr, ohne je zu verstummen."""

import json
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import httpx
import joblib
import pandas as pd
import pytest

import process
from contract import free_port, mlflow_server
from examples.model_registry.wait import wait
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import EXAMPLE
from examples.service_logging import journal
from worker import worker

PACKAGE = "examples.model_registry"
PATIENCE = 60
AT = "2026-03-01T09:00:00"
# MLflow warnt beim Import vor Teilen von SQLAlchemy; im eigenen Prozess stört das keine Prüfung.
# Einer für alle Prüfungen, denn der Import kostet Sekunden: je Zeile ein Stück Code.
WORKER = f"""
import contextlib, io, json, pathlib, sys
from {PACKAGE} import candidate, registry as r, swap

def refusal(action, *arguments):
    try:
        action(*arguments)
    except (r.TrackingError, r.UnusableError) as error:
        print(error)

scope = {{**globals(), "mlflow": r.mlflow}}
for line in sys.stdin:
    code, url = json.loads(line)
    scope["registry"] = registry = r.Registry(url)
    scope["client"], scope["url"] = registry.client, url
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(code, scope)
    print(json.dumps(said.getvalue()), flush=True)
"""
# Zwei Versionen, beide freigegeben; die erste ist champion.
SETUP = f"""
folder = pathlib.Path({{folder!r}})
candidate.train(folder, "1.1.0", 40, 0.1)
for place, label in ((r.ARTIFACTS, "1.0.0"), (folder, "1.1.0")):
    run_id = r.log_run(place, label, {{{{}}}}, {{{{"cost_usd": 7}}}})
    number = registry.register(run_id, "anna", {{{{"check.data": "passed"}}}})
    registry.approve(number, "ben", "Fehler geprüft", "{AT}")
registry.promote("1", "champion", "ben", "{AT}", "none")
"""


class Place:
    """Ein Server mit zwei freigegebenen Versionen und ein Dienst, der champion folgt."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.port = folder, stack, free_port()
        self.url, self.service = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{free_port()}"
        command = process._command(["python", "-W", "ignore", "-c", WORKER])
        environment = process._environment(None)
        self.ask_worker = stack.enter_context(
            worker(command, 120, cwd=process.ROOT, env=environment)
        )

    def start(self) -> None:
        """Startet den Server, auch noch einmal mit denselben Daten."""
        self.server = self.stack.enter_context(ExitStack())
        self.server.enter_context(mlflow_server(self.folder, self.port))

    def run(self, code: str) -> str:
        """Führt Code mit einer Registry im Prozess dafür aus und gibt dessen Ausgabe zurück."""
        return self.ask_worker([code, self.url])

    def post(self, path: str, method: str = "POST", **body: str) -> None:
        """Ruft die Schnittstelle des Servers auf, am Programm vorbei."""
        address = f"{self.url}/api/2.0/mlflow/{path}"
        answer = httpx.request(method, address, json={"name": "price"} | body, timeout=60)
        assert answer.status_code == 200, answer.text

    def champion(self, version: str) -> None:
        self.post("registered-models/alias", alias="champion", version=version)

    def stale(self, problem: str) -> None:
        """Wartet auf diese Meldung; geantwortet wird dabei weiter, und zwar von 1.0.0."""
        seen = wait(self.service, PATIENCE, status="stale", problem=problem)
        assert (seen["registry_version"], seen["model_version"]) == ("1", "1.0.0")
        assert self.ask()["model_version"] == "1.0.0"
        assert httpx.get(f"{self.service}/health/ready", timeout=30).status_code == 200
        assert problem in self.running.log(1000)[self.said :]

    def current(self, model_version: str = "1.0.0") -> None:
        seen = wait(self.service, PATIENCE, status="current", model_version=model_version)
        assert seen["problem"] is None
        assert self.ask()["model_version"] == model_version

    def ask(self) -> dict:
        answer = httpx.post(f"{self.service}/predict", json=EXAMPLE, timeout=30)
        return answer.raise_for_status().json()

    def files(self, version: str) -> Path:
        """Der Ordner auf der Platte, in dem die Dateien einer Version liegen."""
        model_id = self.run(f"print(registry.version('{version}').source)").strip()[8:]
        (description,) = self.folder.glob(f"artifacts/**/{model_id}/**/MLmodel")
        return description.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    with ExitStack() as stack:
        place = Place(folder, stack)
        command = ["python", "-m", f"{PACKAGE}.service", "--tracking-uri", place.url]
        command += ["--port", place.service.rsplit(":", 1)[1], "--poll", "0.5"]
        command += ["--log", folder / "log"]
        # Der Dienst zuerst: Auch so kann ein Rechner hochfahren.
        place.running = process.serve(command, f"{place.service}/health/live", timeout=90)
        stack.callback(place.running.stop)
        place.early = wait(place.service, PATIENCE, status="starting", problem="antwortet nicht")
        place.refusal = httpx.post(f"{place.service}/predict", json=EXAMPLE, timeout=30)
        place.start()
        place.run(SETUP.format(folder=str(folder / "candidate")))
        place.current()
        # Was der Dienst bis hierher meldete, soll keine spätere Prüfung bestehen lassen.
        place.said = len(place.running.log(1000))
        yield place
        place.running.stop()


def test_service_waits_for_a_registry_that_is_not_there_yet(place):
    assert place.early["model_version"] is None
    assert place.refusal.status_code == 503
    assert "antwortet nicht" in place.refusal.json()["detail"][0]["reason"]


def test_swap_under_load_loses_no_request_and_mixes_no_answer(place):
    code = f"print(json.dumps(swap.swap('{place.service}', registry, ['2', '1', '2', '1'])))"
    seen = json.loads(place.run(code))
    assert seen["failed"] == 0 and seen["sent"] == seen["answered"] >= 300
    # Auf den Cent, und je Version genau ein Preis: keine Antwort aus zwei Modellen.
    for version, folder in {"1.0.0": ARTIFACTS, "1.1.0": place.folder / "candidate"}.items():
        bare = joblib.load(folder / "price_model.joblib").predict(pd.DataFrame([EXAMPLE]))[0]
        assert seen["prices"][version] == [round(float(bare), 2)]


def test_answer_leads_back_to_run_data_and_commit(place):
    label = place.ask()["model_version"]
    found = json.loads(place.run(f"print(json.dumps(registry.lineage('{label}')))"))
    metadata = json.loads((ARTIFACTS / "metadata.json").read_text(encoding="utf-8"))
    assert found["version"] == "1" and found["data_sha256"] == metadata["data_sha256"]
    assert found["git_commit"] and len(found["run_id"]) == 32
    assert found["metrics"]["test_mae_usd"] == metadata["mae_usd"]
    assert found["metrics"]["cost_usd"] == 7
    assert (found["approved_by"], found["approved_because"]) == ("ben", "Fehler geprüft")


def test_service_writes_its_log_and_counts(place):
    price = place.ask()
    lines = [line for line in journal.read(place.folder / "log") if line]
    *_, logged = (line for line in lines if line["event"] == "prediction")
    assert logged["features"] == EXAMPLE
    assert {name: logged[name] for name in price} == price
    metrics = httpx.get(f"{place.service}/metrics", timeout=30).text
    (count,) = re.findall(r'price_requests_total\{route="/predict",status="200"\} (\S+)', metrics)
    # Je Frage ein Stein, also je Antwort genau eine Zeile.
    assert float(count) == sum(line["event"] == "prediction" for line in lines)


def test_crash_is_logged_and_counted(place, tmp_path):
    code = f"""
from types import SimpleNamespace
from unittest import mock
from fastapi.testclient import TestClient
from {PACKAGE} import service
from examples.price_model.schema import EXAMPLE
app = service.create_app("http://127.0.0.1:9")
service.observe(app, pathlib.Path({str(tmp_path)!r}))
predict = mock.Mock(side_effect=ZeroDivisionError)
app.state.model = SimpleNamespace(predict=predict, version="1")
asking = TestClient(app, raise_server_exceptions=False)
print(asking.post("/predict", json=EXAMPLE).status_code)
print(asking.get("/metrics").text)
"""
    said = place.run(code)
    assert said.splitlines()[0] == "500"
    assert 'price_requests_total{route="/predict",status="500"} 1.0' in said
    assert "ZeroDivisionError" in "".join(p.read_text() for p in tmp_path.iterdir())


def test_what_the_training_did_not_measure_comes_from_outside(place):
    bare = place.folder / "unmeasured"
    shutil.copytree(place.folder / "candidate", bare)
    metadata = json.loads((bare / "metadata.json").read_text(encoding="utf-8"))
    known = {name: metadata[name] for name in ("model_version", "data_sha256")}
    (bare / "metadata.json").write_text(json.dumps(known), encoding="utf-8")
    found = place.run(
        f"run_id = r.log_run(pathlib.Path({str(bare)!r}), '7.0.0', {{}},"
        " {'test_mae_usd': 324.0})\n"
        "print(json.dumps(client.get_run(run_id).data.metrics))"
    )
    assert json.loads(found) == {"test_mae_usd": 324.0}


def test_rollback_moves_the_alias_and_withdraws_the_approval(place):
    code = f"""
registry.promote("2", "champion", "ben", "{AT}", "1")
print(registry.rollback("cora", "zu teuer", "{AT}"))
tags = registry.version("2").tags
client.set_model_version_tag("price", "1", "champion_before", "2")
print(tags["approval"], tags["withdrawn_by"], tags["withdrawn_because"])
refusal(registry.rollback, "cora", "noch einmal", "{AT}")
refusal(registry.approve, "2", "ben", "doch wieder", "{AT}")
refusal(registry.promote, "2", "champion", "ben", "{AT}", None)
print(registry.target("champion").version)
"""
    assert place.run(code).splitlines() == [
        "('2', '1')",
        "withdrawn cora zu teuer",
        "Version 2 ist nicht mehr freigegeben.",
        "Version 2 wurde zurückgezogen; eine neue registrieren.",
        "Version 2 ist nicht freigegeben.",
        "1",
    ]
    place.current()


def test_service_keeps_the_old_version_and_heals(place):
    place.post("model-versions/set-tag", version="2", key="approval", value="withdrawn")
    place.champion("2")
    place.stale("Version 2 ist nicht freigegeben.")
    # Das Tag ist zu fälschen, die Datei nicht: Ihre Prüfsumme stimmt nicht mehr.
    model = place.files("2") / "model.skops"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    place.post("model-versions/set-tag", version="2", key="approval", value="granted")
    place.stale("Version 2: Die Dateien sind nicht mehr die registrierten.")
    model.unlink()
    place.stale("Version 2: Die Dateien sind nicht mehr die registrierten.")
    model.write_bytes(whole)
    # Niemand muss etwas neu starten: Beim nächsten Blick ist alles in Ordnung.
    place.current("1.1.0")
    place.champion("1")
    place.current()


def test_service_checks_the_answer_to_the_example(place):
    place.post("model-versions/set-tag", version="2", key="approval", value="granted")
    price = place.run("print(registry.version('2').tags['example_price_usd'])").strip()
    place.post("model-versions/set-tag", version="2", key="example_price_usd", value="1.00")
    place.champion("2")
    place.stale("Das Eingabebeispiel ergibt einen anderen Preis")
    place.champion("1")
    place.current()
    place.post("model-versions/set-tag", version="2", key="example_price_usd", value=price)


def test_service_outlives_a_deleted_version_and_a_dead_registry(place):
    code = """
source = client.get_model_version("price", "1")
model_id = source.source.removeprefix("models:/")
how = {"model_id": model_id, "await_creation_for": 0}
made = client.create_model_version("price", source.source, source.run_id, **how)
client.set_registered_model_alias("price", "champion", made.version)
print(made.version)
"""
    number = place.run(code).strip()
    place.stale(f"Version {number} ist nicht freigegeben.")
    place.post("model-versions/delete", "DELETE", version=number)
    place.stale("Den Alias champion gibt es nicht.")
    place.server.close()
    place.stale("antwortet nicht")
    place.start()
    place.stale("Den Alias champion gibt es nicht.")
    place.champion("1")
    place.current()


def test_files_that_are_gone_cost_no_answer(place):
    place.post("model-versions/set-tag", version="2", key="approval", value="granted")
    folder = place.files("2")
    shutil.move(folder, place.folder / "away")
    place.champion("2")
    place.stale("Version 2: ")
    shutil.move(place.folder / "away", folder)
    place.current("1.1.0")
    place.champion("1")
    place.current()


BAD_MODELS = """
import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
import os
from examples.price_model.schema import EXAMPLE, FEATURES
from examples.experiment_tracking_mlflow import tracking
example = pd.DataFrame([EXAMPLE], columns=list(FEATURES))
pipeline = r.joblib.load(r.ARTIFACTS / "price_model.joblib")
signature = mlflow.models.infer_signature(example, pipeline.predict(example))
turned = mlflow.models.infer_signature(example[example.columns[::-1]], [1.0])
# Beim Laden geschieht nichts; aber os.getcwd dürfte jede Funktion sein.
hidden = Pipeline([("code", FunctionTransformer(os.getcwd)), *pipeline.steps])
cases = [
    (pipeline, {"skops_trusted_types": tracking.TRUSTED}),
    (pipeline, {"skops_trusted_types": tracking.TRUSTED, "signature": turned}),
    (pipeline, {"serialization_format": "cloudpickle", "signature": signature}),
    (hidden, {"skops_trusted_types": [*tracking.TRUSTED, "posix.getcwd"], "signature": signature}),
]
tracking.connect(url, "bad", create=True)
for model, how in cases:
    with mlflow.start_run() as run:
        mlflow.set_tag("model_version", "6.6.6")
        info = mlflow.sklearn.log_model(model, name="model", pip_requirements=["mlflow"], **how)
    refusal(registry.register, run.info.run_id, "anna", {})
# MLflow selbst glaubt der Liste, die das Modell mitbringt.
assert mlflow.sklearn.load_model(info.model_uri).steps[0][0] == "code"
print(len(registry.labelled("6.6.6")))
"""


def test_what_cannot_be_checked_is_not_registered(place):
    assert place.run(BAD_MODELS).splitlines() == [
        "Die Signatur fehlt.",
        "Die Signatur passt nicht zur Frage des Dienstes.",
        "Gespeichert ist es als pickle; erlaubt ist nur skops.",
        "Das Modell lässt sich nicht laden (UntrustedTypesFoundException).",
        "0",
    ]


def test_approval_needs_passed_checks_and_a_second_person(place):
    code = f"""
client.set_model_version_tag("price", "2", "check.fairness", "failed")
refusal(registry.approve, "2", "ben", "eilig", "{AT}")
client.set_model_version_tag("price", "2", "check.fairness", "passed")
refusal(registry.approve, "2", "anna", "eilig", "{AT}")
refusal(registry.promote, "99", "champion", "ben", "{AT}", None)
refusal(registry.promote, "1", "v1", "ben", "{AT}", None)
refusal(registry.promote, "2", "champion", "ben", "{AT}", "none")
refusal(registry.check_new, "1.0.0")
refusal(registry.lineage, "1.0.0' or name = 'price")
refusal(registry.lineage, "9.9.9")
"""
    failed, same, missing, reserved, raced, taken, injected, unknown = place.run(code).splitlines()
    assert failed == "Nicht bestanden: check.fairness."
    assert same == "anna hat registriert; freigeben muss jemand anderes."
    assert "Model Version (name=price, version=99) not found" in missing
    assert "alias name 'v1' is reserved" in reserved
    assert raced == "champion zeigt auf 1 und nicht auf none."
    assert taken == "Ein Modell 1.0.0 gibt es schon; eine neue Nummer wählen."
    assert injected.endswith("ist keine Modellversion wie 1.0.0.")
    assert unknown == "Zu 9.9.9 gibt es 0 Versionen."


def test_command_line_fails_in_one_german_line(place, tmp_path):
    code = f"""
sys.argv[1:] = ["--tracking-uri", url, "register", "--by", "anna"]
sys.argv += ["--model-dir", {str(tmp_path)!r}]
with contextlib.redirect_stderr(sys.stdout):
    print(r.main())
"""
    assert place.run(code).splitlines() == [
        f"In {tmp_path.name}/ liegt kein Modell. Zuerst ausführen: make model",
        "1",
    ]
    code = """
sys.argv[1:] = ["--tracking-uri", url, "tag", "--version", "2", "approval=granted"]
with contextlib.redirect_stderr(sys.stdout):
    print(r.main())
"""
    assert place.run(code).splitlines() == [
        "Hier nur Ergebnisse von Prüfungen (`check.…`), nicht approval.",
        "1",
    ]
    code = """
from examples.model_registry import service
sys.argv[1:] = ["--tracking-uri", url, "--port", "99999"]
with contextlib.redirect_stderr(sys.stdout), contextlib.suppress(SystemExit):
    service.main()
"""
    assert place.run(code).rstrip().endswith("'99999' ist kein Port von 1 bis 65535.")


# Ohne Server: Hier zählt nur, welche Schritte die Registry zulässt.
RULES = """
import sys
from examples.model_registry import registry as r

registry = r.Registry(f"sqlite:///{sys.argv[1]}/mlflow.db")
client = registry.client
client.create_registered_model("price")
for label in ("1.0.0", "1.1.0"):
    tags = {"model_version": label, "approval": "granted", "registered_by": "anna"}
    client.create_model_version("price", sys.argv[1], tags=tags)
# Nummern sind hier Zahlen; erst der Server macht Text daraus.
for number in (1, 2, 2):
    registry.promote(number, "champion", "ben", "2026-03-01T09:00:00", None)
print(registry.rollback("cora", "zu teuer", "2026-03-01T10:00:00"))

def changed(entry):
    raise r.UnusableError("Die Dateien sind nicht mehr die registrierten.")

r.load = changed
try:
    registry.approve(2, "ben", "geprüft", "2026-03-01T11:00:00")
except r.UnusableError as error:
    print(error)
print(registry.version(2).tags["approval"])
print("sklearn" in sys.modules)
"""


def test_rules_of_the_registry_hold_without_a_server(tmp_path):
    said = process.output(["python", "-W", "ignore", "-c", RULES, tmp_path]).splitlines()
    assert said == [
        # Zweimal dieselbe Version gesetzt: Davor war trotzdem die erste.
        "(2, '1')",
        # Freigegeben wird nur, was noch da liegt und noch antwortet wie beim Registrieren.
        "Die Dateien sind nicht mehr die registrierten.",
        "withdrawn",
        # Wer einen Alias umsetzt, soll nicht auf den Import von scikit-learn warten.
        "False",
    ]
