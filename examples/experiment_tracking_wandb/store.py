"""Ein Modell als Artefakt ablegen."""

import argparse
import sys
from pathlib import Path

import joblib
import wandb
from sklearn.pipeline import Pipeline
from skops.io import dump

from examples.experiment_tracking_mlflow.origin import provenance
from examples.experiment_tracking_wandb import offline
from examples.pickle_model.skops_store import MODEL
from examples.price_model import MODEL_VERSION
from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata


def log_model(run: wandb.Run, pipeline: Pipeline) -> None:
    """Legt die Pipeline als Artefakt im laufenden Lauf ab."""
    artifact = wandb.Artifact(
        offline.MODEL_ARTIFACT, type="model", metadata={"model_version": MODEL_VERSION}
    )
    with artifact.new_file(MODEL, mode="wb") as file:
        dump(pipeline, file)
    run.log_artifact(artifact, aliases=["candidate"])


def save(folder: Path) -> list[str]:
    """Legt das Modell des Falls in einem eigenen Lauf ab; nennt dessen Artefakte."""
    try:
        metadata = load_metadata()  # zuerst: nennt die Abhilfe, wenn das Modell fehlt
    except ModelMissingError as error:
        raise offline.TrackingError(str(error)) from error
    pipeline = joblib.load(ARTIFACTS / "price_model.joblib")
    offline.connect(folder)
    with offline.run(folder, "case", provenance(metadata["data_sha256"])) as run:
        log_model(run, pipeline)
    return [offline.MODEL_ARTIFACT]


def main() -> int:
    """Legt das Modell ab; ein Fehler ist eine Zeile und der Exitcode 1."""
    parser = argparse.ArgumentParser(description="Das Preismodell als Artefakt von W&B ablegen")
    parser.add_argument("folder", type=Path, help="hier entsteht der Ordner wandb/")
    folder = parser.parse_args().folder
    return offline.as_json(lambda: save(folder))


if __name__ == "__main__":
    sys.exit(main())
