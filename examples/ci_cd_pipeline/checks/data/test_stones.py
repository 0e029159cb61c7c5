"""Datentests: Passt die Lieferung zu dem, was das Training voraussetzt?"""

from examples.price_model.data import TARGET
from examples.price_model.schema import FEATURES, MAX_BATCH, parse

MIN_ROWS = 20_000
# Diamant wiegt 0,0175 Karat je Kubikmillimeter; ein Brillant füllt gut ein Drittel des Quaders.
CARAT_PER_MM3 = (0.0045, 0.0085)
MAX_SHARE_ODD = 0.01


def test_columns_are_complete(stones):
    assert list(stones) == [*FEATURES, TARGET]


def test_there_are_enough_rows(stones):
    assert len(stones) >= MIN_ROWS, f"nur {len(stones)} Zeilen"


def test_every_row_is_a_valid_stone(stones):
    rows = stones[list(FEATURES)].to_dict("records")
    for start in range(0, len(rows), MAX_BATCH):
        parse(rows[start : start + MAX_BATCH])


def test_prices_are_possible(stones):
    assert stones[TARGET].between(100, 50_000).all()


def test_no_stone_is_listed_twice(stones):
    assert not stones.duplicated().any()


# [units]
def test_weight_fits_the_size(stones):
    density = stones["carat"] / (stones["x"] * stones["y"] * stones["z"])
    share = 1 - density.between(*CARAT_PER_MM3).mean()
    assert share <= MAX_SHARE_ODD, f"{share:.0%} der Steine: Gewicht und Maße passen nicht zusammen"


# [end units]


def test_no_stone_is_also_in_the_testset(stones, testset):
    both = stones.merge(testset, on=[*FEATURES, TARGET])
    assert both.empty, f"{len(both)} Steine stehen in beiden Dateien"
