"""Die ONNX-Datei antwortet ohne scikit-learn, und was falsch läuft, ist ein deutscher Satz."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys

import joblib
import numpy as np
import onnx
import pytest

import process
from examples.onnx_model import footprint, graph, latency
from examples.onnx_model.predict import answer
from examples.price_model.data import load_diamonds, split
from examples.price_model.predict import ARTIFACTS, PriceModel, load_metadata, load_model
from examples.price_model.schema import EXAMPLE, FEATURES, MAX_BATCH, Stone
from tools import figures

PREDICT = ["python:onnx_model", "-m", "examples.onnx_model.predict"]
MODEL = ARTIFACTS / "price_model.onnx"
PAGES = process.ROOT / "book" / "data"


def lines(questions: bytes) -> list:
    """Stellt je Zeile eine Frage an einen Prozess der kleinen Umgebung."""
    command = process._command([*PREDICT, ARTIFACTS])
    done = subprocess.run(command, cwd=process.ROOT, input=questions, capture_output=True)
    assert not done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_small_environment_holds_neither_pandas_nor_scikit_learn():
    script = "from importlib.util import find_spec as f; print(*map(f, ['pandas', 'sklearn']))"
    assert process.output(["python:onnx_model", "-c", script]) == "None None\n"


def test_shared_model_code_loads_in_the_small_environment():
    script = "import examples.price_model.predict as m; print(m.load_model().version)"
    assert process.output(["python:onnx_model", "-c", script]) == "1.0.0\n"


def test_one_stone_gets_one_price_and_a_list_a_list():
    one = json.loads(process.output([*PREDICT, ARTIFACTS, json.dumps(EXAMPLE)]))
    many = json.loads(process.output([*PREDICT, ARTIFACTS, json.dumps([EXAMPLE] * 2)]))
    assert one == {"price_usd": pytest.approx(2988, abs=1), "model_version": "1.0.0"}
    assert many == [one, one]


def test_every_line_is_answered_after_a_bad_one():
    stone = json.dumps(EXAMPLE).encode()
    bad = [b"carat=0.7", b"", b'{"cut": "\xff"}', b"[" * 100_000, b"[]", b"1" * 5000]
    replies = lines(b"\n".join([*bad, stone]))
    assert len(replies) == len(bad) + 1
    assert all(set(reply) == {"detail"} for reply in replies[:-1])
    assert replies[-1]["model_version"] == "1.0.0"


def test_fault_of_the_model_is_none_of_the_question():
    def broken(stones):
        raise ValueError("Required inputs (['carat']) are missing")

    with pytest.raises(ValueError, match="Required inputs"):
        answer(PriceModel(broken, "1.0.0"), json.dumps(EXAMPLE))


def test_unknown_engine_is_named():
    with pytest.raises(process.ProcessError, match="PRICE_ENGINE=tflite ist unbekannt") as error:
        process.output([*PREDICT, ARTIFACTS, "{}"], env={"PRICE_ENGINE": "tflite"})
    assert "Traceback" not in str(error.value)


def test_foreign_letters_end_nothing_where_windows_would_write_cp1252():
    env = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    asked = b'{"\xc5\x82": 1}\n' + json.dumps(EXAMPLE).encode()
    done = subprocess.run(
        process._command([*PREDICT, ARTIFACTS]),
        cwd=process.ROOT,
        env=os.environ | env,
        input=asked,
        capture_output=True,
    )
    assert len(done.stdout.splitlines()) == 2, done.stderr


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (json.dumps(EXAMPLE | {"cut": "Super"}), "Erlaubt ist: Fair"),
        ("{", "kein gültiges JSON"),
        ("", "kein gültiges JSON"),
    ],
)
def test_bad_question_ends_with_its_reason(question, reason):
    with pytest.raises(process.ProcessError, match=reason) as error:
        process.output([*PREDICT, ARTIFACTS, question])
    assert "Traceback" not in str(error.value)


def missing(folder):
    (folder / "price_model.onnx").unlink()


def damaged(folder):
    (folder / "price_model.onnx").write_bytes(MODEL.read_bytes()[:-100])


def too_new(folder):
    model = onnx.load(MODEL)
    model.ir_version = 99
    onnx.save(model, folder / "price_model.onnx")


@pytest.mark.parametrize("spoil", [missing, damaged, too_new])
def test_unusable_file_is_one_german_line(tmp_path, spoil):
    folder = shutil.copytree(ARTIFACTS, tmp_path / "modell")
    spoil(folder)
    with pytest.raises(process.ProcessError, match=r"Modell in modell/ lässt sich nicht") as error:
        process.output([*PREDICT, folder, json.dumps(EXAMPLE)])
    assert "Traceback" not in str(error.value)


def test_missing_model_names_the_command(tmp_path):
    with pytest.raises(process.ProcessError, match="make model"):
        process.output([*PREDICT, tmp_path, json.dumps(EXAMPLE)])


def test_graph_has_a_box_for_every_node_and_an_arrow_for_every_edge():
    model = onnx.load(MODEL)
    labels, parents = graph.boxes(model.graph)
    assert {"cut", "color", "clarity", "output"} <= set(labels)
    assert {node.output[0] for node in model.graph.node} <= set(labels)
    assert "carat, depth, table" in labels["carat"]
    assert [name for name in labels if not parents[name]] == ["carat", "cut", "color", "clarity"]
    assert all(parent in labels for sources in parents.values() for parent in sources)
    assert any(re.search(r"\d+ Bäume, \d+ Knoten", label) for label in labels.values())


def test_picture_is_written(tmp_path):
    picture = tmp_path / "graph.png"
    process.run(["python", "-m", "examples.onnx_model.graph", MODEL, picture])
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("model", "picture", "reason"),
    [
        ("fehlt.onnx", "a.png", "fehlt.onnx ist kein lesbares Modell."),
        (__file__, "a.png", "ist kein lesbares Modell."),
        (os.devnull, "a.png", "ist kein lesbares Modell."),
        (ARTIFACTS / "metadata.json", "a.png", "ist kein lesbares Modell."),
        (MODEL, "fehlt/a.png", "fehlt/a.png lässt sich nicht als Bild schreiben."),
        (MODEL, "a.onnx", "a.onnx lässt sich nicht als Bild schreiben."),
    ],
)
def test_picture_of_nothing_is_one_sentence(tmp_path, monkeypatch, model, picture, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["graph", str(model), picture])
    with pytest.raises(SystemExit, match=reason):
        graph.main()
    assert not list(tmp_path.iterdir())


def test_footprint_counts_every_dependency_once():
    sizes = footprint.footprint(["pydantic", "pydantic"])
    assert {"pydantic", "pydantic_core", "annotated-types"} <= set(sizes)
    files = importlib.metadata.files("pydantic")
    whole = sum(file.size or 0 for file in files if file.suffix != ".pyc")
    assert sizes["pydantic"] == pytest.approx(whole / 1e6)
    assert "mypy" not in sizes


def test_latency_measures_one_stone_and_a_full_batch(monkeypatch):
    monkeypatch.setattr(latency, "REPEATS", 3)
    times = latency.measure("onnx")
    assert set(times) == {1, MAX_BATCH}
    assert all(0 < each["p50"] <= each["p99"] for each in times.values())


def test_latency_without_a_model_ends_with_the_remedy(tmp_path):
    env = {"PRICE_MODEL_DIR": str(tmp_path)}
    with pytest.raises(process.ProcessError, match="Zuerst ausführen: make model") as refused:
        process.output(["python", "-m", latency.__name__], env=env)
    assert "Traceback" not in str(refused.value)


def test_model_on_the_pages_is_the_trained_one(tmp_path):
    shutil.copy(PAGES / "price_model.onnx", tmp_path)
    shutil.copy(ARTIFACTS / "metadata.json", tmp_path)
    _, X_test, _, _ = split(load_diamonds()[0])
    stones = [Stone.model_construct(**row) for row in X_test[list(FEATURES)].to_dict("records")]
    shown = load_model(folder=tmp_path).predict(stones)
    trained = joblib.load(ARTIFACTS / "price_model.joblib").predict(X_test)
    np.testing.assert_allclose(shown, trained, rtol=0, atol=0.05, err_msg="make figures aufrufen")


def test_form_on_the_pages_asks_what_the_schema_asks():
    shown = json.loads((PAGES / "price_form.json").read_text(encoding="utf-8"))
    assert shown == json.loads(figures.price_form(load_metadata())), "make figures aufrufen"
    assert tuple(shown["schema"]["properties"]) == FEATURES
