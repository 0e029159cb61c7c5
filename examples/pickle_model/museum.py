"""Ein Museum für gespeicherte Modelle: Öffnen sich die Dateien von damals noch heute?

Einlegen:  python -m examples.pickle_model.museum add ORDNER [FORMAT …]
Besuchen:  python -m examples.pickle_model.museum visit ORDNER [FORMAT …]
Ein neues Format ist ein Eintrag in `FORMATS`. `provenance.json` im Ordner nennt die Herkunft.
Braucht ein Format die Umgebung eines anderen Kapitels, läuft derselbe Befehl dort noch einmal.
"""

import argparse
import functools
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from examples.price_model.data import fingerprint, load_diamonds, split
from examples.price_model.predict import ModelMissingError
from examples.price_model.schema import EXAMPLE
from examples.price_model.storage import write_together

ROOT = Path(__file__).resolve().parents[2]
PROVENANCE = "provenance.json"
FIELDS = {"file", "format", "sha256", "stones", "prices_usd"}
# Klein genug, um im Repository zu liegen; um die Güte geht es hier nicht.
PIPELINE = {"iterations": 20}
NETWORK = {"units": 8, "epochs": 1}
TOLERANCE_USD = 0.05
PATIENCE = 100  # Sekunden für ein Format in seiner eigenen Umgebung
STONES = [
    EXAMPLE,
    EXAMPLE | {"carat": 1.5, "x": 7.3, "y": 7.3, "z": 4.5},
    EXAMPLE | {"cut": "Fair", "color": "J", "clarity": "I1"},
]
Predict = Callable[[list[dict]], Iterable[float]]
# Durchgesehen: So hießen 2024 harmlose Teile des Modells, oder skops kannte sie noch nicht.
TRUSTED_IN_2024 = [
    "_loss.CyHalfSquaredError",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
]


class MuseumError(RuntimeError):
    """Der Ordner, ein Stück darin oder der Befehl passt nicht."""


class MissingEnvironmentError(MuseumError):
    """Das Format braucht eine Umgebung, die auf diesem Rechner fehlt."""


class Format(NamedTuple):
    """Wie ein Stück entsteht, wie es sich öffnet und welche Pakete dazu gehören."""

    packages: tuple[str, ...]
    dump: Callable[[], bytes]
    load: Callable[[bytes], Predict]
    settings: dict[str, int] = PIPELINE
    environment: str = ""  # Kapitel, dessen Umgebung die Pakete hat; leer ist die gemeinsame
    suffix: str = ""  # hinter dem Namen des Formats, wenn die Datei etwas einpackt


# Jedes Format lädt seine Pakete selbst: So öffnet es sich auch, wo die anderen fehlen.
@functools.cache
def trained():
    """Trainiert die Pipeline des Buches in klein; gibt auch die Testdaten zurück."""
    from examples.price_model.pipeline import build_pipeline

    X_train, X_test, y_train, _ = split(load_diamonds()[0])
    pipeline = build_pipeline().set_params(model__max_iter=PIPELINE["iterations"])
    return pipeline.fit(X_train, y_train), X_test


def from_pipeline(pipeline) -> Predict:
    """Fragt eine Pipeline von scikit-learn."""
    import pandas as pd

    return lambda stones: pipeline.predict(pd.DataFrame(stones))


def dump_joblib() -> bytes:
    """Schreibt das Modell mit joblib, komprimiert."""
    import joblib

    buffer = io.BytesIO()
    joblib.dump(trained()[0], buffer, compress=3)
    return buffer.getvalue()


def load_joblib(data: bytes) -> Predict:
    """Liest mit joblib."""
    import joblib

    return from_pipeline(joblib.load(io.BytesIO(data)))


def dump_pickle() -> bytes:
    """Schreibt das Modell mit pickle."""
    import pickle

    return pickle.dumps(trained()[0], protocol=5)


def load_pickle(data: bytes) -> Predict:
    """Liest mit pickle."""
    import pickle

    return from_pipeline(pickle.loads(data))


def dump_skops() -> bytes:
    """Schreibt das Modell mit skops, komprimiert."""
    from zipfile import ZIP_DEFLATED

    from skops.io import dumps

    return dumps(trained()[0], compression=ZIP_DEFLATED)


def load_skops(data: bytes) -> Predict:
    """Liest mit skops und den durchgesehenen Typen."""
    from skops.io import loads

    from examples.pickle_model.skops_store import TRUSTED

    return from_pipeline(loads(data, trusted=TRUSTED + TRUSTED_IN_2024))


def dump_onnx() -> bytes:
    """Wandelt das Modell nach ONNX."""
    from examples.price_model.train import export_onnx

    return export_onnx(*trained())[0].SerializeToString()


