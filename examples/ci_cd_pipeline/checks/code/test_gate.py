"""Codetests: Auch das Gate ist Code. Was es sperren soll, steht hier mit ausgedachten Zahlen."""

import numpy as np
import pytest

from examples.ci_cd_pipeline.gate import compare
from examples.price_model.schema import EXAMPLE, InvalidStoneError, parse

ERRORS = np.linspace(50, 500, 1000)


def test_the_same_model_passes():
    assert compare(ERRORS, ERRORS, 0.02)["passed"]


def test_a_better_model_passes():
    assert compare(ERRORS * 0.9, ERRORS, 0.02)["passed"]


def test_a_worse_model_is_blocked():
    assert not compare(ERRORS * 1.05, ERRORS, 0.02)["passed"]


def test_a_bit_worse_within_tolerance_passes():
    assert compare(ERRORS * 1.01, ERRORS, 0.02)["passed"]


def test_what_is_not_a_number_is_blocked():
    assert not compare(np.full_like(ERRORS, np.nan), ERRORS, 0.02)["passed"]


def test_too_uncertain_is_blocked():
    noise = np.where(np.arange(1000) % 2, 900, -900)
    assert not compare(ERRORS + noise, ERRORS, 0.02)["passed"]


def test_a_typing_error_is_no_stone():
    with pytest.raises(InvalidStoneError):
        parse(EXAMPLE | {"cut": "ideal"})
