"""Stufe 2: das Modell des Buches trainieren, mit den Werten aus params.yaml."""

import platform
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import yaml
from onnx import ModelProto
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from examples.price_model.data import TARGET
from examples.price_model.pipeline import build_pipeline
from examples.price_model.schema import FEATURES
from examples.price_model.train import ExportError, export_onnx, save

PREPARED = Path("data/prepared")
FOLDER = Path("model")
PACKAGES = ("scikit-learn", "numpy", "pandas", "skl2onnx", "onnx", "joblib")


def fit(table: pd.DataFrame, max_iter: int, seed: int | None, threads: int) -> Pipeline:
    """Trainiert; gleiche Tabelle und gleiche Werte ergeben gleiche Bytes."""
    pipeline = build_pipeline().set_params(model__max_iter=max_iter, model__random_state=seed)
    with threadpool_limits(threads):
        return pipeline.fit(table[list(FEATURES)], table[TARGET])


def in_order(model: ModelProto) -> ModelProto:
    """Sortiert die Opsets: skl2onnx nimmt sie aus einer Menge, und deren Folge wechselt je Lauf."""
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    return model


def main() -> int:
    """Schreibt Modell und Metadaten; darin stehen weder Uhrzeit noch Dauer."""
    try:
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        train, test = (
            pd.read_csv(PREPARED / name, float_precision="round_trip")
            for name in ("train.csv", "test.csv")
        )
        pipeline = fit(train, **params["train"])
        onnx_model, _ = export_onnx(pipeline, test[list(FEATURES)])
        versions = {"python": platform.python_version()} | {
            name: version(name) for name in PACKAGES
        }
        rows = {"train": len(train), "test": len(test)}
        metadata = {**params, "rows": rows, "versions": versions}
        save(FOLDER, pipeline, in_order(onnx_model), metadata)
    except (ExportError, OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        print(f"Training abgebrochen: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
