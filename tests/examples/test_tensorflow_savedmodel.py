"""Das SavedModel ist ganz oder gar nicht da und braucht zum Antworten weder Keras noch Training."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import httpx
import pytest
from starlette.testclient import TestClient

import process
from contract import INVALID_BODIES, free_port, require_environment
from examples.price_model.schema import EXAMPLE, REFUSALS
from examples.tensorflow_savedmodel import server

SLUG = "tensorflow_savedmodel"
PYTHON = f"python:{SLUG}"
ARTIFACTS = process.ROOT / "examples" / SLUG / "artifacts"
SMALL = ["--units", "4", "--epochs", "1"]
# Ein Prozess für alles: TensorFlow braucht zum Starten länger als für eine Antwort. Keras kommt
# zuerst, denn `load_model` sperrt es. Mit dem letzten Ordner startet der Server.
ANSWERS = f"""
import contextlib, io, json, sys
from pathlib import Path
from examples.{SLUG} import server
from examples.{SLUG}.footprint import RUNTIMES

def answer(folder):
    try:
        return server.load_model(Path(folder)).version
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"

prices = [RUNTIMES[name]() for name in ("keras", "savedmodel")]
*folders, last = sys.argv[1:]
versions = [answer(folder) for folder in folders]
sys.argv = ["server", "--model_base_path", last]
with contextlib.redirect_stderr(io.StringIO()) as stderr:
    code = server.main()
said = stderr.getvalue()
print(json.dumps({{"prices": prices, "versions": versions, "ended": [code, said]}}))
"""
# Trainiert einmal ungestört; danach fällt beim Speichern jedes Mal etwas anderes aus.
TRAIN = f"""
import contextlib, io, json, sys
from pathlib import Path
from unittest import mock
from examples.{SLUG} import train

def no_folder(*_):
    open("/gibt/es/nicht")

def no_permission(path, to, rename=Path.rename):
    if path.name.endswith(".new"):
        raise PermissionError(13, "Permission denied")
    return rename(path, to)

def main(name):
    sys.argv = ["train", "--folder", str(Path(parent, name, "artifacts")), *small]
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        return train.main(), stderr.getvalue()

parent, *small = sys.argv[1:]
with mock.patch.object(train, "save", wraps=train.save) as save:
    said = {{"again": main("again")}}
_, *trained = save.call_args.args
train.train = lambda folder, *_: train.save(folder, *trained)
for name, failure in {{
    "difference": mock.patch.object(train, "MAX_DIFFERENCE_USD", -1),
    "export": mock.patch.object(train, "export_savedmodel", no_folder),
    "rename": mock.patch.object(Path, "rename", no_permission),
}}.items():
    with failure:
        said[name] = main(name)
print(json.dumps(said))
"""
MAX_BYTES = 300_000  # so groß darf ein SavedModel im Museum höchstens sein


@pytest.fixture(autouse=True, scope="module")
def environment():
    require_environment(SLUG)


def module(name: str, *arguments: object) -> list:
    return [PYTHON, "-m", f"examples.{SLUG}.{name}", *arguments]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Ein kleines Modell, in wenigen Sekunden trainiert."""
    folder = tmp_path_factory.mktemp("small") / "artifacts"
    process.output(module("train", "--folder", folder, *SMALL))
    return folder


