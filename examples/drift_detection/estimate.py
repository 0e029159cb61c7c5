"""Die Modellgüte schätzen, bevor die wahren Preise bekannt sind.

Aufruf: `python -m examples.drift_detection.estimate`
Ein zweites Modell lernt, wie weit das erste bei welchem Stein danebenliegt.
"""

import json
import sys

import pandas as pd
from sklearn.tree import DecisionTreeRegressor

from examples.drift_detection.constructed import DRIFTS, SEED, estimated, halves, mean_error
from examples.price_model.data import TARGET
from examples.price_model.predict import ModelMissingError, load_metadata
from examples.price_model.schema import CATEGORIES, FEATURES


def numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """Gibt die Merkmale als Zahlen zurück, dazu die Vorhersage."""
    grades = {name: rows[name].map(list(stages).index) for name, stages in CATEGORIES.items()}
    return rows[[*FEATURES, "predicted"]].assign(**grades)


def main() -> int:
    """Zeigt je Drift den geschätzten und den wahren mittleren Fehler in US-Dollar."""
    try:
        load_metadata()
        reference, operation = map(estimated, halves())
    except ModelMissingError as error:
        print(error, file=sys.stderr)
        return 1
    watcher = DecisionTreeRegressor(min_samples_leaf=50, random_state=0)
    watcher.fit(numbers(reference), (reference["predicted"] - reference[TARGET]).abs())
    for name, drift in DRIFTS.items():
        rows = drift(operation, SEED)
        row = {
            "drift": name,
            "estimated": round(float(watcher.predict(numbers(rows)).mean())),
            "actual": round(mean_error(rows)),
        }
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
