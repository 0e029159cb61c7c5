"""Ein Modell aus der Registry erst prüfen, dann laden; der Inhalt gilt als fremd."""

import hashlib
import tempfile
from pathlib import Path

import pandas as pd

from examples.experiment_tracking_mlflow.tracking import TRUSTED, mlflow, readable_errors
from examples.price_model.predict import PriceModel
from examples.price_model.schema import CATEGORIES, FEATURES

FILES = ("MLmodel", "input_example.json", "model.skops")
SIGNATURE = [(name, "string" if name in CATEGORIES else "double") for name in FEATURES]
CENT = 0.01
# Nicht direkt importiert: MLflow soll erst nach den Einstellungen in tracking.py laden.
Model = mlflow.models.Model
ModelVersion = mlflow.entities.model_registry.ModelVersion


class UnusableError(RuntimeError):
    """Eine Version, die keine Frage beantworten soll."""


def digest(folder: Path) -> str:
    """Der SHA-256 über die Dateien, die beim Laden gelesen werden."""
    total = hashlib.sha256()
    for name in FILES:
        path = folder / name
        total.update(path.read_bytes() if path.is_file() else b"missing")
    return total.hexdigest()


def check_description(folder: Path) -> Model:
    """Prüft Format und Signatur, ohne das Modell zu öffnen."""
    try:
        found = Model.load(str(folder))
        flavor = found.flavors["sklearn"]
        columns = [(column.name, column.type.name) for column in found.signature.inputs]
    except (OSError, mlflow.MlflowException, KeyError) as error:
        raise UnusableError("Die Beschreibung MLmodel fehlt oder ist unlesbar.") from error
    except AttributeError:
        raise UnusableError("Die Signatur fehlt.") from None
    if flavor.get("serialization_format") != "skops":
        raise UnusableError("Gespeichert ist es als pickle; erlaubt ist nur skops.")
    if columns != SIGNATURE:
        raise UnusableError("Die Signatur passt nicht zur Frage des Dienstes.")
    return found


def open_model(folder: Path) -> tuple[PriceModel, float]:
    """Lädt das Modell; gibt auch den Preis des mitgelieferten Eingabebeispiels zurück.

    Nicht mit `mlflow.sklearn.load_model`: Das nimmt die Liste erlaubter Typen aus dem Modell.
    """
    # Erst hier: Wer nur einen Alias setzt, wartet nicht auf diesen Import.
    import skops.io

    found = check_description(folder)
    try:
        pipeline = skops.io.load(folder / "model.skops", trusted=TRUSTED)
        example = found.load_input_example(str(folder))[list(FEATURES)]
        price = float(pipeline.predict(example)[0])
    except Exception as error:  # was in einer fremden Datei steht, kann an allem scheitern
        raise UnusableError(
            f"Das Modell lässt sich nicht laden ({type(error).__name__})."
        ) from error
    model = PriceModel(
        lambda stones: pipeline.predict(pd.DataFrame([stone.model_dump() for stone in stones])), ""
    )
    return model, price


def load(entry: ModelVersion) -> PriceModel:
    """Lädt eine registrierte Version, wenn Dateien und Antwort noch die registrierten sind."""
    with tempfile.TemporaryDirectory() as folder, readable_errors():
        source = f"models:/{entry.name}/{entry.version}"
        try:
            mlflow.artifacts.download_artifacts(source, dst_path=folder)
        except OSError as error:
            raise UnusableError("Die Dateien des Modells fehlen.") from error
        check_description(Path(folder))
        if digest(Path(folder)) != entry.tags.get("model_sha256"):
            raise UnusableError("Die Dateien sind nicht mehr die registrierten.")
        model, price = open_model(Path(folder))
    if not abs(price - float(entry.tags.get("example_price_usd", "nan"))) < CENT:
        raise UnusableError("Das Eingabebeispiel ergibt einen anderen Preis als beim Registrieren.")
    model.version = entry.tags["model_version"]
    return model
