"""Die Modellgüte schätzen, bevor die wahren Preise bekannt sind.

Aufruf: `python -m examples.drift_detection.estimate`
Ein zweites Modell lernt, wie weit das erste bei welchem Stein danebenliegt.
"""

import json
import sys

import joblib
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from examples.drift_detection.constructed import DRIFTS, SEED, halves
from examples.price_model.data import TARGET
from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata
from examples.price_model.schema import CATEGORIES, FEATURES


def numbers(rows: pd.DataFrame, predicted: np.ndarray) -> pd.DataFrame:
    """Gibt die Merkmale als Zahlen zurück, dazu die Vorhersage."""
    grades = {name: rows[name].map(list(stages).index) for name, stages in CATEGORIES.items()}
    return rows[list(FEATURES)].assign(**grades, predicted=predicted)


def main() -> int:
    """Zeigt je Drift den geschätzten und den wahren mittleren Fehler in US-Dollar."""
    try:
        load_metadata()
    except ModelMissingError as error:
        print(error, file=sys.stderr)
        return 1
    model = joblib.load(ARTIFACTS / "price_model.joblib")
    reference, operation = halves()
    predicted = model.predict(reference[list(FEATURES)])
    watcher = HistGradientBoostingRegressor(max_iter=60, random_state=0)
    watcher.fit(numbers(reference, predicted), np.abs(predicted - reference[TARGET]))
    for name, drift in DRIFTS.items():
        rows = drift(operation, SEED)
        predicted = model.predict(rows[list(FEATURES)])
        row = {
            "drift": name,
            "estimated": round(float(watcher.predict(numbers(rows, predicted)).mean())),
            "actual": round(float(np.abs(predicted - rows[TARGET]).mean())),
        }
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
