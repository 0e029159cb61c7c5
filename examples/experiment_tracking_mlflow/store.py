"""Lokal zuerst: derselbe Code ohne Server, mit einer SQLite-Datei im Ordner."""

import argparse
import json
import sys
from pathlib import Path

import joblib
import mlflow
import pandas as pd
from sklearn.pipeline import Pipeline

from examples.experiment_tracking_mlflow import tracking
from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata
from examples.price_model.schema import REASONS, InvalidStoneError, parse

EXPERIMENT = "price_store"


def local(folder: Path) -> str:
    """Die Adresse eines Speichers ohne Server."""
    return f"sqlite:///{(folder / 'mlflow.db').as_posix()}"


def save(pipeline: Pipeline, folder: Path) -> list[str]:
    """Legt das Modell in einem eigenen Lauf ab; gibt die Namen der Dateien zurück."""
    folder = folder.resolve()  # MLflow verlangt für Artefakte einen ganzen Pfad
    mlflow.set_tracking_uri(local(folder))
    folder.mkdir(parents=True, exist_ok=True)
    with tracking.readable_errors():
        # Ohne diese Angabe landen Artefakte im Arbeitsverzeichnis, unter mlruns/.
        mlflow.create_experiment(EXPERIMENT, (folder / "artifacts").as_uri())
        tracking.connect(local(folder), EXPERIMENT)
        with mlflow.start_run():
            mlflow.set_tags(tracking.provenance(load_metadata()["data_sha256"]))
            tracking.log_model(pipeline)
    return ["artifacts", "mlflow.db"]


def load(folder: Path) -> tuple[Pipeline, str]:
    """Lädt das Modell des jüngsten Laufs; gibt auch seine Version zurück."""
    if not (folder / "mlflow.db").is_file():  # sonst legte MLflow eine leere Datei an
        raise tracking.TrackingError(f"In {folder.name}/ liegt keine mlflow.db.")
    experiment = tracking.connect(local(folder), EXPERIMENT)
    with tracking.readable_errors():
        newest = mlflow.MlflowClient().search_runs([experiment], max_results=1)
    if not newest:
        raise tracking.TrackingError(f"In {folder.name}/ steht kein Lauf.")
    return tracking.load_model(local(folder), newest[0].info.run_id)


def answers(pipeline: Pipeline, version: str, line: str) -> object:
    """Beantwortet eine Frage in JSON; eine falsche ergibt {"detail": […]}."""
    try:
        question = json.loads(line)
        stones = parse(question)
    except InvalidStoneError as error:
        return {"detail": error.problems}
    except (ValueError, RecursionError):  # auch zu lange Zahlen, zu tiefe Klammern
        return {"detail": [{"field": "body", "reason": REASONS["json_invalid"]}]}
    prices = pipeline.predict(pd.DataFrame([stone.model_dump() for stone in stones]))
    found = [{"price_usd": round(float(price), 2), "model_version": version} for price in prices]
    return found if isinstance(question, list) else found[0]


def main() -> int:
    """Führt `save` oder `answer` aus; ein Fehler ist eine Zeile und Rückgabewert 1."""
    parser = argparse.ArgumentParser(description="Das Preismodell in MLflow")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("save").add_argument("folder", type=Path)
    answer = commands.add_parser("answer")
    answer.add_argument("server", help="Adresse des Tracking-Servers oder ein Ordner")
    answer.add_argument("run_id", nargs="?", help="ohne Kennung: der jüngste Lauf im Ordner")
    answer.add_argument("--question", help="JSON; fehlt es, je Zeile der Eingabe eine Frage")
    arguments = parser.parse_args()
    try:
        if arguments.command == "save":
            load_metadata()  # nennt die Abhilfe, wenn das Modell fehlt
            print(*save(joblib.load(ARTIFACTS / "price_model.joblib"), arguments.folder))
            return 0
        if arguments.run_id:
            loaded = tracking.load_model(arguments.server, arguments.run_id)
        else:
            loaded = load(Path(arguments.server))
    except (tracking.TrackingError, ModelMissingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for line in [arguments.question] if arguments.question is not None else sys.stdin:
        print(json.dumps(answers(*loaded, line)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
