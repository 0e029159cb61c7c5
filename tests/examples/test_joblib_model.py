"""Geladen wird nur, was unverändert ist und zu dieser Umgebung passt."""

import hashlib
import json
import pickle
import shutil
import sys
import warnings
from pathlib import Path

import joblib
import pytest
import sklearn

import process
from examples.joblib_model import store
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import EXAMPLE

PIPELINE = ARTIFACTS / "price_model.joblib"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Das gespeicherte Modell; einmal für alle, denn das Packen dauert länger als ein Test."""
    folder = tmp_path_factory.mktemp("saved")
    store.save(joblib.load(PIPELINE), folder)
    return folder


@pytest.fixture
def folder(tmp_path, saved):
    return shutil.copytree(saved, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def refused(monkeypatch, capsys):
    """Ruft die Befehlszeile hier auf, denn ein neuer Prozess lädt jedes Mal scikit-learn."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["store", *map(str, arguments)])
        assert store.command_line("Modell", store.save, store.load) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return run


def change_manifest(folder, **changes):
    path = folder / store.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_saved_model_loads_with_its_version(folder):
    pipeline, version = store.load(folder)
    assert version == "1.0.0"
    assert len(pipeline.steps) == 2
    assert {path.name for path in folder.iterdir()} == {store.MODEL, store.MANIFEST}


@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_changed_byte_is_refused_before_anything_runs(folder, position, monkeypatch):
    data = bytearray((folder / store.MODEL).read_bytes())
    data[position] ^= 1
    (folder / store.MODEL).write_bytes(data)
    monkeypatch.setattr(joblib, "load", lambda *_: pytest.fail("geladen"))
    with pytest.raises(store.UnusableModelError, match="nicht die, die gespeichert wurde"):
        store.load(folder)


def saved_with(folder, release):
    """Lässt Modell und Beipackzettel aussehen, als stammten sie aus dieser Version."""
    stream = pickle.dumps(joblib.load(PIPELINE))
    here = sklearn.__version__.encode()
    # Vor dem Text steht seine Länge; bei anderer Länge wäre der Datenstrom unlesbar.
    assert len(release) == len(here) and here in stream
    (folder / store.MODEL).write_bytes(stream.replace(here, release.encode()))
    changed = (folder / store.MODEL).read_bytes()
    change_manifest(folder, sha256=hashlib.sha256(changed).hexdigest())
    change_versions(folder, **{"scikit-learn": release})


def change_versions(folder, **changes):
    saved = json.loads((folder / store.MANIFEST).read_text())["versions"]
    change_manifest(folder, versions=saved | changes)


@pytest.mark.parametrize("package", store.PACKAGES)
def test_other_version_is_refused(folder, package):
    change_versions(folder, **{package: "0.2.3"})
    with pytest.raises(store.UnusableModelError, match=rf"{package} 0\.2\.3, hier ist"):
        store.load(folder)


def other_release(part):
    numbers = sklearn.__version__.split(".")
    numbers[part] = str((int(numbers[part]) + 1) % 10)
    return ".".join(numbers)


def test_patch_release_is_accepted_without_a_warning(folder):
    saved_with(folder, other_release(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(store.load(folder)[0].steps) == 2


def test_minor_release_is_refused(folder):
    saved_with(folder, other_release(1))
    with pytest.raises(store.UnusableModelError, match="Gespeichert mit scikit-learn"):
        store.load(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b"null", b"{}", b'{"model_version": "1.0.0"}', b"[" * 100_000],
    ids=["empty", "half", "not text", "list", "null", "object", "one field", "deep"],
)
def test_broken_manifest_is_one_german_line(folder, content, refused):
    (folder / store.MANIFEST).write_bytes(content)
    reason = "manifest.json ist kein vollständiger Beipackzettel. Nicht geladen."
    assert refused("predict", folder, json.dumps(EXAMPLE)) == f"{reason}\n"


@pytest.mark.parametrize("versions", [[], "1.9.1", {"numpy": "2.4.6"}, {"scikit-learn": None}])
def test_manifest_without_versions_is_refused(folder, versions, monkeypatch):
    monkeypatch.setattr(joblib, "load", lambda *_: pytest.fail("geladen"))
    change_manifest(folder, versions=versions)
    with pytest.raises(store.UnusableModelError, match="kein vollständiger Beipackzettel"):
        store.load(folder)


def test_other_features_are_refused(folder):
    change_manifest(folder, features=["weight"])
    with pytest.raises(store.UnusableModelError, match="andere Merkmale"):
        store.load(folder)


def test_estimator_of_another_version_is_an_error_not_a_warning(folder):
    saved_with(folder, "1.5.2")
    change_versions(folder, **{"scikit-learn": sklearn.__version__})
    with pytest.raises(store.UnusableModelError, match=r"stammt von scikit-learn 1\.5\.2"):
        store.load(folder)


@pytest.mark.parametrize("name", [store.MODEL, store.MANIFEST])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(store.UnusableModelError, match=f"{name} fehlt"):
        store.load(folder)


def test_failed_saving_keeps_the_old_model(folder, monkeypatch):
    def full_disk(*args, **options):
        raise OSError("Kein Platz mehr")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="Kein Platz"):
        store.save("neu", folder)
    assert len(store.load(folder)[0].steps) == 2
    assert {path.name for path in folder.iterdir()} == {store.MODEL, store.MANIFEST}


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (json.dumps(EXAMPLE | {"cut": "Super"}), "cut: Erlaubt ist"),
        ("{", "kein gültiges JSON"),
        ("1" * 5000, "kein gültiges JSON"),
        ("[" * 100_000, "kein gültiges JSON"),
        ("[]", "mindestens einen Stein"),
    ],
    ids=lambda text: text[:20],
)
def test_bad_question_is_one_german_line(folder, question, reason, refused):
    (line,) = refused("predict", folder, question).splitlines()
    assert reason in line


def test_what_was_checked_is_what_is_loaded(folder, monkeypatch):
    """Wer die Datei nach dem Prüfen tauscht, kommt zu spät."""
    real = store.minor

    def swap(release):  # gefragt wird nach dem Fingerabdruck und vor dem Laden
        (folder / store.MODEL).write_bytes(b"etwas anderes")
        return real(release)

    monkeypatch.setattr(store, "minor", swap)
    assert len(store.load(folder)[0].steps) == 2


def test_package_missing_here_is_named(folder):
    change_versions(folder, xgboost="3.0.0")
    with pytest.raises(store.UnusableModelError, match="Gespeichert mit xgboost, das hier fehlt"):
        store.load(folder)


def test_command_line_saves_and_answers(tmp_path):
    command = ["python", "-m", "examples.joblib_model.store"]
    process.output([*command, "save", tmp_path / "neu"])
    answer = process.output([*command, "predict", tmp_path / "neu", json.dumps(EXAMPLE)])
    assert json.loads(answer)[0] == pytest.approx(2988, abs=1)
