"""The model of a run's time: what counts, and how often."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import OpTimes, Precision, Widths
from edgeqwt.widths.time import run_time
from tests.chain import NONE, Chain

TIMES = OpTimes(w4a8=2, w8a16=3, w4a16=5, element=7, element16=11, copy=13)


def network() -> Graph:
    """A dense layer of 4 x 6 weights on 2 rows, then a curve on its 12 outputs."""
    chain = Chain()
    x = chain.input((2, 4))
    y = chain.op("FULLY_CONNECTED", x, chain.constant(np.ones((6, 4))), -1, name="y", shape=(2, 6), **NONE)
    return chain.graph(chain.op("LOGISTIC", y, name="z", shape=(2, 6)))


@pytest.mark.parametrize(
    ("precision", "time"),
    [
        (Precision(), 48 + 12 * 7),
        (Precision(weight_bits=4), 48 * 2 + 12 * 7),
        (Precision(activation_bits=16), 48 * 3 + 12 * 11),
        (Precision(weight_bits=4, activation_bits=16), 48 * 5 + 12 * 11),
        (Precision(layers={"z": Widths(8, 16)}), 48 + 12 * 11 + 24 * 13),  # y is copied, and z to the caller's 8 bits
    ],
)
def test_multiplications_elements_and_copies_count(precision: Precision, time: float) -> None:
    graph = network()
    assert run_time(graph, precision, planned(graph, precision), TIMES) == time
