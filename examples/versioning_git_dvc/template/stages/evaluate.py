"""Stufe 3: das gespeicherte Modell auf den Testdaten fragen, so wie der Dienst es tut."""

import json
import sys
from pathlib import Path

import pandas as pd

from examples.price_model.predict import ModelMissingError, load_model
from examples.price_model.schema import Stone

TEST = Path("data/prepared/test.csv")
METRICS = Path("metrics.json")


def evaluate(table: pd.DataFrame, folder: Path) -> dict[str, float]:
    """Gibt mittleren und größten Fehler in US-Dollar und R² zurück."""
    prices = table.pop("price")
    stones = [Stone(**stone) for stone in table.to_dict("records")]
    error = (prices - load_model(folder=folder).predict(stones)).abs()
    explained = 1 - (error**2).sum() / ((prices - prices.mean()) ** 2).sum()
    return {
        "mae_usd": round(float(error.mean())),
        "max_error_usd": round(float(error.max())),
        "r2": round(float(explained), 4),
    }


def main() -> int:
    """Schreibt metrics.json."""
    try:
        metrics = evaluate(pd.read_csv(TEST, float_precision="round_trip"), Path("model"))
        METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    except (ModelMissingError, OSError, ValueError) as error:
        print(f"Bewertung abgebrochen: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
