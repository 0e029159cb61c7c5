"""Der Preisdienst nach einem hastigen Commit: Er zählt je Schliff mit und vertippt sich dabei.

Modell und Health-Checks sind in Ordnung; nur wer nach einem „Very Good“ fragt, sieht den Fehler.
"""

from collections.abc import Sequence

from examples.fastapi_service.metered import app
from examples.price_model.predict import PriceModel
from examples.price_model.schema import Stone

__all__ = ["app"]
asked = {"Fair": 0, "Good": 0, "Very good": 0, "Premium": 0, "Ideal": 0}
unchanged = PriceModel.predict


def predict(self: PriceModel, stones: Sequence[Stone]) -> list[float]:
    """Zählt, bevor gerechnet wird."""
    for stone in stones:
        asked[stone.cut] += 1
    return unchanged(self, stones)


PriceModel.predict = predict
