"""Wie stark streut der Fehler, wenn sich nur der Zufall ändert? Daraus folgt die Toleranz.

Dasselbe Training mehrmals, jedes Mal mit anderen gezogenen Zeilen und anderem Seed.

Aufruf: python -m examples.ci_cd_pipeline.spread STEINE.csv PRUEFSATZ.csv [--twins 6]
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import pandas as pd

from examples.ci_cd_pipeline.gate import SEGMENTS
from examples.ci_cd_pipeline.train import fit
from examples.price_model.data import TARGET
from examples.price_model.schema import FEATURES

SETTINGS = {"max_iter": 150, "learning_rate": 0.2}


# [spread]
def spread(stones: Path, testset: Path, twins: int) -> dict[str, dict]:
    """Gibt je Segment die Fehler der Zwillinge und ihre relative Standardabweichung zurück."""
    table, test = pd.read_csv(stones), pd.read_csv(testset)
    parts = {"alle": (0, float("inf")), **SEGMENTS}
    errors: dict[str, list[float]] = {name: [] for name in parts}
    for seed in range(twins):
        drawn = table.sample(frac=0.95, random_state=seed)
        pipeline = fit(drawn, {**SETTINGS, "random_state": seed})
        absolute = (pipeline.predict(test[list(FEATURES)]) - test[TARGET]).abs()
        for name, (low, high) in parts.items():
            chosen = (test["carat"] >= low) & (test["carat"] < high)
            errors[name].append(float(absolute[chosen].mean()))
    return {
        name: {
            "mean_usd": round(statistics.mean(found), 1),
            "relative_sd": round(statistics.stdev(found) / statistics.mean(found), 4),
        }
        for name, found in errors.items()
    }


# [end spread]


def main() -> int:
    """Gibt das Ergebnis als eine Zeile JSON aus."""
    parser = argparse.ArgumentParser(description="Die Streuung des Trainings messen.")
    parser.add_argument("stones", type=Path)
    parser.add_argument("testset", type=Path)
    parser.add_argument("--twins", type=int, default=6, help="so oft wird trainiert")
    options = parser.parse_args()
    try:
        print(json.dumps(spread(options.stones, options.testset, options.twins)))
    except (OSError, ValueError, KeyError, statistics.StatisticsError) as error:
        print(f"Nicht messbar: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
