"""Ein Museum für gespeicherte Modelle: Öffnen sich die Dateien von damals noch heute?

Einlegen:  python -m examples.pickle_model.museum add ORDNER [FORMAT …]
Besuchen:  python -m examples.pickle_model.museum visit ORDNER [FORMAT …]
Ein neues Format ist ein Eintrag in `FORMATS`. `provenance.json` im Ordner nennt die Herkunft.
"""

import argparse
import functools
import hashlib
import io
import json
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from examples.joblib_model.store import write_together
from examples.price_model.data import fingerprint, load_diamonds, split
from examples.price_model.schema import EXAMPLE

PROVENANCE = "provenance.json"
# Klein genug, um im Repository zu liegen; um die Güte geht es hier nicht.
ITERATIONS = 20
TOLERANCE_USD = 0.05
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


class Format(NamedTuple):
    """Wie ein Stück entsteht, wie es sich öffnet und welche Pakete dazu gehören."""

    packages: tuple[str, ...]
    dump: Callable[[], bytes]
    load: Callable[[bytes], Predict]


# Jedes Format lädt seine Pakete selbst: So öffnet es sich auch, wo die anderen fehlen.
@functools.cache
def trained():
    """Trainiert die Pipeline des Buches in klein; gibt auch die Testdaten zurück."""
    from examples.price_model.train import build_pipeline

    X_train, X_test, y_train, _ = split(load_diamonds()[0])
    pipeline = build_pipeline().set_params(model__max_iter=ITERATIONS)
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


FORMATS = {
    "joblib": Format(("scikit-learn", "numpy", "joblib"), dump_joblib, load_joblib),
    "pickle": Format(("scikit-learn", "numpy"), dump_pickle, load_pickle),
    "skops": Format(("scikit-learn", "numpy", "skops"), dump_skops, load_skops),
    "onnx": Format(("scikit-learn", "skl2onnx", "onnx", "onnxruntime"), dump_onnx, load_onnx),
}


def provenance(folder: Path) -> list[dict]:
    """Gibt die Einträge des Ordners zurück, einen je Stück."""
    path = folder / PROVENANCE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def add(folder: Path, names: Iterable[str]) -> list[str]:
    """Legt fehlende Stücke ein und nennt sie; was schon daliegt, bleibt unberührt."""
    entries = provenance(folder)
    command = f"python -m examples.pickle_model.museum add tests/artefacts/{folder.name}"
    missing = [name for name in names if name not in {entry["format"] for entry in entries}]
    for name in missing:
        data = FORMATS[name].dump()
        file = f"price_model.{name}"
        entries.append(
            {
                "file": file,
                "format": name,
                "sha256": hashlib.sha256(data).hexdigest(),
                "made_on": datetime.now(UTC).date().isoformat(),
                "made_by": command,
                "iterations": ITERATIONS,
                "data_sha256": fingerprint(load_diamonds()[0]),
                "versions": {"python": platform.python_version()}
                | {package: version(package) for package in FORMATS[name].packages},
                "stones": STONES,
                "prices_usd": [round(float(p), 2) for p in FORMATS[name].load(data)(STONES)],
            }
        )
        text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
        write_together(folder, {file: data, PROVENANCE: text.encode()})
    return missing


def visit(folder: Path, entry: dict) -> tuple[bool, str]:
    """Öffnet ein Stück und vergleicht seine Preise; gibt Erfolg und Befund zurück.

    Geöffnet wird nur, was den Fingerabdruck aus der Herkunftsangabe trägt.
    """
    path = folder / entry["file"]
    if not path.exists():
        return False, "fehlt"
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        return False, "nicht geöffnet: Der Fingerabdruck passt nicht"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            predict = FORMATS[entry["format"]].load(data)
            prices = [float(price) for price in predict(entry["stones"])]
        except Exception as error:  # woran es scheitert, ist der Befund
            reason = re.sub(r" from '.*?'", "", str(error).splitlines()[0])
            return False, f"lädt nicht:\n  {type(error).__name__}: {reason}"
    differences = [abs(a - b) for a, b in zip(prices, entry["prices_usd"], strict=True)]
    # So herum geschrieben, damit auch NaN als Abweichung gilt.
    if not all(difference <= TOLERANCE_USD for difference in differences):
        shown = ", ".join(f"{price:.2f}" for price in prices)
        return False, f"andere Preise: {shown}"
    kinds = sorted({warning.category.__name__ for warning in caught})
    return True, "gleiche Preise" + (f", mit Warnung: {', '.join(kinds)}" if kinds else "")


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
    if options.command == "add":
        added = add(options.folder, options.formats or FORMATS)
        print("Eingelegt:", ", ".join(added) or "nichts, alles da")
        return 0
    green = True
    for entry in provenance(options.folder):
        if not options.formats or entry["format"] in options.formats:
            good, finding = visit(options.folder, entry)
            green = green and good
            print(f"{entry['file']:<20} {finding}")
    return int(not green)


if __name__ == "__main__":
    sys.exit(main())
