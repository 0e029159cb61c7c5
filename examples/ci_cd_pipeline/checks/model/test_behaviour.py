"""Modelltests: Verhält sich der Kandidat wie ein Preis, gleichgültig wie gut er im Mittel ist?"""

import numpy as np
import pytest

from examples.price_model.schema import CATEGORIES, EXAMPLE, FEATURES, parse

COUNT = 500
ENOUGH = 0.9


@pytest.fixture(scope="module")
def sample(testset) -> list[dict]:
    return testset[list(FEATURES)].head(COUNT).to_dict("records")


def prices(model, stones: list[dict]) -> np.ndarray:
    return np.array(model.predict(parse(stones)))


# [behaviour]
# Minimalfunktion: was jeder im Laden wüsste.
def test_a_known_stone_costs_about_what_it_should(model):
    assert 2000 < prices(model, [EXAMPLE])[0] < 4000


# Invarianz: Länge und Breite zu vertauschen dreht den Stein nur um.
def test_turning_a_stone_keeps_its_price(model, sample):
    turned = [stone | {"x": stone["y"], "y": stone["x"]} for stone in sample]
    change = np.abs(prices(model, turned) / prices(model, sample) - 1)
    assert np.median(change) < 0.02


# Richtung: Besseres kostet bei mehr als neun von zehn Steinen mehr.
@pytest.mark.parametrize("name", ["color", "clarity"])
def test_a_better_grade_costs_more(model, sample, name):
    worst, best = CATEGORIES[name][0], CATEGORIES[name][-1]
    low = prices(model, [stone | {name: worst} for stone in sample])
    high = prices(model, [stone | {name: best} for stone in sample])
    share = (high > low).mean()
    assert share > ENOUGH, f"nur bei {share:.0%} der Steine"


# [end behaviour]


def test_a_larger_stone_costs_more(model, sample):
    size = 1.1
    grown = {"carat": size**3, "x": size, "y": size, "z": size}
    larger = [stone | {k: stone[k] * by for k, by in grown.items()} for stone in sample]
    share = (prices(model, larger) > prices(model, sample)).mean()
    assert share > ENOUGH, f"nur bei {share:.0%} der Steine"


def test_every_price_is_positive(model, sample):
    assert (prices(model, sample) > 0).all()


def test_company_does_not_change_a_price(model, sample):
    assert prices(model, sample[:20]).tolist() == [prices(model, [s])[0] for s in sample[:20]]
