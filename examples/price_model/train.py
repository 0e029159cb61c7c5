"""Das Modell trainieren, prüfen und speichern: `make model`."""

import io
import json
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import onnxruntime
import pandas as pd
from onnx import ModelProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.pipeline import Pipeline

from examples.price_model import MODEL_VERSION
from examples.price_model.data import fingerprint, load_diamonds, split
from examples.price_model.pipeline import build_pipeline
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import CATEGORIES, FEATURES
from examples.price_model.storage import write_together

MAX_DIFFERENCE_USD = 0.05


class ExportError(RuntimeError):
    """Die ONNX-Fassung rechnet anders als das Original und wird nicht gespeichert."""


def export_onnx(pipeline: Pipeline, X_test: pd.DataFrame) -> tuple[ModelProto, float]:
    """Wandelt die ganze Pipeline nach ONNX und vergleicht sie auf allen Testzeilen.

    Gibt das ONNX-Modell und die größte Abweichung in US-Dollar zurück; über
    0,05 US-Dollar entsteht `ExportError`.
    """
    onnx_model = to_onnx(
        pipeline,
        initial_types=[
            (name, (StringTensorType if name in CATEGORIES else FloatTensorType)([None, 1]))
            for name in FEATURES
        ],
    )
    session = onnxruntime.InferenceSession(
        onnx_model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    columns = {
        name: X_test[[name]].to_numpy(object if name in CATEGORIES else np.float32)
        for name in FEATURES
    }
    prices = session.run(None, columns)[0][:, 0]
    difference = float(np.abs(prices - pipeline.predict(X_test)).max())
    # So herum geschrieben, damit auch NaN als Fehler gilt.
    if not difference <= MAX_DIFFERENCE_USD:
        raise ExportError(
            f"ONNX weicht um bis zu {difference:.2f} US-Dollar ab, erlaubt sind "
            f"{MAX_DIFFERENCE_USD}. Es wurde nichts gespeichert."
        )
    return onnx_model, difference


def train(folder: Path = ARTIFACTS) -> dict:
    """Trainiert, prüft und speichert das Modell in `folder`; gibt die Metadaten zurück."""
    table, rows = load_diamonds()
    X_train, X_test, y_train, y_test = split(table)
    started = time.perf_counter()
    pipeline = build_pipeline().fit(X_train, y_train)
    seconds = time.perf_counter() - started
    predicted = pipeline.predict(X_test)
    onnx_model, difference = export_onnx(pipeline, X_test)
    metadata = {
        "model_version": MODEL_VERSION,
        "features": list(FEATURES),
        "categories": {name: list(grades) for name, grades in CATEGORIES.items()},
        "ranges": {
            name: [float(table[name].min()), float(table[name].max())]
            for name in FEATURES
            if name not in CATEGORIES
        },
        "rows": rows | {"train": len(X_train), "test": len(X_test)},
        "data_sha256": fingerprint(table),
        "mae_usd": round(float(mean_absolute_error(y_test, predicted)), 2),
        "r2": round(float(r2_score(y_test, predicted)), 4),
        "onnx_max_difference_usd": round(difference, 4),
        "training_seconds": round(seconds, 2),
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {
            package: version(package)
            for package in ("scikit-learn", "numpy", "onnx", "onnxruntime", "skl2onnx", "joblib")
        },
    }
    save(folder, pipeline, onnx_model, metadata)
    return metadata


def save(folder: Path, pipeline: Pipeline, onnx_model: ModelProto, metadata: dict) -> None:
    """Schreibt Pipeline, ONNX-Fassung und Metadaten: nie liegt eine halbe Datei da."""
    buffer = io.BytesIO()
    joblib.dump(pipeline, buffer)
    text = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
    files = {
        "price_model.joblib": buffer.getvalue(),
        "price_model.onnx": onnx_model.SerializeToString(),
        # Zuletzt umbenannt: Wo sie liegt, ist alles da.
        "metadata.json": text.encode(),
    }
    write_together(folder, files)


def main() -> int:
    """Trainiert und nennt das Ergebnis in zwei Zeilen."""
    try:
        metadata = train()
    except (ExportError, OSError) as error:
        print(f"Training abgebrochen: {error}", file=sys.stderr)
        return 1
    rows = metadata["rows"]
    print(
        f"{rows['raw']} Zeilen, entfernt: {rows['zero_dimension']} ohne Ausdehnung, "
        f"{rows['duplicate']} Duplikate."
    )
    print(
        f"Modell {metadata['model_version']}: mittlerer Fehler {metadata['mae_usd']:.0f} "
        f"US-Dollar, R² {metadata['r2']:.3f}, trainiert in {metadata['training_seconds']:.1f} s."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
