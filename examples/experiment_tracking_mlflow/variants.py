"""Was die Suche probiert und wie sie es misst; jedes Werkzeug schreibt dasselbe mit."""

import pandas as pd
from sklearn.metrics import mean_absolute_error
from sklearn.pipeline import Pipeline

LEARNING_RATES, MAX_ITERS = (0.03, 0.1, 0.5), (40, 120)
TRAIN_ROWS, VALID_ROWS = 6000, 3000
STEP = 10


def errors(pipeline: Pipeline, table: pd.DataFrame, prices: pd.Series) -> list[tuple[int, float]]:
    """Der mittlere Fehler in US-Dollar nach je zehn Bäumen, als (Bäume, Fehler)."""
    prepared = pipeline[:-1].transform(table)
    stages = enumerate(pipeline[-1].staged_predict(prepared), start=1)
    return [(n, float(mean_absolute_error(prices, guess))) for n, guess in stages if n % STEP == 0]
