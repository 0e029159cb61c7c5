"""Messen, was eine Laufzeit bis zur ersten Antwort braucht: Sekunden und Speicher.

Aufruf: `python -m examples.tensorflow_savedmodel.footprint keras`, ebenso `savedmodel`, `litert`
und `onnx`
"""

import json
import sys
import time
from pathlib import Path

import psutil

from examples.price_model.schema import CATEGORIES, EXAMPLE, Stone

ARTIFACTS = Path(__file__).parent / "artifacts"


def ask_keras() -> float:
    """Fragt das Keras-Modell: TensorFlow und Keras."""
    import keras
    import tensorflow as tf

    model = keras.models.load_model(ARTIFACTS / "price_model.keras")
    stone = {name: tf.constant([value]) for name, value in EXAMPLE.items()}
    return float(model(stone)["price_usd"][0])


def ask_savedmodel() -> float:
    """Fragt das SavedModel wie der Dienst: TensorFlow ohne Keras."""
    from examples.tensorflow_savedmodel.server import load_model

    return load_model(ARTIFACTS / "price").predict([Stone(**EXAMPLE)])[0]["price_usd"]


def ask_litert() -> float:
    """Fragt den LiteRT-Export: ohne TensorFlow."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(ARTIFACTS / "price_model.tflite"),
        # Ohne Beschleuniger: bei einer Zeile lohnt er nicht und meldet sich in der Ausgabe.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    stone = {
        name: np.array([value], object if name in CATEGORIES else np.float32)
        for name, value in EXAMPLE.items()
    }
    return float(interpreter.get_signature_runner()(**stone)["price_usd"][0])


def ask_onnx() -> float:
    """Fragt das Modell des Falls mit onnxruntime; es ist ein anderes Modell."""
    from examples.price_model.predict import load_model

    return load_model("onnx").predict([Stone(**EXAMPLE)])[0]


RUNTIMES = {
    "keras": ask_keras,
    "savedmodel": ask_savedmodel,
    "litert": ask_litert,
    "onnx": ask_onnx,
}


def main() -> None:
    """Schreibt Sekunden, Speicher in MB und den Preis des Beispielsteins als JSON."""
    if len(sys.argv) != 2 or sys.argv[1] not in RUNTIMES:
        sys.exit(f"Aufruf: python -m {__spec__.name} {'|'.join(RUNTIMES)}")
    started = time.perf_counter()
    price = RUNTIMES[sys.argv[1]]()
    seconds = time.perf_counter() - started
    megabytes = psutil.Process().memory_info().rss / 1e6
    print(json.dumps({"seconds": seconds, "megabytes": megabytes, "price_usd": price}))


if __name__ == "__main__":
    main()
