"""Derselbe Dienst mit Log und mit einem Modell, das abstürzt: nur für den Versuch.

Starten: uvicorn examples.service_logging.faulty:app --port 8216
"""

from examples.fastapi_service import app as service
from examples.price_model.predict import PriceModel
from examples.service_logging.logged import app

__all__ = ["app"]


def scaled(stones: list) -> list[float]:
    """Verwechselt Text und Zahl; die Meldung von Python zitiert dann den Text."""
    return [float(stone.clarity) for stone in stones]


service.load_model = lambda engine: PriceModel(scaled, "9.9.9")