def load_onnx(data: bytes) -> Predict:
    """Liest mit onnxruntime."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    kinds = {
        part.name: object if part.type == "tensor(string)" else np.float32
        for part in session.get_inputs()
    }

    def predict(stones: list[dict]) -> Iterable[float]:
        columns = {
            name: np.array([[stone[name]] for stone in stones], dtype=kind)
            for name, kind in kinds.items()
        }
        return session.run(None, columns)[0][:, 0]

    return predict


def pack(folder: Path) -> bytes:
    """Packt einen Ordner in eine ZIP-Datei: derselbe Inhalt ergibt immer dieselben Bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            # Ohne Zeit und Rechte der Datei: `ZipInfo` setzt beides auf feste Werte.
            part = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            part.create_system = 3  # sonst stünde hier, ob Windows sie geschrieben hat
            archive.writestr(part, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(data: bytes, folder: str) -> None:
    """Packt eine ZIP-Datei aus; `MuseumError`, wenn sie beschädigt ist."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise MuseumError("Die ZIP-Datei ist beschädigt") from None


def dump_savedmodel() -> bytes:
    """Trainiert ein winziges Netz und packt sein SavedModel ein."""
    from examples.tensorflow_savedmodel.train import VERSION, train

    with tempfile.TemporaryDirectory() as parent:
        train(Path(parent, "small"), **NETWORK)
        return pack(Path(parent, "small", "price", str(VERSION)))


def load_savedmodel(data: bytes) -> Predict:
    """Liest mit TensorFlow, ohne Keras und ohne den Code aus dem Training."""
    with tempfile.TemporaryDirectory() as folder:
        unpack(data, folder)
        if not Path(folder, "saved_model.pb").exists():
            raise MuseumError("In der ZIP-Datei liegt kein SavedModel")
        import tensorflow as tf

        model = tf.saved_model.load(folder)
    (_, inputs) = model.signatures["serving_default"].structured_input_signature
    kinds = {name: spec.dtype for name, spec in inputs.items()}

    def predict(stones: list[dict]) -> Iterable[float]:
        columns = {
            name: tf.constant([stone[name] for stone in stones], kind)
            for name, kind in kinds.items()
        }
        # Über das Modell, damit es am Leben bleibt: Ihm gehören die Variablen.
        return model.signatures["serving_default"](**columns)["price_usd"].numpy()

    return predict


FORMATS = {
    "joblib": Format(("scikit-learn", "numpy", "joblib"), dump_joblib, load_joblib),
    "pickle": Format(("scikit-learn", "numpy"), dump_pickle, load_pickle),
    "skops": Format(("scikit-learn", "numpy", "skops"), dump_skops, load_skops),
    "onnx": Format(("scikit-learn", "skl2onnx", "onnx", "onnxruntime"), dump_onnx, load_onnx),
    "savedmodel": Format(
        ("tensorflow", "tensorflow-cpu", "keras"),  # das erste heißt unter Linux wie das zweite
        dump_savedmodel,
        load_savedmodel,
        NETWORK,
        "tensorflow_savedmodel",
        ".zip",
    ),
}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Gibt die Versionen von Python und den genannten Paketen zurück, soweit installiert."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def elsewhere(name: str) -> str:
    """Gibt das Python zurück, in dem dieses Format zu Hause ist; leer, wenn es dieses ist.

    Raises:
        `MissingEnvironmentError`: Die Umgebung ist nicht eingerichtet.
    """
    slug = FORMATS[name].environment
    if not slug or Path(sys.prefix).name == slug:
        return ""
    folder = ROOT / ".environments" / slug / ("Scripts" if os.name == "nt" else "bin")
    python = shutil.which("python", path=folder)
    if python is None:
        raise MissingEnvironmentError(
            f"Es fehlt die Umgebung. Abhilfe: python tools/setup.py {slug}"
        )
    return python


def call(python: str, command: str, folder: Path, name: str) -> subprocess.CompletedProcess:
    """Führt `add` oder `visit` für ein Format mit einem anderen Python aus.

    Raises:
        `MuseumError`: Es hat nach `PATIENCE` Sekunden nicht geantwortet.
    """
    try:
        return subprocess.run(
            [python, "-m", "examples.pickle_model.museum", command, folder.resolve(), name],
            cwd=ROOT,
            env={**os.environ, "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise MuseumError(f"{name}: Nach {PATIENCE} s kam keine Antwort.") from None


def last_line(text: str) -> str:
    """Gibt die letzte Zeile zurück; davor stehen die Meldungen von TensorFlow."""
    return (text.splitlines() or ["ohne Meldung beendet"])[-1]


def provenance(folder: Path) -> list[dict]:
    """Gibt die Einträge des Ordners zurück, einen je Stück."""
    path = folder / PROVENANCE
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if all(entry.keys() >= FIELDS for entry in entries):
            return entries
    except (ValueError, TypeError, AttributeError, RecursionError):  # kein JSON, keine Liste
        pass
    raise MuseumError(f"{path.name} in {folder.name}/ ist keine vollständige Herkunftsangabe.")


def add(folder: Path, names: Iterable[str]) -> list[str]:
    """Legt fehlende Stücke ein und nennt sie; was schon daliegt, bleibt unberührt."""
    present = {entry["format"] for entry in provenance(folder)}
    missing = [name for name in names if name not in present]
    # Erst fragen, ob alles da ist: Sonst fehlte das letzte Stück nach langem Training.
    for name, python in [(name, elsewhere(name)) for name in missing]:
        if python:
            done = call(python, "add", folder, name)
            if done.returncode:
                raise MuseumError(f"{name}: {last_line(done.stderr)}")
        else:
            put(folder, name)
    return missing


def put(folder: Path, name: str) -> None:
    """Legt ein Stück ein, zusammen mit seiner Herkunft."""
    form = FORMATS[name]
    data = form.dump()
    file = f"price_model.{name}{form.suffix}"
    entry = {
        "file": file,
        "format": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "made_on": datetime.now(UTC).date().isoformat(),
        "made_by": f"python -m examples.pickle_model.museum add tests/artefacts/{folder.name}",
        **form.settings,
        "data_sha256": fingerprint(load_diamonds()[0]),
        "versions": versions(form.packages),
        "stones": STONES,
        "prices_usd": [round(float(price), 2) for price in form.load(data)(STONES)],
    }
    text = json.dumps([*provenance(folder), entry], indent=2, ensure_ascii=False) + "\n"
    write_together(folder, {file: data, PROVENANCE: text.encode()})


def visit(folder: Path, entry: dict) -> tuple[bool, str]:
    """Öffnet ein Stück und vergleicht seine Preise; gibt Erfolg und Befund zurück.

    Geöffnet wird nur, was den Fingerabdruck aus der Herkunftsangabe trägt.

    Raises:
        `MissingEnvironmentError`: Die Umgebung, in der sich das Stück öffnet, fehlt.
    """
    if entry["format"] not in FORMATS:
        return False, f"nicht geöffnet: Das Format {entry['format']} ist unbekannt"
    path = folder / entry["file"]
    if not path.exists():
        return False, "fehlt"
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        return False, "nicht geöffnet: Der Fingerabdruck passt nicht"
    if python := elsewhere(entry["format"]):
        try:
            done = call(python, "visit", folder, entry["format"])
        except MuseumError as error:
            return False, f"lädt nicht: {error}"
        finding = done.stdout.strip().removeprefix(entry["file"]).strip()
        return not done.returncode, finding or f"lädt nicht:\n  {last_line(done.stderr)}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            predict = FORMATS[entry["format"]].load(data)
            prices = [float(price) for price in predict(entry["stones"])]
        except MuseumError as error:
            return False, f"lädt nicht: {error}"
        except Exception as error:  # woran es scheitert, ist der Befund
            reason = re.sub(r" from '.*?'", "", (str(error).splitlines() or ["ohne Meldung"])[0])
            return False, f"lädt nicht:\n  {type(error).__name__}: {reason}"
    differences = [abs(a - b) for a, b in zip(prices, entry["prices_usd"], strict=True)]
    # So herum geschrieben, damit auch NaN als Abweichung gilt.
    if not all(difference <= TOLERANCE_USD for difference in differences):
        shown = ", ".join(f"{price:.2f}" for price in prices)
        return False, f"andere Preise: {shown}"
    kinds = sorted({warning.category.__name__ for warning in caught})
    return True, "gleiche Preise" + (f", mit Warnung: {', '.join(kinds)}" if kinds else "")


def tour(folder: Path, formats: list[str]) -> bool:
    """Besucht die Stücke eines Ordners; falsch, wenn eines nicht hält, was es verspricht."""
    entries = provenance(folder)
    chosen = [entry for entry in entries if not formats or entry["format"] in formats]
    absent = sorted(set(formats) - {entry["format"] for entry in chosen})
    if absent or not chosen:
        raise MuseumError(f"In {folder.name}/ liegt kein Stück: {', '.join(absent) or PROVENANCE}")
    width = max(len(entry["file"]) for entry in chosen)
    green = True
    for entry in chosen:
        try:
            good, finding = visit(folder, entry)
        except MissingEnvironmentError as error:
            # Wer das Format beim Namen nennt, will es sehen; sonst genügt der Hinweis.
            good, finding = not formats, f"übersprungen: {error}"
        green = green and good
        print(f"{entry['file']:<{width}} {finding}", flush=True)
    return green


def main() -> int:
    """Führt `add` oder `visit` aus; 1, wenn ein Stück sich nicht öffnet oder anders rechnet."""
    parser = argparse.ArgumentParser(description="Museum gespeicherter Modelle")
    parser.add_argument("command", choices=("add", "visit"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=", ".join(FORMATS))
    options = parser.parse_args()
    unknown = set(options.formats) - set(FORMATS)
    if unknown:
        parser.error(f"Unbekanntes Format: {', '.join(sorted(unknown))}")
    try:
        if options.command == "add":
            added = add(options.folder, options.formats or FORMATS)
            print("Eingelegt:", ", ".join(added) or "nichts, alles da")
            return 0
        return int(not tour(options.folder, options.formats))
    except (MuseumError, ModelMissingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
