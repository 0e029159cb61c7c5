"""Ein zweites Preismodell trainieren, Version 1.1.0, zum Einhängen in einen Container.

Es lernt am absoluten statt am quadratischen Fehler: Der Preis ist ein anderer, und das sieht man.

Aufruf: python -m examples.docker_image.next_model ORDNER
"""

import json
import sys
from pathlib import Path

from sklearn.metrics import mean_absolute_error
from threadpoolctl import threadpool_limits

from examples.price_model.data import load_diamonds, split
from examples.price_model.pipeline import build_pipeline
from examples.price_model.storage import write_together
from examples.price_model.train import export_onnx

MODEL_VERSION = "1.1.0"
# Weniger Bäume, die dafür schneller lernen: Das Training dauert nur wenige Sekunden.
FASTER = {"model__max_iter": 150, "model__learning_rate": 0.2}


def train(folder: Path) -> dict:
    """Schreibt ONNX-Datei und Metadaten nach `folder`; gibt die Metadaten zurück."""
    table, _ = load_diamonds()
    X_train, X_test, y_train, y_test = split(table)
    pipeline = build_pipeline().set_params(model__loss="absolute_error", **FASTER)
    # Ein Thread: Auf einem beschäftigten Rechner warten mehrere vor allem aufeinander.
    with threadpool_limits(1, user_api="openmp"):
        pipeline.fit(X_train, y_train)
    onnx_model, _ = export_onnx(pipeline, X_test)
    error = mean_absolute_error(y_test, pipeline.predict(X_test))
    metadata = {"model_version": MODEL_VERSION, "mae_usd": round(float(error), 2)}
    # Die Metadaten zuletzt: Sie zeigen an, dass das Modell ganz ist.
    text = json.dumps(metadata).encode()
    write_together(
        folder, {"price_model.onnx": onnx_model.SerializeToString(), "metadata.json": text}
    )
    return metadata


def main() -> int:
    """Trainiert und nennt Version und Fehler in einer Zeile."""
    if len(sys.argv) != 2:
        print("Aufruf: python -m examples.docker_image.next_model ORDNER", file=sys.stderr)
        return 2
    try:
        metadata = train(Path(sys.argv[1]))
    except OSError as error:
        print(f"Der Ordner lässt sich nicht schreiben: {error.strerror}.", file=sys.stderr)
        return 1
    error = f"mittlerer Fehler {metadata['mae_usd']:.0f} US-Dollar"
    print(f"Modell {metadata['model_version']}: {error}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
