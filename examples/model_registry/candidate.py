"""Ein weiteres Modell trainieren: dieselbe Pipeline, andere Einstellungen, eigener Ordner.

Aufruf: python -m examples.model_registry.candidate ORDNER --model-version 1.1.0
"""

import argparse
import io
import json
import sys
from pathlib import Path

import joblib
from sklearn.metrics import mean_absolute_error, r2_score

from examples.price_model.data import fingerprint, load_diamonds, split
from examples.price_model.pipeline import build_pipeline
from examples.price_model.storage import write_together


def train(
    folder: Path, model_version: str, max_iter: int = 80, learning_rate: float = 0.25
) -> dict:
    """Trainiert und legt Modell und Metadaten ab, wie `registry register` sie liest."""
    table, _ = load_diamonds()
    X_train, X_test, y_train, y_test = split(table)
    settings = {"model__max_iter": max_iter, "model__learning_rate": learning_rate}
    pipeline = build_pipeline().set_params(**settings).fit(X_train, y_train)
    predicted = pipeline.predict(X_test)
    metadata = {
        "model_version": model_version,
        "data_sha256": fingerprint(table),
        "mae_usd": round(float(mean_absolute_error(y_test, predicted)), 2),
        "r2": round(float(r2_score(y_test, predicted)), 4),
    }
    joblib.dump(pipeline, buffer := io.BytesIO())
    content = {"price_model.joblib": buffer.getvalue()}
    write_together(folder, content | {"metadata.json": json.dumps(metadata).encode()})
    return metadata


def main() -> None:
    """Trainiert und nennt Version und Fehler als JSON."""
    parser = argparse.ArgumentParser(description="Ein weiteres Modell trainieren.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model-version", required=True)
    try:
        metadata = train(**vars(parser.parse_args()))
    except OSError as error:
        sys.exit(f"Der Ordner lässt sich nicht schreiben: {error.strerror}.")
    print(json.dumps({name: metadata[name] for name in ("model_version", "mae_usd")}))


if __name__ == "__main__":
    main()
