"""Was jeder Lauf mitschreibt: Herkunft, Umgebung, Modell; und wie das Modell zurückkommt."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

# MLflow liest das beim Import. Ohne Grenze wartet ein Client minutenlang auf einen Server.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from examples.experiment_tracking_mlflow.origin import environment as environment
from examples.experiment_tracking_mlflow.origin import provenance as provenance
from examples.price_model.schema import EXAMPLE, FEATURES

if TYPE_CHECKING:
    # Erst `log_model` braucht scikit-learn; ein Alias ist auch ohne gesetzt.
    from sklearn.pipeline import Pipeline

ALLOWED = {"learning_rate", "max_iter", "train_rows", "seed"}
# Durchgesehen im Kapitel pickle: Zahlen, deren Verweise scikit-learn beim Rechnen nicht prüft.
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
PACKAGES = ("mlflow==", "scikit-learn==", "pandas==", "numpy==", "skops==")


class TrackingError(RuntimeError):
    """Ein Lauf ließ sich nicht anlegen, schreiben oder lesen."""


@contextmanager
def readable_errors() -> Iterator[None]:
    """Macht aus jedem Fehler von MLflow einen deutschen Satz."""
    try:
        yield
    except MlflowException as error:
        if "retries exceeded" in str(error) or "Connection" in str(error):
            uri = mlflow.get_tracking_uri()
            raise TrackingError(f"Der Tracking-Server {uri} antwortet nicht.") from error
        raise TrackingError(f"MLflow lehnt ab: {str(error).splitlines()[0]}") from error


def as_json(work: Callable[[], dict]) -> int:
    """Zeigt das Ergebnis als JSON; ein Fehler ist eine Zeile und der Exitcode 1."""
    try:
        print(json.dumps(work()))
    except TrackingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def connect(uri: str, experiment: str, create: bool = False) -> str:
    """Wählt Server und Experiment; gibt dessen Kennung zurück.

    Ohne `create` ist ein unbekannter Name ein Fehler: MLflow legte ihn sonst stumm an.
    """
    mlflow.set_tracking_uri(uri)
    with readable_errors():
        found = mlflow.get_experiment_by_name(experiment)
        if found is None and not create:
            raise TrackingError(f"Das Experiment {experiment} gibt es nicht; neu mit --create.")
        if found is None:
            mlflow.create_experiment(experiment)
        return mlflow.set_experiment(experiment).experiment_id


def log_parameters(parameters: dict[str, object]) -> None:
    """Schreibt Parameter, aber nur bekannte: Was im Lauf steht, liest jeder im Team."""
    unknown = sorted(parameters.keys() - ALLOWED)
    if unknown:
        raise TrackingError(f"Nicht zum Mitschreiben freigegeben: {', '.join(unknown)}.")
    mlflow.log_params(parameters)


def log_model(pipeline: Pipeline) -> None:
    """Legt die Pipeline mit Signatur und Beispiel im laufenden Lauf ab."""
    example = pd.DataFrame([EXAMPLE], columns=list(FEATURES))
    mlflow.sklearn.log_model(
        pipeline,
        name="model",
        serialization_format="skops",
        skops_trusted_types=TRUSTED,
        signature=infer_signature(example, pipeline.predict(example)),
        input_example=example,
        # Sonst startet MLflow einen Prozess, der die Pakete durch Probieren findet.
        pip_requirements=[line for line in environment().split() if line.startswith(PACKAGES)],
    )


def load_model(uri: str, run_id: str) -> tuple[Pipeline, str]:
    """Holt das Modell eines Laufs und die Version, unter der es antwortet."""
    mlflow.set_tracking_uri(uri)
    with readable_errors():
        tags = mlflow.get_run(run_id).data.tags
        return mlflow.sklearn.load_model(f"runs:/{run_id}/model"), tags["model_version"]
