"""Derselbe überwachte Dienst mit einem Fehler, den nur seltene Steine treffen: für den Versuch.

Starten: `python -m examples.monitoring_alerting.serve --app failing`
"""

from collections.abc import Sequence

from examples.fastapi_service import app as service
from examples.monitoring_alerting.monitored import app
from examples.price_model.predict import PriceModel
from examples.price_model.schema import Stone

__all__ = ["app"]
FLAT_DEPTH = 50
load_model = service.load_model


def load_failing(engine: str) -> PriceModel:
    """Lädt das Modell; die eingebaute Vorverarbeitung stürzt bei sehr flachen Steinen ab."""
    model = load_model(engine)

    def predict(stones: Sequence[Stone]) -> list[float]:
        if any(stone.depth < FLAT_DEPTH for stone in stones):
            raise ZeroDivisionError("flat")
        return model.predict(stones)

    return PriceModel(predict, model.version)


service.load_model = load_failing
