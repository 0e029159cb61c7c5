"""Je eine Zutat ändern und neu trainieren: Bleiben die Bytes gleich, bleibt der Preis gleich?

Aufruf: python -m examples.versioning_git_dvc.ingredients PROJEKT
"""

import io
import json
import os
import sys
from pathlib import Path

# Vor dem ersten Import: Sonst deckelt die Zahl der Kerne die Zahl der Threads.
os.environ["OMP_NUM_THREADS"] = "2"

import joblib
import pandas as pd
import yaml
from sklearn.pipeline import Pipeline

from examples.price_model.schema import EXAMPLE
from examples.versioning_git_dvc.template.stages.train import fit

# Genug Zeilen, damit der Seed zählt: Ab 10 000 beendet ein Teil der Daten das Lernen vorzeitig.
ROWS = 13_000


def content(pipeline: Pipeline) -> bytes:
    """Gibt zurück, was in der Modelldatei stünde."""
    buffer = io.BytesIO()
    joblib.dump(pipeline, buffer)
    return buffer.getvalue()


def variants(table: pd.DataFrame, params: dict) -> dict[str, tuple[pd.DataFrame, dict]]:
    """Nennt je Zutat Tabelle und Werte; geändert ist jeweils nur das, was der Name sagt."""
    dearer = table.copy()
    dearer.loc[0, "price"] += 1
    return {
        "nothing": (table, params),
        "seed": (table, params | {"seed": 1}),
        "threads": (table, params | {"threads": 2}),
        "one price": (dearer, params),
        "order of rows": (table.iloc[::-1], params),
    }


def compare(project: Path) -> dict[str, dict]:
    """Trainiert jede Variante und vergleicht sie mit dem unveränderten Rezept."""
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))["train"]
    table = pd.read_csv(project / "data/prepared/train.csv", float_precision="round_trip").head(
        ROWS
    )
    reference = content(fit(table, **params))
    stone = pd.DataFrame([EXAMPLE])
    result = {}
    for name, (rows, values) in variants(table, params).items():
        pipeline = fit(rows, **values)
        result[name] = {
            "same_bytes": content(pipeline) == reference,
            "price_usd": round(float(pipeline.predict(stone)[0])),
        }
    return result


def main() -> int:
    """Zeigt den Vergleich als JSON."""
    if len(sys.argv) != 2:
        print("Aufruf: python -m examples.versioning_git_dvc.ingredients PROJEKT", file=sys.stderr)
        return 2
    try:
        print(json.dumps(compare(Path(sys.argv[1]))))
    except OSError as error:
        print(f"Fehler: {error}. Zuerst im Projekt ausführen: `dvc repro`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
