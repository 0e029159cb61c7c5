"""Ein kleines Keras-Modell trainieren und in vier Formaten speichern: `make keras-model`.

In der Umgebung des Kapitels: python -m examples.tensorflow_savedmodel.train
Klein und an anderem Ort: … --folder ORDNER --units 8 --epochs 1
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.metrics import mean_absolute_error

from examples.price_model.data import fingerprint, load_diamonds, split
from examples.price_model.predict import ModelMissingError, load_metadata
from examples.price_model.schema import CATEGORIES, FEATURES

ARTIFACTS = Path(__file__).parent / "artifacts"
NUMBERS = [name for name in FEATURES if name not in CATEGORIES]
# TensorFlow Serving verlangt ganze Zahlen: der Ordner heißt wie die Version.
VERSION = 1
MODEL_VERSION = f"keras-{VERSION}"
MAX_DIFFERENCE_USD = 0.05


class ExportError(RuntimeError):
    """Das SavedModel rechnet anders als das Keras-Modell und wird nicht gespeichert."""


def columns(table: pd.DataFrame) -> dict[str, tf.Tensor]:
    """Gibt je Merkmal einen Tensor der Form [Steine] zurück: Texte roh, Zahlen als float32."""
    kinds = {name: object if name in CATEGORIES else np.float32 for name in FEATURES}
    return {name: tf.constant(table[name].to_numpy(kind)) for name, kind in kinds.items()}


def build_model(X_train: pd.DataFrame, units: int) -> keras.Model:
    """Gibt das untrainierte Netz zurück; es nimmt die rohen Merkmale entgegen.

    Die ganze Vorverarbeitung ist Teil des Graphen: Stufen werden zu Nullen und Einsen,
    Zahlen begrenzt, logarithmiert und auf Mittelwert 0 und Streuung 1 gebracht.
    """
    inputs = {
        name: keras.Input((), name=name, dtype="string" if name in CATEGORIES else "float32")
        for name in FEATURES
    }
    grades = [
        keras.layers.StringLookup(
            vocabulary=list(steps), num_oov_indices=0, output_mode="one_hot", name=f"{name}_grade"
        )(inputs[name])
        for name, steps in CATEGORIES.items()
    ]
    # Jenseits der Trainingsdaten rechnet ein Netz ins Blaue: dort gilt der Rand.
    numbers = [
        keras.ops.clip(inputs[name], float(X_train[name].min()), float(X_train[name].max()))
        for name in NUMBERS
    ]
    scale = keras.layers.Normalization(name="scale")
    scale.adapt(np.log(X_train[NUMBERS].to_numpy(np.float32)))
    scaled = scale(keras.ops.log(keras.ops.stack(numbers, axis=1)))
    hidden = keras.layers.Concatenate()([scaled, *grades])
    for _ in range(2):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
    # Das Netz schätzt den Logarithmus; so ist kein Preis negativ.
    price = keras.ops.exp(
        keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(8))(hidden)
    )
    return keras.Model(inputs, {"price_usd": keras.layers.Reshape(())(price)})


def export_savedmodel(model: keras.Model, folder: Path) -> None:
    """Schreibt das SavedModel; seine Antwort nennt neben dem Preis die Modellversion."""
    archive = keras.export.ExportArchive()
    archive.track(model)

    def predict(stones: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        prices = model(stones)["price_usd"]
        return {"price_usd": prices, "model_version": tf.fill(tf.shape(prices), MODEL_VERSION)}

    signature = {
        name: tf.TensorSpec([None], tf.string if name in CATEGORIES else tf.float32, name)
        for name in FEATURES
    }
    archive.add_endpoint("serving_default", predict, input_signature=[signature])
    archive.write_out(folder, verbose=False)


def largest_difference(savedmodel: Path, stones: dict[str, tf.Tensor], prices: np.ndarray) -> float:
    """Vergleicht das SavedModel mit Preisen in US-Dollar; über 0,05 entsteht `ExportError`."""
    loaded = tf.saved_model.load(str(savedmodel))
    served = loaded.signatures["serving_default"](**stones)["price_usd"].numpy()
    difference = float(np.abs(served - prices).max())
    # So herum geschrieben, damit auch NaN als Fehler gilt.
    if not difference <= MAX_DIFFERENCE_USD:
        raise ExportError(
            f"Das SavedModel weicht um bis zu {difference:.2f} US-Dollar ab, erlaubt sind "
            f"{MAX_DIFFERENCE_USD}. Es wurde nichts gespeichert."
        )
    return difference


def train(folder: Path = ARTIFACTS, units: int = 64, epochs: int = 15) -> dict:
    """Trainiert, prüft und speichert das Modell in `folder`; gibt die Metadaten zurück."""
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    table, _ = load_diamonds()
    X_train, X_test, y_train, y_test = split(table)
    model = build_model(X_train, units)
    model.compile(keras.optimizers.Adam(0.002), loss="mean_absolute_error")
    started = time.perf_counter()
    target = y_train.to_numpy(np.float32)
    model.fit(columns(X_train), target, batch_size=512, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - started
    stones = columns(X_test)
    prices = model(stones)["price_usd"].numpy()
    metadata = {
        "model_version": MODEL_VERSION,
        "features": list(FEATURES),
        "mae_usd": round(float(mean_absolute_error(y_test, prices)), 2),
        "case_mae_usd": load_metadata()["mae_usd"],
        "data_sha256": fingerprint(table),
        "training_seconds": round(seconds, 2),
        "versions": {"python": platform.python_version()}
        | {module.__name__: module.__version__ for module in (tf, keras, np)},
    }
    save(folder, model, metadata, stones, prices)
    return metadata


def save(
    folder: Path,
    model: keras.Model,
    metadata: dict,
    stones: dict[str, tf.Tensor],
    prices: np.ndarray,
) -> None:
    """Schreibt alles in einen Nebenordner und tauscht ihn dann ein: nie liegt Halbes da."""
    fresh, old = (folder.with_name(f"{folder.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    try:
        fresh.mkdir(parents=True)
        model.save(fresh / "price_model.keras")
        model.save_weights(fresh / "price_model.weights.h5")
        model.export(fresh / "price_model.tflite", format="litert", verbose=False)
        export_savedmodel(model, fresh / "price" / str(VERSION))
        difference = largest_difference(fresh / "price" / str(VERSION), stones, prices)
        text = json.dumps(metadata | {"savedmodel_max_difference_usd": difference}, indent=2)
        (fresh / "metadata.json").write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except BaseException:  # auch von Hand abgebrochen
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def main() -> int:
    """Trainiert und nennt das Ergebnis in einer Zeile."""
    parser = argparse.ArgumentParser(description="Das Keras-Modell trainieren und speichern")
    parser.add_argument("--folder", type=Path, default=ARTIFACTS)
    parser.add_argument("--units", type=int, default=64, help="Breite der beiden Schichten")
    parser.add_argument("--epochs", type=int, default=15)
    arguments = parser.parse_args()
    try:
        metadata = train(arguments.folder, arguments.units, arguments.epochs)
    except (ExportError, ModelMissingError, OSError) as error:
        print(f"Training abgebrochen: {error}", file=sys.stderr)
        return 1
    print(
        f"Modell {metadata['model_version']}: mittlerer Fehler {metadata['mae_usd']:.0f} US-Dollar "
        f"(Modell des Falls: {metadata['case_mae_usd']:.0f}), "
        f"trainiert in {metadata['training_seconds']:.1f} s."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
