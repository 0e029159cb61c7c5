"""Die Suche aus dem Kapitel MLflow: je Kombination ein Lauf, alle in einer Gruppe."""

import argparse
import json
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path

import wandb
from sklearn.metrics import mean_absolute_error
from sklearn.pipeline import Pipeline

from examples.experiment_tracking_mlflow.origin import provenance
from examples.experiment_tracking_mlflow.variants import (
    LEARNING_RATES,
    MAX_ITERS,
    TRAIN_ROWS,
    VALID_ROWS,
    errors,
)
from examples.experiment_tracking_wandb import offline, store
from examples.price_model.data import fingerprint, load_diamonds, split
from examples.price_model.pipeline import build_pipeline

GROUP = "search"


def attempt(
    folder: Path, data: tuple, learning_rate: float, max_iter: int
) -> tuple[float, Pipeline]:
    """Ein Lauf: trainieren, messen, aufschreiben; gibt Fehler und Modell zurück."""
    X_train, X_valid, y_train, y_valid = data
    values = {"learning_rate": learning_rate, "max_iter": max_iter}
    name = f"rate {learning_rate}, {max_iter} trees"
    config = values | {"train_rows": len(X_train), "seed": 0}
    with offline.run(folder, name, config, group=GROUP, job_type="attempt") as run:
        settings = {f"model__{key}": value for key, value in values.items()}
        pipeline = build_pipeline().set_params(**settings).fit(X_train, y_train)
        curve = errors(pipeline, X_valid, y_valid)
        for trees, error in curve:
            run.log({"mae_usd": error}, step=trees)
    return curve[-1][1], pipeline


def select(folder: Path, origin: dict, pipeline: Pipeline, test: tuple) -> dict[str, float]:
    """Der Lauf des Siegers: Herkunft, Testfehler, Fehler je Schliff, Daten und Modell."""
    X_test, y_test = test
    missed = (y_test - pipeline.predict(X_test)).abs()
    by_cut = missed.groupby(X_test["cut"]).agg(["size", "mean"]).reset_index()
    with offline.run(folder, "best", origin, group=GROUP, job_type="select") as run:
        found = {"test_mae_usd": float(mean_absolute_error(y_test, pipeline.predict(X_test)))}
        table = wandb.Table(columns=["cut", "stones", "mae_usd"], data=by_cut.to_numpy().tolist())
        run.log(found | {"errors_by_cut": table})
        log_data(run, origin["data_sha256"], len(X_test))
        store.log_model(run, pipeline)
    return found


def log_data(run: wandb.Run, sha256: str, test_rows: int) -> None:
    """Legt vom Datenstand nur ab, woran er zu erkennen ist, nicht die Daten selbst."""
    source = f"plotnine {version('plotnine')}"
    content = {"sha256": sha256, "source": source, "test_rows": test_rows}
    artifact = wandb.Artifact("diamonds", type="dataset", metadata=content)
    with artifact.new_file("data.json", encoding="utf-8") as file:
        json.dump(content, file)
    run.log_artifact(artifact)


def search(folder: Path, mode: str = "offline") -> dict:
    """Probiert alle Kombinationen; das Modell der besten liegt danach beim letzten Lauf."""
    # Zuerst: Ohne Zugang soll nichts gerechnet werden.
    offline.connect(folder, mode)
    table, _ = load_diamonds()
    X_train, X_test, y_train, y_test = split(table)
    # Ausgewählt wird auf Zeilen, die weder im Training noch im Test vorkommen.
    cut, end = TRAIN_ROWS, TRAIN_ROWS + VALID_ROWS
    data = X_train[:cut], X_train[cut:end], y_train[:cut], y_train[cut:end]
    attempts = [attempt(folder, data, *pair) for pair in product(LEARNING_RATES, MAX_ITERS)]
    error, pipeline = min(attempts, key=lambda found: found[0])
    found = select(folder, provenance(fingerprint(table)), pipeline, (X_test, y_test))
    return {"runs": len(attempts), "mae_usd": round(error)} | {
        name: round(value) for name, value in found.items()
    }


def main() -> int:
    """Sucht und nennt das Ergebnis als JSON; ein Fehler ist eine Zeile."""
    parser = argparse.ArgumentParser(description="Suche nach Hyperparametern mit W&B")
    parser.add_argument("folder", type=Path, help="hier entsteht der Ordner wandb/")
    parser.add_argument("--mode", choices=["offline", "online"], default="offline")
    arguments = parser.parse_args()
    return offline.as_json(lambda: search(**vars(arguments)))


if __name__ == "__main__":
    sys.exit(main())
