"""Das Training ist wiederholbar und speichert ganz oder gar nicht."""

import json
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import pytest

from examples.price_model import data, train
from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata, load_model
from examples.price_model.schema import CATEGORIES, EXAMPLE, FEATURES, Stone

FILES = {"price_model.joblib", "price_model.onnx", "metadata.json"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Ein frisches Modell: (Ordner, Metadaten)."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, train.train(folder)


def test_rows_add_up(trained):
    rows = trained[1]["rows"]
    assert rows["raw"] == 53_940
    assert rows["zero_dimension"] == 20
    assert rows["raw"] - rows["zero_dimension"] - rows["duplicate"] == rows["used"]
    assert rows["train"] + rows["test"] == rows["used"]


def test_no_test_row_is_known_from_training():
    X_train, X_test, y_train, y_test = data.split(data.load_diamonds()[0])
    known = set(map(tuple, X_train.assign(price=y_train).to_numpy()))
    assert not known & set(map(tuple, X_test.assign(price=y_test).to_numpy()))


def test_training_twice_gives_the_same_predictions(trained):
    # Verglichen wird mit dem Modell aus `make model`: Es entstand in einem anderen Prozess.
    folder, metadata = trained
    _, X_test, _, _ = data.split(data.load_diamonds()[0])
    prices = [joblib.load(f / "price_model.joblib").predict(X_test) for f in (folder, ARTIFACTS)]
    np.testing.assert_array_equal(*prices)
    earlier = load_metadata()
    for name in ("data_sha256", "mae_usd", "r2", "model_version", "onnx_max_difference_usd"):
        assert metadata[name] == earlier[name]


def test_metadata_says_what_the_model_expects(trained):
    metadata = json.loads((trained[0] / "metadata.json").read_text(encoding="utf-8"))
    assert tuple(metadata["features"]) == FEATURES
    assert metadata["categories"] == {name: list(grades) for name, grades in CATEGORIES.items()}
    assert metadata["mae_usd"] < 300 and metadata["r2"] > 0.97
    assert metadata["onnx_max_difference_usd"] <= train.MAX_DIFFERENCE_USD


def test_categories_of_the_schema_are_those_of_the_data():
    table, _ = data.load_diamonds()
    assert {name: set(table[name]) for name in CATEGORIES} == {
        name: set(grades) for name, grades in CATEGORIES.items()
    }


def test_differing_onnx_saves_nothing(tmp_path, monkeypatch):
    # Schon trainiert: Geprüft wird, was danach kommt.
    pipeline = joblib.load(ARTIFACTS / "price_model.joblib")
    monkeypatch.setattr(train, "build_pipeline", lambda: mock.Mock(fit=lambda *_: pipeline))
    monkeypatch.setattr(train, "MAX_DIFFERENCE_USD", 0.0)
    with pytest.raises(train.ExportError, match="nichts gespeichert"):
        train.train(tmp_path)
    assert not list(tmp_path.iterdir())


def test_interrupted_saving_keeps_the_old_model(tmp_path, monkeypatch, trained):
    train.save(tmp_path, "alt", train.ModelProto(), {"model_version": "alt"})

    write_bytes = Path.write_bytes

    def full_disk(path, data):
        if path.name.startswith("metadata.json"):
            raise OSError("Kein Platz mehr")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="Kein Platz"):
        train.save(tmp_path, "neu", train.ModelProto(), {"model_version": "neu"})
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert joblib.load(tmp_path / "price_model.joblib") == "alt"


def test_failing_training_is_one_german_line(monkeypatch, capsys):
    def fail():
        raise train.ExportError("ONNX weicht ab")

    monkeypatch.setattr(train, "train", fail)
    assert train.main() == 1
    assert capsys.readouterr().err == "Training abgebrochen: ONNX weicht ab\n"


def test_missing_model_names_the_command(tmp_path):
    for folder in (tmp_path, Path(__file__)):
        with pytest.raises(ModelMissingError, match="make model"):
            load_model(folder=folder)


def test_unknown_engine_names_the_known_ones():
    with pytest.raises(ValueError, match="onnx, sklearn"):
        load_model("torch")


def test_both_engines_agree(trained):
    stones = [Stone(**EXAMPLE)]
    onnx, sklearn = (load_model(engine, trained[0]) for engine in ("onnx", "sklearn"))
    assert onnx.predict(stones) == pytest.approx(sklearn.predict(stones), abs=0.05)


def test_figures_shown_on_pages_are_those_of_this_model(trained):
    path = Path(__file__).parents[2] / "book" / "data" / "price_model.json"
    figures = json.loads(path.read_text(encoding="utf-8"))
    shown = {name: figures[name] for name in ("model_version", "rows", "mae_usd", "r2")}
    assert shown == {name: trained[1][name] for name in shown}, "make figures aufrufen"


def test_metadata_is_the_last_to_get_its_name(tmp_path, monkeypatch):
    replace = Path.replace

    def interrupted(path, target):
        if Path(target).name == "price_model.onnx":
            raise OSError("Strom weg")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(OSError, match="Strom weg"):
        train.save(tmp_path, "neu", train.ModelProto(), {"model_version": "neu"})
    with pytest.raises(ModelMissingError):
        load_model(folder=tmp_path)
