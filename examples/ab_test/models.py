"""Zwei Herausforderer des Preismodells trainieren, einen besseren und einen schlechteren.

Aufruf: python -m examples.ab_test.models ORDNER
Danach liegen in ORDNER/better (1.1.0) und ORDNER/worse (1.2.0) je ein ONNX-Modell mit Metadaten;
ein Dienst mit PRICE_MODEL_DIR=ORDNER/better antwortet damit.
"""

import argparse
import json
import sys
from pathlib import Path

from sklearn.metrics import mean_absolute_error
from threadpoolctl import threadpool_limits

from examples.docker_image import next_model
from examples.price_model.data import load_diamonds, split
from examples.price_model.pipeline import build_pipeline
from examples.price_model.storage import write_together
from examples.price_model.train import export_onnx

WORSE_VERSION = "1.2.0"
# Knapp ein Drittel der Bäume: kleiner und schneller, aber noch nicht fertig gelernt.
WORSE_TREES = 30


def train_worse(folder: Path) -> dict:
    """Schreibt das zu kleine Modell nach `folder`; gibt die Metadaten zurück."""
    X_train, X_test, y_train, y_test = split(load_diamonds()[0])
    pipeline = build_pipeline().set_params(model__max_iter=WORSE_TREES)
    # Ein Thread: Auf einem beschäftigten Rechner warten mehrere vor allem aufeinander.
    with threadpool_limits(1, user_api="openmp"):
        pipeline.fit(X_train, y_train)
    onnx_model, _ = export_onnx(pipeline, X_test)
    error = float(mean_absolute_error(y_test, pipeline.predict(X_test)))
    metadata = {"model_version": WORSE_VERSION, "mae_usd": round(error, 2)}
    files = {
        "price_model.onnx": onnx_model.SerializeToString(),
        "metadata.json": json.dumps(metadata).encode(),
    }
    write_together(folder, files)
    return metadata


def main() -> int:
    """Trainiert beide und nennt je eine Zeile JSON."""
    parser = argparse.ArgumentParser(description="Zwei Herausforderer trainieren")
    parser.add_argument("folder", type=Path, help="wohin die Ordner better und worse kommen")
    folder = parser.parse_args().folder
    try:
        for name, train in {"better": next_model.train, "worse": train_worse}.items():
            print(json.dumps({"name": name, **train(folder / name)}))
    except OSError as error:
        print(f"Der Ordner lässt sich nicht schreiben: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