@pytest.fixture(scope="module")
def trainings(small, tmp_path_factory):
    """Vier Aufrufe in einem Prozess: (Ordner darüber, Exitcode und Fehlerausgabe je Name)."""
    parent = tmp_path_factory.mktemp("trainings")
    for name in ("difference", "export", "rename"):
        shutil.copytree(small, parent / name / small.name)
    said = process.output([PYTHON, "-c", TRAIN, parent, *SMALL], timeout=300)
    return parent, json.loads(said.splitlines()[-1])


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Ein Server, vor dem zwei Versionen liegen; nach dem Alphabet käme „9“ zuletzt."""
    folder, port = tmp_path_factory.mktemp("versions"), free_port()
    for version in ("9", "10"):
        shutil.copytree(ARTIFACTS / "price" / "1", folder / version)
    url = f"http://127.0.0.1:{port}/v1/models/price"
    command = module("server", "--rest_api_port", port, "--model_base_path", folder)
    service = process.serve(command, url, timeout=60)
    yield url
    service.stop()


def content(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_training_twice_gives_the_same_model(small, trainings):
    parent, said = trainings
    assert said["again"][0] == 0
    first, second = content(small), content(parent / "again" / small.name)
    assert set(first) == set(second)
    # Nur diese Datei enthält alle Zahlen und sonst nichts; die anderen nummerieren ihre Teile neu.
    assert first["price_model.tflite"] == second["price_model.tflite"]


def test_savedmodel_is_small_enough_for_the_museum(small):
    for folder in (small, ARTIFACTS):
        files = [path for path in (folder / "price").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < MAX_BYTES


def test_model_of_the_chapter_is_nearly_as_good_as_that_of_the_case():
    metadata = json.loads((ARTIFACTS / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["case_mae_usd"] < metadata["mae_usd"] < 1.5 * metadata["case_mae_usd"]
    assert metadata["savedmodel_max_difference_usd"] <= 0.05


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("difference", "Es wurde nichts gespeichert"),
        ("export", "No such file"),
        ("rename", "Permission denied"),
    ],
)
def test_failed_saving_is_one_line_and_keeps_the_old_model(small, trainings, failure, reason):
    parent, said = trainings
    code, stderr = said[failure]
    assert code == 1
    assert re.fullmatch(rf"Training abgebrochen: .*{reason}.*\n", stderr)
    assert content(parent / failure / small.name) == content(small)
    assert [path.name for path in (parent / failure).iterdir()] == [small.name]


def test_server_needs_no_keras_and_says_nothing_on_stderr():
    script = f"""
