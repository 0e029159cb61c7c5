"""Das Keras-Modell im eigenen Prozess fragen, ohne SavedModel und ohne Dienst.

Aufruf: python -m examples.tensorflow_savedmodel.reference '[{"carat": 0.7, …}]'
"""

import json
import sys

import keras
import pandas as pd

from examples.tensorflow_savedmodel.train import ARTIFACTS, columns


def main() -> None:
    """Schreibt die Preise in US-Dollar und die Modellversion als JSON."""
    if len(sys.argv) != 2:
        sys.exit(f"Aufruf: python -m {__spec__.name} '[{{…}}]'")
    model = keras.models.load_model(ARTIFACTS / "price_model.keras")
    stones = columns(pd.DataFrame(json.loads(sys.argv[1])))
    metadata = json.loads((ARTIFACTS / "metadata.json").read_text(encoding="utf-8"))
    prices = model(stones)["price_usd"].numpy().tolist()
    print(json.dumps({"prices": prices, "model_version": metadata["model_version"]}))


if __name__ == "__main__":
    main()
