"""Das gespeicherte Modell laden und Steine bewerten, mit ONNX oder scikit-learn."""

import json
import os
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np

from examples.price_model.schema import CATEGORIES, FEATURES, Stone

ARTIFACTS = Path(os.environ.get("PRICE_MODEL_DIR", Path(__file__).parent / "artifacts"))


class ModelMissingError(RuntimeError):
    """Das Modell wurde noch nicht trainiert oder liegt woanders."""


class PriceModel:
    """Ein geladenes Modell: schätzt Preise und nennt seine Version."""

    def __init__(self, predict: Callable[[Sequence[Stone]], np.ndarray], version: str) -> None:
        self._predict = predict
        self.version = version

    def predict(self, stones: Sequence[Stone]) -> list[float]:
        """Gibt je Stein einen Preis in US-Dollar zurück, auf Cent gerundet."""
        return [round(float(price), 2) for price in self._predict(stones)]


def load_model(engine: str = "onnx", folder: Path = ARTIFACTS) -> PriceModel:
    """Lädt das Modell einmal; `engine` ist "onnx" oder "sklearn"."""
    loaders = {"onnx": _load_onnx, "sklearn": _load_sklearn}
    if engine not in loaders:
        raise ValueError(f"Unbekannte Engine {engine!r}: erlaubt sind {', '.join(loaders)}.")
    metadata = load_metadata(folder)
    return PriceModel(loaders[engine](folder), metadata["model_version"])


def load_metadata(folder: Path = ARTIFACTS) -> dict:
    """Liest metadata.json; es wird zuletzt geschrieben und zeigt ein ganzes Modell an."""
    try:
        return json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelMissingError(
            f"In {folder.name}/ liegt kein Modell. Zuerst ausführen: make model"
        ) from None


def _load_onnx(folder: Path) -> Callable[[Sequence[Stone]], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Ein Thread je Prozess: eine Zeile lohnt keine Aufteilung, und Worker stören sich nicht.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Vorratsspeicher lohnt für große Tensoren; bei neun Werten kostet er mehr, als er spart.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(
        folder / "price_model.onnx", options, providers=["CPUExecutionProvider"]
    )

    grades = tuple(CATEGORIES)
    numbers = tuple(name for name in FEATURES if name not in CATEGORIES)
    grades_of, numbers_of = attrgetter(*grades), attrgetter(*numbers)

    def predict(stones: Sequence[Stone]) -> np.ndarray:
        # Zwei Felder statt neun: danach ist jede Spalte nur noch eine Ansicht darauf.
        texts = np.array([grades_of(stone) for stone in stones], dtype=object)
        values = np.array([numbers_of(stone) for stone in stones], dtype=np.float32)
        columns = dict(zip(grades, texts.T[:, :, None], strict=True))
        columns |= zip(numbers, values.T[:, :, None], strict=True)
        return session.run(None, columns)[0][:, 0]

    return predict


def _load_sklearn(folder: Path) -> Callable[[Sequence[Stone]], np.ndarray]:
    # Erst hier: der Dienst mit ONNX kommt ohne pandas und scikit-learn aus.
    import joblib
    import pandas as pd

    pipeline = joblib.load(folder / "price_model.joblib")

    def predict(stones: Sequence[Stone]) -> np.ndarray:
        return pipeline.predict(pd.DataFrame([stone.model_dump() for stone in stones]))

    return predict