import sys
from pathlib import Path
from examples.price_model.schema import EXAMPLE, Stone
from examples.tensorflow_savedmodel.server import load_model
model = load_model(Path({str(ARTIFACTS / "price")!r}))
model.predict([Stone(**EXAMPLE)])
print([name for name, module in sys.modules.items() if name.startswith("keras") and module])
"""
    done = subprocess.run(
        process._command([PYTHON, "-c", script]),
        cwd=process.ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_status_and_metadata_are_those_of_tensorflow_serving(url):
    status = httpx.get(url).json()["model_version_status"]
    assert [(version["version"], version["state"]) for version in status] == [("10", "AVAILABLE")]
    metadata = httpx.get(f"{url}/metadata").json()
    assert metadata["model_spec"] == {"name": "price", "signature_name": "", "version": "10"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert set(signature["inputs"]) == set(EXAMPLE)
    assert set(signature["outputs"]) == {"price_usd", "model_version"}
    assert signature["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize("name", INVALID_BODIES)
def test_bad_body_is_answered_with_a_german_sentence(url, name):
    answer = httpx.post(f"{url}:predict", content=INVALID_BODIES[name][0])
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(("body: Der Inhalt ist", "body: Die Anfrage ist"))


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ([EXAMPLE], "body: Erwartet wird ein JSON-Objekt mit dem Feld „instances“."),
        ({"inputs": EXAMPLE}, "body: Erwartet wird ein JSON-Objekt mit dem Feld „instances“."),
        ({"instances": EXAMPLE}, "instances: Hier muss eine Liste von Steinen stehen."),
        ({"instances": []}, "instances: Die Liste muss mindestens einen Stein enthalten."),
        ({"instances": [EXAMPLE | {"x": 0}]}, "0.x: Die Zahl muss größer als 0 sein."),
        (
            {"instances": [EXAMPLE], "signature_name": "serve"},
            "signature_name: Erlaubt ist: serving_default.",
        ),
    ],
)
def test_wrong_envelope_is_named(url, question, error):
    answer = httpx.post(f"{url}:predict", json=question)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_default_signature_may_be_named(url):
    question = {"instances": [EXAMPLE], "signature_name": "serving_default"}
    (answer,) = httpx.post(f"{url}:predict", json=question).json()["predictions"]
    assert answer["model_version"] == "keras-1"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", ":predict", 405), ("GET", "/versions/2", 404)]
)
def test_unknown_address_is_answered_in_the_same_form(url, method, path, status):
    answer = httpx.request(method, f"{url}{path}")
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_crash_is_answered_in_the_same_form():
    def crash(stones):
        raise RuntimeError("kaputt")

    app = server.build_app(server.Model("1", crash, {}))
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.post(f"{server.URL}:predict", json={"instances": [EXAMPLE]})
    assert (answer.status_code, answer.json()) == (500, {"error": REFUSALS[500][1]})
    assert answer.headers["Connection"] == "close"


def test_highest_version_is_served(url):
    assert httpx.get(url).json()["model_version_status"][0]["version"] == "10"


def test_server_without_model_names_the_command(tmp_path):
    with pytest.raises(process.ProcessError, match="Abhilfe: make keras-model") as error:
        process.output(module("server", "--model_base_path", tmp_path))
    assert "Traceback" not in str(error.value)


def test_impossible_port_is_named(monkeypatch, capsys, tmp_path):
    words = ["--rest_api_port", "99999", "--model_base_path", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["server", *words])
    with pytest.raises(SystemExit) as ended:
        server.main()
    assert ended.value.code == 2 and "'99999' ist kein Port" in capsys.readouterr().err


def half_copied(version):
    """Daneben liegen ein Ordner ohne Graph und einer, der keine Version ist."""
    (version.parent / "4" / "variables").mkdir(parents=True)
    (version.parent / "kopie").mkdir()
    shutil.copy(version / "saved_model.pb", version.parent / "kopie")


def cut_off(version):
    next((version / "variables").glob("*.data*")).write_bytes(b"zu kurz")


def renamed(version, old, new):
    """Derselbe Name mit gleich vielen Zeichen: die Datei bleibt lesbar."""
    graph = version / "saved_model.pb"
    graph.write_bytes(graph.read_bytes().replace(old, new))


BROKEN = (
    "UnusableModelError: Version 3 ist beschädigt oder noch nicht fertig kopiert. Nicht geladen."
)
# Name: (was der Version 3 zustößt, was beim Laden herauskommt)
VERSIONS = {
    "halb kopiert": (half_copied, "3"),
    "ohne Variablen": (lambda version: shutil.rmtree(version / "variables"), BROKEN),
    "leer": (lambda version: (version / "saved_model.pb").write_bytes(b""), BROKEN),
    "kein Modell": (
        lambda version: (version / "saved_model.pb").write_bytes(b"kein Modell"),
        BROKEN,
    ),
    "abgeschnitten": (cut_off, BROKEN),
    "namenlos": (
        lambda version: renamed(version, b"model_version", b"modellfassung"),
        "UnusableModelError: Version 3 nennt in der Antwort nicht: model_version. Nicht geladen.",
    ),
    "andere Merkmale": (
        lambda version: renamed(version, b"carat", b"karat"),
        "UnusableModelError: Version 3 erwartet andere Merkmale, als dieser Dienst prüft: "
        "carat, karat. Nicht geladen.",
    ),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Was TensorFlow antwortet: zwei Preise, je Ordner eine Version, das Ende des Servers."""
    folders = [tmp_path_factory.mktemp("loaded") for _ in VERSIONS]
    for folder, (happen, _) in zip(folders, VERSIONS.values(), strict=True):
        happen(shutil.copytree(ARTIFACTS / "price" / "1", folder / "3"))
    damaged = folders[list(VERSIONS).index("abgeschnitten")]
    said = process.output([PYTHON, "-c", ANSWERS, *folders, damaged])
    return json.loads(said.splitlines()[-1])


@pytest.mark.parametrize("name", VERSIONS)
def test_only_a_whole_and_fitting_version_is_served(answers, name):
    versions = dict(zip(VERSIONS, answers["versions"], strict=True))
    assert versions[name] == VERSIONS[name][1]


def test_damaged_version_ends_the_server_without_a_traceback(answers):
    code, stderr = answers["ended"]
    assert (code, stderr) == (1, BROKEN.removeprefix("UnusableModelError: ") + "\n")


def test_all_formats_give_the_same_price(answers):
    keras, savedmodel = answers["prices"]
    litert = json.loads(process.output(module("footprint", "litert")))["price_usd"]
    assert (savedmodel, litert) == pytest.approx((keras, keras), abs=0.05)
