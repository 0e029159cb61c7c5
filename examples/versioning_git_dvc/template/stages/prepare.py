"""Stufe 1: die Lieferung prüfen und in Trainings- und Testdaten teilen."""

import sys
from pathlib import Path

import pandas as pd

from examples.price_model.data import TARGET, split
from examples.price_model.schema import FEATURES, InvalidStoneError, parse
from examples.price_model.storage import write_together

SOURCE = Path("data/stones.csv")
FOLDER = Path("data/prepared")
BLOCK = 1000  # so viele Steine prüft das Schema auf einmal


def prepare(table: pd.DataFrame) -> dict[str, bytes]:
    """Gibt train.csv und test.csv zurück; was kein Stein ist, ergibt `InvalidStoneError`."""
    columns = [*FEATURES, TARGET]
    if list(table) != columns:
        raise InvalidStoneError([{"field": "columns", "reason": f"Erwartet: {columns}."}])
    stones = table[list(FEATURES)].to_dict("records")
    for first in range(0, len(stones), BLOCK):
        # Dieselbe Prüfung wie im Dienst: Was er ablehnt, lernt das Modell auch nicht.
        parse(stones[first : first + BLOCK])
    X_train, X_test, y_train, y_test = split(table)
    parts = {"train.csv": X_train.assign(price=y_train), "test.csv": X_test.assign(price=y_test)}
    return {
        name: part.to_csv(index=False, lineterminator="\n").encode() for name, part in parts.items()
    }


def main() -> int:
    """Schreibt beide Dateien oder keine."""
    try:
        # round_trip: Die Vorgabe rundet beim Lesen manchmal die letzte Stelle.
        table = pd.read_csv(SOURCE, float_precision="round_trip")
        write_together(FOLDER, prepare(table))
    except (InvalidStoneError, OSError, ValueError) as error:
        print(f"{SOURCE}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
