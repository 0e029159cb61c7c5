"""Dasselbe Modell im Format von MLflow, beantwortet vom Scoring-Server von MLflow.

Für ein solches Modell verlangt Azure weder score.py noch eine Umgebung: Die Datei `MLmodel` sagt,
wie es geladen wird und welche Spalten es erwartet. Läuft in der Umgebung azureml_server:
python -m examples.azure_ml_endpoint.mlflow_model ORDNER --port 8198
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import joblib
import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
import uvicorn
from mlflow.models import infer_signature
from mlflow.pyfunc import scoring_server

from examples.ab_test.options import port
from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata
from examples.price_model.schema import EXAMPLE

PACKAGES = ["scikit-learn", "pandas"]


def save(folder: Path) -> None:
    """Speichert die Pipeline mit den Typen ihrer Spalten."""
    load_metadata()
    pipeline = joblib.load(ARTIFACTS / "price_model.joblib")
    table = pd.DataFrame([EXAMPLE])
    mlflow.sklearn.save_model(
        pipeline,
        folder,
        signature=infer_signature(table, pipeline.predict(table)),
        pip_requirements=PACKAGES,
        # skops, die Vorgabe, verweigert die Bäume dieses Modells ohne einzelne Freigabe.
        serialization_format="cloudpickle",
    )


def main() -> None:
    """Speichert, lädt und beantwortet Fragen unter /invocations."""
    parser = argparse.ArgumentParser(description="Scoring-Server von MLflow auf 127.0.0.1")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=port, required=True)
    arguments = parser.parse_args()
    try:
        if not (arguments.folder / "MLmodel").exists():
            # Erst fertig, dann am Ort: Ein Abbruch ließe sonst einen Ordner, den MLflow ablehnt.
            fresh = arguments.folder.with_name(f"{arguments.folder.name}.{os.getpid()}.part")
            try:
                save(fresh)
                fresh.rename(arguments.folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    except (ModelMissingError, OSError, mlflow.MlflowException) as error:
        sys.exit(f"Das Modell lässt sich nicht speichern: {error}")
    app = scoring_server.init(mlflow.pyfunc.load_model(str(arguments.folder)))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port)


if __name__ == "__main__":
    main()
