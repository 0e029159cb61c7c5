"""Ein Modell mit Beipackzettel speichern und nur laden, was unverändert ist und passt.

Speichern: python -m examples.joblib_model.store save ORDNER
Fragen:    python -m examples.joblib_model.store predict ORDNER '{"carat": 0.7, …}'
"""

import argparse
import hashlib
import io
import json
import re
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import joblib
import pandas as pd
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import Pipeline

from examples.price_model import MODEL_VERSION
from examples.price_model.data import load_diamonds, split
from examples.price_model.pipeline import build_pipeline
from examples.price_model.schema import FEATURES, InvalidStoneError, parse
from examples.price_model.storage import write_together

MODEL = "model.joblib"
MANIFEST = "manifest.json"
PACKAGES = ("scikit-learn", "numpy", "joblib")
FIELDS = {"model_version", "sha256", "features", "versions"}


class UnusableModelError(RuntimeError):
    """Die Datei fehlt, ist verändert oder passt nicht zu dieser Umgebung."""


def save(pipeline: Pipeline, folder: Path) -> list[str]:
    """Schreibt Modell und Beipackzettel; gibt die Namen der Dateien zurück."""
    buffer = io.BytesIO()
    joblib.dump(pipeline, buffer, compress=3)
    manifest = {
        "model_version": MODEL_VERSION,
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "features": list(FEATURES),
        "versions": {package: version(package) for package in PACKAGES},
    }
    text = json.dumps(manifest, indent=2) + "\n"
    return write_together(folder, {MODEL: buffer.getvalue(), MANIFEST: text.encode()})


def read_manifest(folder: Path) -> dict:
    """Liest den Beipackzettel; ein unvollständiger ergibt `UnusableModelError`."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest.keys() >= FIELDS and manifest["versions"].keys() >= set(PACKAGES):
            return manifest
    except (ValueError, AttributeError, RecursionError):  # kein JSON oder kein Objekt
        pass
    raise UnusableModelError(f"{MANIFEST} ist kein vollständiger Beipackzettel. Nicht geladen.")


def minor(release: str) -> str:
    """Gibt die ersten beiden Stellen einer Version zurück; sie müssen übereinstimmen."""
    return ".".join(str(release).split(".")[:2])


def load(folder: Path) -> tuple[Pipeline, str]:
    """Prüft Beipackzettel und Fingerabdruck und lädt erst dann; gibt auch die Version zurück."""
    try:
        manifest = read_manifest(folder)
        data = (folder / MODEL).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnusableModelError(f"{Path(error.filename).name} fehlt in {folder.name}/.") from None
    # Einmal gelesen: Geladen werden genau die Bytes, die geprüft wurden.
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        raise UnusableModelError("Die Datei ist nicht die, die gespeichert wurde. Nicht geladen.")
    if manifest["features"] != list(FEATURES):
        raise UnusableModelError("Das Modell erwartet andere Merkmale, als dieser Dienst prüft.")
    for package, saved in manifest["versions"].items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            raise UnusableModelError(f"Gespeichert mit {package}, das hier fehlt.") from None
        if minor(saved) != minor(installed):
            raise UnusableModelError(f"Gespeichert mit {package} {saved}, hier ist {installed}.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", InconsistentVersionWarning)
        # scikit-learn warnt schon bei einem anderen Patch-Stand; der ist hier erlaubt.
        same = rf".* from version {re.escape(minor(version('scikit-learn')))}\."
        warnings.filterwarnings("ignore", same, InconsistentVersionWarning)
        try:
            return joblib.load(io.BytesIO(data)), manifest["model_version"]
        except InconsistentVersionWarning as warning:
            saved, here = warning.original_sklearn_version, warning.current_sklearn_version
            message = f"Ein Teil des Modells stammt von scikit-learn {saved}, hier ist {here}."
            raise UnusableModelError(message) from None


def command_line(description: str, save: Callable, load: Callable) -> int:
    """Führt `save` oder `predict` aus; Fehler sind eine Zeile und Rückgabewert 1."""
    parser = argparse.ArgumentParser(description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("save").add_argument("folder", type=Path)
    predict = commands.add_parser("predict")
    predict.add_argument("folder", type=Path)
    predict.add_argument("question", help="ein Stein oder eine Liste von Steinen als JSON")
    arguments = parser.parse_args()
    try:
        if arguments.command == "save":
            X_train, _, y_train, _ = split(load_diamonds()[0])
            *first, last = save(build_pipeline().fit(X_train, y_train), arguments.folder)
            print(f"{', '.join(first)} und {last} gespeichert.")
        else:
            try:
                payload = json.loads(arguments.question)
            except (ValueError, RecursionError):  # auch zu lange Zahlen, zu tiefe Klammern
                print("Die Frage ist kein gültiges JSON.", file=sys.stderr)
                return 1
            stones = parse(payload)
            pipeline, _ = load(arguments.folder)
            table = pd.DataFrame([stone.model_dump() for stone in stones])
            print(json.dumps([round(float(price), 2) for price in pipeline.predict(table)]))
    except (UnusableModelError, InvalidStoneError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(command_line("Preismodell mit Beipackzettel", save, load))
