"""How far values reach, by the ops that compute them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeqwt.graph.reach import reach
from tests.chain import NONE, Chain

OPEN = (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ((), OPEN),
        ((("TANH", None), ("MUL", 127.5), ("ADD", 127.5)), (0, 255)),
        ((("MUL", 255.0), ("MAXIMUM", 0.0), ("MINIMUM", 255.0)), (0, 255)),
        ((("RELU", None), ("MUL", -2.0)), (-math.inf, 0)),
        ((("RELU6", None), ("SUB", 0.4), ("ROUND", None)), (0, 6)),
        ((("LOGISTIC", None), ("EXP", None)), (0, math.inf)),
        ((("SQUARE", None), ("ADD", 1.0)), (1, math.inf)),
    ],
)
def test_what_ops_leave_open(steps: tuple[tuple[str, float | None], ...], wanted: tuple[float, float]) -> None:
    chain = Chain()
    t = chain.input((1, 4), "x")
    for kind, number in steps:
        constant = () if number is None else (chain.constant([number]),)
        t = chain.op(kind, t, *constant, shape=(1, 4), **(NONE if kind in ("MUL", "ADD", "SUB") else {}))
    low, high = reach(chain.graph(t), t)
    assert (low + 0.0, high + 0.0) == wanted


def test_fused_activations_bound_as_well() -> None:
    chain = Chain()
    t = chain.op("ADD", chain.input((1, 4), "x"), chain.constant([1.0]), shape=(1, 4), fusedActivationFunction="RELU6")
    assert reach(chain.graph(t), t) == (0, 6)


def test_sums_of_squares_are_positive() -> None:
    chain = Chain()
    x = chain.input((1, 4), "x")
    square = chain.op("MUL", x, x, shape=(1, 4), **NONE)
    t = chain.op("SUM", square, chain.constant(np.array([1], np.int32)), shape=(1, 1), keepDims=True)
    graph = chain.graph(t)
    assert reach(graph, t) == (0, math.inf)
    assert reach(graph, x) == OPEN


@pytest.mark.parametrize(("kind", "numbers"), [("BROADCAST_TO", [3, 4]), ("TILE", [3, 1])])
def test_repeated_values_reach_as_far(kind: str, numbers: list[int]) -> None:
    chain = Chain()
    length = chain.op("SQRT", chain.input((1, 4), "x"), shape=(1, 4))
    t = chain.op(kind, length, chain.constant(numbers), shape=(3, 4))
    assert reach(chain.graph(t), t) == (0, math.inf)


def test_parts_reach_as_far_as_the_whole() -> None:
    chain = Chain()
    whole = chain.op("RELU6", chain.input((1, 4), "x"), shape=(1, 4))
    t = chain.op("SPLIT", chain.constant(1), whole, shape=(1, 4), numSplits=1)
    assert reach(chain.graph(t), t) == (0, 6)
