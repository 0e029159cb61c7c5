"""Einen Kandidaten trainieren: Daten und Einstellungen hinein, ein Modellordner hinaus.

Aufruf: python -m examples.ci_cd_pipeline.train STEINE.csv EINSTELLUNGEN.json ORDNER
"""

import argparse
import io
import json
import sys
from pathlib import Path

import joblib
import pandas as pd
from threadpoolctl import threadpool_limits

from examples.ci_cd_pipeline.gate import sha256
from examples.price_model.data import TARGET
from examples.price_model.pipeline import build_pipeline
from examples.price_model.schema import FEATURES
from examples.price_model.storage import write_together
from examples.price_model.train import ExportError, export_onnx


def fit(table: pd.DataFrame, settings: dict):
    """Trainiert die Pipeline des Falls; `settings` überschreibt ihre Parameter."""
    pipeline = build_pipeline().set_params(**{f"model__{k}": v for k, v in settings.items()})
    # Ein Thread: Auf einem beschäftigten Rechner warten mehrere vor allem aufeinander.
    with threadpool_limits(1, user_api="openmp"):
        return pipeline.fit(table[list(FEATURES)], table[TARGET])


def turned(table: pd.DataFrame) -> pd.DataFrame:
    """Jeden Stein umdrehen: Länge und Breite tauschen, sonst bleibt alles."""
    return table.rename(columns={"x": "y", "y": "x"})[list(table)]


def train(stones: Path, settings: dict, folder: Path) -> dict:
    """Schreibt das Modell in beiden Formaten nach `folder`; gibt die Metadaten zurück."""
    table = pd.read_csv(stones)
    training = pd.concat([table, turned(table)]) if settings.get("turned") else table
    pipeline = fit(training, settings["parameters"])
    onnx_model, _ = export_onnx(pipeline, table[list(FEATURES)].head(2000))
    joblib.dump(pipeline, buffer := io.BytesIO())
    metadata = {
        "model_version": settings["model_version"],
        "parameters": settings["parameters"],
        "turned": bool(settings.get("turned")),
        "rows": len(table),
        "data_sha256": sha256(stones),
    }
    files = {
        "price_model.joblib": buffer.getvalue(),
        "price_model.onnx": onnx_model.SerializeToString(),
        # Zuletzt umbenannt: Wo sie liegt, ist alles da.
        "metadata.json": json.dumps(metadata, indent=2).encode(),
    }
    write_together(folder, files)
    return metadata


def main() -> int:
    """Trainiert und nennt Version und Zeilen."""
    parser = argparse.ArgumentParser(description="Einen Kandidaten trainieren.")
    parser.add_argument("stones", type=Path, help="CSV mit Merkmalen und Preis")
    parser.add_argument("settings", type=Path, help="JSON: model_version und parameters")
    parser.add_argument("folder", type=Path, help="hierhin kommt das Modell")
    options = parser.parse_args()
    try:
        settings = json.loads(options.settings.read_text(encoding="utf-8"))
        metadata = train(options.stones, settings, options.folder)
    except KeyError as error:
        print(f"Es fehlt die Angabe {error}.", file=sys.stderr)
        return 1
    except (OSError, ValueError, ExportError) as error:
        print(f"Training abgebrochen: {error}", file=sys.stderr)
        return 1
    print(f"Modell {metadata['model_version']} aus {metadata['rows']} Steinen.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
