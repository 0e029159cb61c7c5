"""Eine kleine Suche: je Kombination ein Lauf, alle unter einem gemeinsamen Elternlauf."""

import argparse
import sys
from itertools import product

import mlflow
import pandas as pd
from mlflow.entities import Metric
from sklearn.metrics import mean_absolute_error
from sklearn.pipeline import Pipeline

from examples.experiment_tracking_mlflow import tracking
from examples.experiment_tracking_mlflow.variants import (
    LEARNING_RATES,
    MAX_ITERS,
    TRAIN_ROWS,
    VALID_ROWS,
    errors,
)
from examples.price_model.data import fingerprint, load_diamonds, split
from examples.price_model.pipeline import build_pipeline

EXPERIMENT = "price_search"


def curve(pipeline: Pipeline, table: pd.DataFrame, prices: pd.Series) -> list[Metric]:
    """Der Fehler nach je zehn Bäumen, als Metrik mit Schritt."""
    return [Metric("mae_usd", error, 0, n) for n, error in errors(pipeline, table, prices)]


def attempt(data: tuple, learning_rate: float, max_iter: int) -> tuple[float, Pipeline, str]:
    """Ein Kindlauf: trainieren, messen, aufschreiben; gibt Fehler, Modell und Kennung zurück."""
    X_train, X_valid, y_train, y_valid = data
    with mlflow.start_run(nested=True, run_name=f"rate {learning_rate}, {max_iter} trees") as run:
        values = {"learning_rate": learning_rate, "max_iter": max_iter}
        tracking.log_parameters(values | {"train_rows": len(X_train), "seed": 0})
        settings = {f"model__{name}": value for name, value in values.items()}
        pipeline = build_pipeline().set_params(**settings).fit(X_train, y_train)
        metrics = curve(pipeline, X_valid, y_valid)
        mlflow.MlflowClient().log_batch(run.info.run_id, metrics=metrics)
        return metrics[-1].value, pipeline, run.info.run_id


def search(server: str, experiment: str = EXPERIMENT, create: bool = False) -> dict:
    """Probiert alle Kombinationen; das Modell der besten liegt danach im Elternlauf."""
    # Zuerst: Ohne Server soll nichts gerechnet werden.
    tracking.connect(server, experiment, create)
    table, _ = load_diamonds()
    X_train, X_test, y_train, y_test = split(table)
    # Ausgewählt wird auf Zeilen, die weder im Training noch im Test vorkommen.
    cut, end = TRAIN_ROWS, TRAIN_ROWS + VALID_ROWS
    data = X_train[:cut], X_train[cut:end], y_train[:cut], y_train[cut:end]
    with tracking.readable_errors(), mlflow.start_run(run_name="search") as parent:
        mlflow.set_tags(tracking.provenance(fingerprint(table)))
        mlflow.log_text(tracking.environment(), "environment.txt")
        attempts = [attempt(data, *pair) for pair in product(LEARNING_RATES, MAX_ITERS)]
        error, pipeline, best = min(attempts, key=lambda found: found[0])
        mlflow.set_tag("best_run", best)
        mlflow.log_metrics(
            {
                "mae_usd": error,
                "test_mae_usd": float(mean_absolute_error(y_test, pipeline.predict(X_test))),
            }
        )
        tracking.log_model(pipeline)
    return {"run_id": parent.info.run_id, "children": len(attempts), "mae_usd": round(error)}


def main() -> int:
    """Sucht und nennt Elternlauf und Ergebnis als JSON; ein Fehler ist eine Zeile."""
    parser = argparse.ArgumentParser(description="Suche nach Hyperparametern mit MLflow")
    parser.add_argument("server", help="Adresse des Tracking-Servers")
    parser.add_argument("--experiment", default=EXPERIMENT)
    parser.add_argument("--create", action="store_true", help="das Experiment neu anlegen")
    arguments = parser.parse_args()
    return tracking.as_json(lambda: search(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(main())
