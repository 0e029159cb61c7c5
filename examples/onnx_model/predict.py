"""Steine mit der ONNX-Datei bewerten; nötig sind nur onnxruntime, numpy und pydantic.

Eine Frage:   python -m examples.onnx_model.predict ORDNER '{"carat": 0.7, …}'
Viele Fragen: python -m examples.onnx_model.predict ORDNER < FRAGEN, je Zeile eine
Mit PRICE_ENGINE=sklearn rechnet scikit-learn statt ONNX.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from examples.price_model.predict import ModelMissingError, PriceModel, load_model
from examples.price_model.schema import REASONS, InvalidStoneError, parse

ENGINE = os.environ.get("PRICE_ENGINE", "onnx")


def answer(model: PriceModel, question: str | bytes) -> dict | list[dict]:
    """Beantwortet eine Frage in JSON wie ein Dienst: Preise oder unter `detail` die Gründe."""
    try:
        payload = json.loads(question)
        stones = parse(payload)
    except InvalidStoneError as error:
        return {"detail": error.problems}
    except (ValueError, RecursionError):
        return {"detail": [{"field": "body", "reason": REASONS["json_invalid"]}]}
    # Außerhalb: Ein Fehler des Modells ist keiner der Frage.
    prices = model.predict(stones)
    answers = [{"price_usd": price, "model_version": model.version} for price in prices]
    return answers if isinstance(payload, list) else answers[0]


def main() -> int:
    """Lädt das Modell einmal und antwortet je Frage mit einer Zeile; 1, wenn eine ungültig war."""
    parser = argparse.ArgumentParser(description="Steine mit der ONNX-Datei bewerten")
    parser.add_argument("folder", type=Path, help="Ordner mit price_model.onnx und metadata.json")
    parser.add_argument("question", nargs="?", help="ein Stein oder eine Liste als JSON")
    arguments = parser.parse_args()
    # Umgeleitet schriebe Windows sonst in cp1252 und scheiterte an fremden Feldnamen.
    sys.stdout.reconfigure(encoding="utf-8")
    if ENGINE not in ("onnx", "sklearn"):
        sys.exit(f"PRICE_ENGINE={ENGINE} ist unbekannt; erlaubt sind onnx und sklearn.")
    try:
        model = load_model(ENGINE, arguments.folder)
    except ModelMissingError as error:
        sys.exit(str(error))
    except ModuleNotFoundError as error:
        sys.exit(f"Für PRICE_ENGINE={ENGINE} fehlt hier das Paket {error.name}.")
    except Exception as error:  # die Fehler von onnxruntime haben keine gemeinsame Klasse
        sys.exit(
            f"Das Modell in {arguments.folder.name}/ lässt sich nicht laden: Die Datei fehlt, ist "
            f"beschädigt oder passt nicht zu dieser Laufzeit ({type(error).__name__})."
        )
    rejected = False
    for question in [arguments.question] if arguments.question is not None else sys.stdin.buffer:
        reply = answer(model, question)
        rejected |= "detail" in reply
        print(json.dumps(reply, ensure_ascii=False), flush=True)
    return int(rejected)


if __name__ == "__main__":
    sys.exit(main())
