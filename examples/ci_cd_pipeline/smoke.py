"""Ein Rauchtest gegen den laufenden Dienst: rechnet er wie das Modell, und lehnt er Falsches ab?

Aufruf: python -m examples.ci_cd_pipeline.smoke URL --model ORDNER
"""

import argparse
import sys
from pathlib import Path

import httpx

from examples.ab_test.options import address
from examples.price_model.predict import ModelMissingError, load_model
from examples.price_model.schema import EXAMPLE, parse

MAX_DIFFERENCE_USD = 0.05


def problems(url: str, model: Path) -> list[str]:
    """Nennt alles, was nicht stimmt; eine leere Liste heißt bestanden."""
    found = []
    expected = load_model("onnx", model)
    (price,) = expected.predict(parse(EXAMPLE))
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        if client.get("/health/ready").status_code != 200:
            found.append("nicht bereit")
        answer = client.post("/predict", json=EXAMPLE)
        if answer.status_code != 200:
            return [*found, f"Beispielfrage mit {answer.status_code} beantwortet"]
        if answer.json()["model_version"] != expected.version:
            found.append("falsche Modellversion")
        if abs(answer.json()["price_usd"] - price) > MAX_DIFFERENCE_USD:
            found.append("anderer Preis als das Modell")
        if client.post("/predict", json=EXAMPLE | {"carat": -1}).status_code != 422:
            found.append("negatives Gewicht nicht abgelehnt")
    return found


def main() -> int:
    """Prüft und nennt, was nicht stimmt."""
    parser = argparse.ArgumentParser(description="Rauchtest gegen den laufenden Dienst.")
    parser.add_argument("url", type=address)
    parser.add_argument("--model", type=Path, required=True, help="Ordner des erwarteten Modells")
    options = parser.parse_args()
    try:
        found = problems(options.url, options.model)
    except (httpx.HTTPError, ModelMissingError, ValueError, KeyError) as error:
        found = [f"keine brauchbare Antwort ({type(error).__name__})"]
    if found:
        print(f"Rauchtest nicht bestanden: {', '.join(found)}.", file=sys.stderr)
        return 1
    print("Der Dienst rechnet wie das Modell und lehnt Falsches ab.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
