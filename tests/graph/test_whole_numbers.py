"""Which float tensors hold whole numbers alone."""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.whole_numbers import counts, is_whole
from tests.chain import NONE, Chain


def test_what_is_rounded_and_moved_is_whole() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    floor = chain.op("FLOOR", x)
    next_to = chain.op("ADD", floor, chain.constant(1.0), **NONE)
    inside = chain.op("MINIMUM", chain.op("RELU", next_to), chain.constant(np.array([7.0])))
    flag = chain.op("CAST", chain.op("GREATER", x, chain.constant(0.5), dtype="bool"), inDataType="BOOL")
    half = chain.op("MUL", floor, chain.constant(0.5), **NONE)
    rest = chain.op("SUB", x, floor, **NONE)
    graph = chain.graph(inside, flag, half, rest)
    assert all(is_whole(graph, t) for t in (floor, next_to, inside, flag))
    assert not any(is_whole(graph, t) for t in (x, half, rest))


def test_sums_of_conditions_count_and_places_do_not() -> None:
    chain = Chain()
    x, axes = chain.input((1, 4)), chain.constant(np.array([1], np.int32))
    above = chain.op("GREATER", x, chain.constant(0.5), dtype="bool")
    ones = chain.op("CAST", above, dtype="int32", inDataType="BOOL", outDataType="INT32")
    several = chain.op("SUM", ones, axes, dtype="int32")
    last = chain.constant(np.array(1, np.int32))
    place = chain.op("ARG_MAX", x, last, dtype="int32", outputType="INT32")
    next_to = chain.op("ADD", place, chain.constant(np.array(1, np.int32)), dtype="int32", **NONE)
    graph = chain.graph(several, place, next_to, above, x)
    assert [counts(graph, t) for t in graph.outputs] == [True, False, False, False, False]
