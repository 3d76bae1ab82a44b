from __future__ import annotations

import math

import numpy as np
import pytest

from edgeqwt.verify.wrapping import Wrapping, expected_db, wrapping
from tests.chain import NONE, Chain


def angle(chain: Chain, x: int, y: int) -> int:
    """An angle as the converters spell it out: that of the right half, and pi less it on the left."""
    right = chain.op("ATAN2", y, chain.constant(np.ones((1, 4), np.float32)), name="right", shape=(1, 4))
    left = chain.op("SUB", chain.constant([math.pi]), right, name="left", shape=(1, 4), **NONE)
    less = chain.op("LESS", x, chain.constant([0.0]), name="less", shape=(1, 4), dtype="bool")
    return chain.op("SELECT_V2", less, left, right, name="whole", shape=(1, 4))


def test_angles_and_remainders_wrap_and_other_curves_do_not() -> None:
    chain = Chain()
    x, y = chain.input((1, 4), name="x"), chain.input((1, 4), name="y")
    degrees = chain.op("MUL", angle(chain, x, y), chain.constant([180 / math.pi]), name="d", shape=(1, 4), **NONE)
    both = chain.op("ATAN2", y, x, name="both", shape=(1, 4))
    pi = chain.op("SUB", chain.constant([math.pi]), x, name="pi", shape=(1, 4), **NONE)
    hours = chain.op("FLOOR_MOD", x, chain.constant([24.0]), name="hours", shape=(1, 4))
    half = chain.op("ATAN2", y, chain.constant(np.ones((1, 4), np.float32)), name="half", shape=(1, 4))
    turns = chain.op("MUL", degrees, chain.constant([1 / 360]), name="turns", shape=(1, 4), **NONE)
    whole = chain.op("MUL", chain.op("FLOOR", turns, shape=(1, 4)), chain.constant([360.0]), shape=(1, 4), **NONE)
    rest = chain.op("SUB", degrees, whole, name="rest", shape=(1, 4), **NONE)
    graph = chain.graph(degrees, both, pi, hours, half, rest)
    found = {each.output: (each.period, each.middle) for each in wrapping(graph)}
    assert found.keys() == {0, 1, 3, 5}
    assert found[5] == pytest.approx((360, 180))
    assert found[0] == pytest.approx((360, 0))
    assert found[1] == pytest.approx((2 * math.pi, 0))
    assert found[3] == pytest.approx((24, 12))


def test_the_figure_is_that_of_as_many_jumps_as_come() -> None:
    random = np.random.default_rng(0)
    true, error = random.uniform(-math.pi, math.pi, (4000, 20)), random.normal(0, 0.03, (4000, 20))
    wrapped = (true + error + math.pi) % (2 * math.pi) - math.pi
    squared = (wrapped - true) ** 2
    measured = 10 * math.log10(true.var() / squared.mean())
    found = expected_db(Wrapping(0, 2 * math.pi, 0.0), true[:64], wrapped[:64])
    # 304 jumps are to be expected, so that their number has a standard deviation of 0.25 dB; the 128 values near an end
    # of the first 1280 have one of 0.4 dB.
    assert found == pytest.approx(measured, abs=1.2)
    middle = expected_db(Wrapping(0, 2 * math.pi, 0.0), true[:64] / 2, true[:64] / 2 + error[:64])
    assert middle == math.inf
