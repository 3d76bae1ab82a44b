"""Which float tensors hold whole numbers alone."""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.whole_numbers import is_whole
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
