"""Das SavedModel ist ganz oder gar nicht da und braucht zum Antworten weder Keras noch Training."""

import hashlib
import json
import shutil
import subprocess

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
LOAD = f"""
import sys
from pathlib import Path
from examples.{SLUG}.server import load_model
print(load_model(Path(sys.argv[1])).version)
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
def url():
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/models/price"
    service = process.serve(module("server", "--rest_api_port", port), url, timeout=60)
    yield url
    service.stop()


def content(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_training_twice_gives_the_same_model(small, tmp_path):
    process.output(module("train", "--folder", tmp_path / "again", *SMALL))
    first, second = content(small), content(tmp_path / "again")
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
    ("sabotage", "reason"),
    [
        ("train.MAX_DIFFERENCE_USD = -1", "Es wurde nichts gespeichert"),
        ("train.export_savedmodel = lambda *_: open('/gibt/es/nicht')", "No such file"),
        (
            "real = train.Path.rename\n"
            "def fail(path, to):\n"
            "    if path.name.endswith('.new'): raise PermissionError(13, 'Permission denied')\n"
            "    return real(path, to)\n"
            "train.Path.rename = fail",
            "Permission denied",
        ),
    ],
)
def test_failed_saving_is_one_line_and_keeps_the_old_model(small, sabotage, reason):
    before = content(small)
    script = f"""
import sys
from examples.tensorflow_savedmodel import train
{sabotage}
sys.argv = ["train", "--folder", {str(small)!r}, "--units", "4", "--epochs", "1"]
sys.exit(train.main())
"""
    with pytest.raises(process.ProcessError, match=rf"Training abgebrochen: .*{reason}") as error:
        process.output([PYTHON, "-c", script])
    assert "Traceback" not in str(error.value)
    assert content(small) == before
    assert [path.name for path in small.parent.iterdir()] == [small.name]


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
    assert [(version["version"], version["state"]) for version in status] == [("1", "AVAILABLE")]
    metadata = httpx.get(f"{url}/metadata").json()
    assert metadata["model_spec"] == {"name": "price", "signature_name": "", "version": "1"}
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


def test_highest_version_is_served(small, tmp_path):
    for version in ("9", "10"):
        shutil.copytree(small / "price" / "1", tmp_path / version)
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/models/price"
    command = module("server", "--rest_api_port", port, "--model_base_path", tmp_path)
    service = process.serve(command, url, timeout=60)
    try:
        assert httpx.get(url).json()["model_version_status"][0]["version"] == "10"
    finally:
        service.stop()


def test_server_without_model_names_the_command(tmp_path):
    with pytest.raises(process.ProcessError, match="Abhilfe: make keras-model") as error:
        process.output(module("server", "--model_base_path", tmp_path))
    assert "Traceback" not in str(error.value)


def test_half_copied_version_is_not_served(tmp_path):
    shutil.copytree(ARTIFACTS / "price" / "1", tmp_path / "1")
    (tmp_path / "2" / "variables").mkdir(parents=True)
    (tmp_path / "kopie").mkdir()
    shutil.copy(ARTIFACTS / "price" / "1" / "saved_model.pb", tmp_path / "kopie")
    assert process.output([PYTHON, "-c", LOAD, tmp_path]).strip() == "1"


@pytest.mark.parametrize(
    "damage",
    [
        lambda version: shutil.rmtree(version / "variables"),
        lambda version: (version / "saved_model.pb").write_bytes(b""),
        lambda version: (version / "saved_model.pb").write_bytes(b"kein Modell"),
        lambda version: next((version / "variables").glob("*.data*")).write_bytes(b"zu kurz"),
    ],
    ids=["ohne Variablen", "leer", "kein Modell", "abgeschnitten"],
)
def test_damaged_version_is_not_served(small, tmp_path, damage):
    shutil.copytree(small / "price" / "1", tmp_path / "1")
    damage(tmp_path / "1")
    with pytest.raises(process.ProcessError, match="beschädigt oder noch nicht fertig") as error:
        process.output(module("server", "--model_base_path", tmp_path))
    assert "Traceback" not in str(error.value)


def test_model_that_does_not_name_its_version_is_not_served(tmp_path):
    shutil.copytree(ARTIFACTS / "price" / "1", tmp_path / "3")
    graph = tmp_path / "3" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes().replace(b"model_version", b"modellfassung"))
    reason = r"Version 3 nennt in der Antwort nicht: model_version\. Nicht geladen"
    with pytest.raises(process.ProcessError, match=reason):
        process.output([PYTHON, "-c", LOAD, tmp_path])


def test_model_with_other_features_is_not_served(small, tmp_path):
    shutil.copytree(small / "price" / "1", tmp_path / "2")
    graph = tmp_path / "2" / "saved_model.pb"
    # Derselbe Name mit gleich vielen Zeichen: die Datei bleibt lesbar.
    graph.write_bytes(graph.read_bytes().replace(b"carat", b"karat"))
    with pytest.raises(process.ProcessError, match=r"Version 2 .*: carat, karat\. Nicht geladen"):
        process.output(module("server", "--model_base_path", tmp_path))


def test_all_formats_give_the_same_price():
    prices = {
        runtime: json.loads(process.output(module("footprint", runtime)))["price_usd"]
        for runtime in ("keras", "savedmodel", "litert")
    }
    assert prices == pytest.approx(dict.fromkeys(prices, prices["keras"]), abs=0.05)
