"""Die Formate vergleichen: Größe der Datei und Zeit bis zur ersten Antwort. Teil von `make bench`.

Gemessen wird der ganze Weg eines neuen Prozesses: Python starten, laden, einen Stein bewerten.
"""

import json
import os
import secrets
import statistics
import tempfile
import time
from pathlib import Path

import figures
import process
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import EXAMPLE
from tests.benchmarks.cores import pin

RUNS = 5
STONE = json.dumps(EXAMPLE)
TENSORFLOW = "python:tensorflow_savedmodel"
SAVEDMODEL = process.ROOT / "examples" / "tensorflow_savedmodel" / "artifacts" / "price"


def formats(folder: Path) -> dict[str, tuple[list[str], Path]]:
    """Speichert das Modell in jedem Format; gibt je Format (Befehl, Datei oder Ordner) zurück."""
    stores = {
        "joblib": "examples.joblib_model.store",
        "pickle": "examples.pickle_model.store",
        "skops": "examples.pickle_model.skops_store",
    }
    found = {}
    for name, module in stores.items():
        process.output(["python", "-m", module, "save", folder / name])
        found[name] = (["python", "-m", module, "predict", folder / name, STONE], folder / name)
    onnx = ARTIFACTS / "price_model.onnx"
    question = ["-m", "examples.onnx_model.predict", ARTIFACTS, STONE]
    footprint = ["-m", "examples.tensorflow_savedmodel.footprint", "savedmodel"]
    return found | {
        "onnx": (["python:onnx_model", *question], onnx),
        "savedmodel": ([TENSORFLOW, *footprint], SAVEDMODEL),
    }


def size(path: Path) -> int:
    """Zählt die Bytes einer Datei oder aller Dateien eines Ordners."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    """Misst, zeigt die Tabelle und schreibt die Zahlen für die Seiten."""
    # Der Schlüssel der Unterschrift gilt nur für diesen Lauf.
    os.environ["MODEL_KEY"] = secrets.token_hex(32)
    with tempfile.TemporaryDirectory() as name:
        asked = formats(Path(name))
        pin(0)
        seconds = {kind: [] for kind in asked}
        for run in range(RUNS):
            print(f"Formate, Lauf {run + 1} von {RUNS} …", flush=True)
            for kind, (command, _) in asked.items():
                started = time.monotonic()
                process.output(command)
                seconds[kind].append(time.monotonic() - started)
        found = {
            kind: {
                "size_kb": round(size(path) / 1000),
                "answer_seconds": round(statistics.median(seconds[kind]), 1),
            }
            for kind, (_, path) in asked.items()
        }
    print(f"\n{'Format':<12}{'kB':>8}{'Antwort/s':>11}")
    for kind, row in found.items():
        print(f"{kind:<12}{row['size_kb']:>8}{row['answer_seconds']:>11}")
    figures.write("persistence", found)


if __name__ == "__main__":
    main()
