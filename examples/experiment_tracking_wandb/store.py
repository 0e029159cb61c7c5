"""Das Modell als Artefakt ablegen und ohne Server wieder herausholen, mit Prüfsumme."""

import argparse
import base64
import hashlib
import sys
from pathlib import Path

import joblib
import wandb
from sklearn.pipeline import Pipeline
from skops.io import dump

from examples.experiment_tracking_mlflow.origin import provenance
from examples.experiment_tracking_wandb import offline, summary
from examples.pickle_model.skops_store import MODEL
from examples.price_model.predict import ARTIFACTS, load_metadata
from examples.price_model.storage import write_together
from examples.price_model.train import MODEL_VERSION

ARTIFACT = "price-model"


def log_model(run: wandb.Run, pipeline: Pipeline) -> None:
    """Legt die Pipeline als Artefakt im laufenden Lauf ab."""
    artifact = wandb.Artifact(ARTIFACT, type="model", metadata={"model_version": MODEL_VERSION})
    with artifact.new_file(MODEL, mode="wb") as file:
        dump(pipeline, file)
    run.log_artifact(artifact, aliases=["candidate"])


def save(folder: Path) -> list[str]:
    """Legt das Modell des Falls in einem eigenen Lauf ab; nennt dessen Artefakte."""
    pipeline = joblib.load(ARTIFACTS / "price_model.joblib")
    offline.connect(folder)
    with offline.run(folder, "case", provenance(load_metadata()["data_sha256"])) as run:
        log_model(run, pipeline)
    return [ARTIFACT]


def fetch(folder: Path, target: Path) -> list[str]:
    """Kopiert das Modell des jüngsten Laufs, der eines hat, nach `target`."""
    for path in reversed(summary.logs(folder)):
        for artifact in summary.of_type(summary.records(path), "artifact"):
            if artifact["name"] == ARTIFACT:
                contents = artifact["manifest"]["contents"]
                files = {entry["path"]: verified(entry) for entry in contents}
                return write_together(target, files)
    raise offline.TrackingError(f"In {folder.name}/ liegt kein Lauf mit einem Modell.")


def verified(entry: dict) -> bytes:
    """Liest eine Datei aus der Ablage; fehlt sie oder ist sie verändert, ist das ein Fehler."""
    try:
        data = Path(entry["local_path"]).read_bytes()
    except OSError as error:
        reason = f"{entry['path']} liegt nicht mehr in der Ablage; der Lauf kennt nur den Pfad."
        raise offline.TrackingError(reason) from error
    # Die Prüfsumme im Verzeichnis des Artefakts ist MD5: gegen Versehen, nicht gegen Absicht.
    if base64.b64encode(hashlib.md5(data).digest()).decode() != entry["digest"]:
        raise offline.TrackingError(f"{entry['path']} wurde seit dem Lauf verändert.")
    return data


def main() -> int:
    """Führt `save` oder `fetch` aus; ein Fehler ist eine Zeile und der Exitcode 1."""
    parser = argparse.ArgumentParser(description="Das Preismodell als Artefakt von W&B")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("save").add_argument("folder", type=Path)
    command = commands.add_parser("fetch")
    command.add_argument("folder", type=Path, help="der Ordner mit wandb/")
    command.add_argument("target", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "save":
        return offline.as_json(lambda: save(arguments.folder))
    return offline.as_json(lambda: fetch(arguments.folder, arguments.target))


if __name__ == "__main__":
    sys.exit(main())
