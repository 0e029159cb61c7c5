"""Gemessene Zahlen für die Seiten nach book/data/ schreiben: `make figures`.

Seiten nennen sie mit der Rolle {measured}; keine Zahl wird von Hand getippt.
"""

import json
import os
import platform
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write(name: str, values: dict) -> None:
    """Schreibt book/data/<name>.json mit Datum und Maschine der Messung."""
    origin = {
        "date": date.today().isoformat(),
        "machine": f"{platform.system()}, {os.cpu_count()} Kerne, "
        f"Python {platform.python_version()}",
    }
    path = ROOT / "book" / "data" / f"{name}.json"
    text = json.dumps(origin | values, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Übernimmt die Zahlen des Preismodells aus seinen Metadaten."""
    sys.path.insert(0, str(ROOT))
    from examples.price_model.predict import load_metadata

    metadata = load_metadata()
    wanted = ("model_version", "rows", "mae_usd", "r2", "onnx_max_difference_usd")
    write("price_model", {name: metadata[name] for name in wanted})


if __name__ == "__main__":
    main()
