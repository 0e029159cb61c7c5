"""Die Handler: Das Toolkit von AWS ruft sie der Reihe nach, für jede Anfrage außer `model_fn`."""

import json
from pathlib import Path
from typing import NoReturn

from sagemaker_inference.errors import BaseInferenceToolkitError

from examples.price_model.predict import PriceModel, load_model
from examples.price_model.schema import InvalidStoneError, Stone, explain, parse


def model_fn(model_dir: str) -> PriceModel:
    """Lädt das Modell, einmal beim Start."""
    return load_model("sklearn", Path(model_dir))


def input_fn(body: str | bytes, content_type: str) -> tuple[list[Stone], bool]:
    """Liest die Frage; was hier scheitert, ist die Schuld des Fragenden."""
    # „; charset=utf-8“ hängen viele Clients an, und Groß und Klein zählt nicht.
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        refuse(415, [{"field": "body", "reason": "Erwartet wird application/json."}])
    try:
        question = json.loads(body)
        return parse(question), isinstance(question, list)
    except InvalidStoneError as error:
        refuse(422, error.problems)
    except (ValueError, RecursionError):
        refuse(400, explain([{"type": "json_invalid", "loc": ()}]))


def predict_fn(question: tuple[list[Stone], bool], model: PriceModel) -> list[dict] | dict:
    """Rechnet: ein Stein ergibt einen Preis, eine Liste eine Liste."""
    stones, batch = question
    prices = [
        {"price_usd": price, "model_version": model.version} for price in model.predict(stones)
    ]
    return prices if batch else prices[0]


def output_fn(prices: list[dict] | dict, accept: str) -> tuple[str, str]:
    """Schreibt die Antwort und nennt ihr Format."""
    return json.dumps(prices), "application/json"


def refuse(status: int, problems: list[dict]) -> NoReturn:
    """Ohne diese Ausnahme meldet das Toolkit jeden Fehler als 500, also als eigenen."""
    raise BaseInferenceToolkitError(
        status, json.dumps({"detail": problems}, ensure_ascii=False), "Ungültige Frage"
    )
