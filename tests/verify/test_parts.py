"""Parts of outputs that mix units, found by what the graph joins."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.verify.parts import Part, parts_of
from tests.chain import NONE, Chain, noise


def boxes_and_scores(chain: Chain) -> tuple[int, int]:
    """Two tensors that a detector's head computes, shape (1, 6, 4) and (1, 6, 3)."""
    x = chain.input((1, 6, 8))
    boxes = chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 8)), chain.constant(noise(4)), shape=(1, 6, 4),
                     name="boxes", weightsFormat="DEFAULT", keepNumDims=True, **NONE)  # fmt: skip
    logits = chain.op("FULLY_CONNECTED", x, chain.constant(noise(3, 8)), chain.constant(noise(3)), shape=(1, 6, 3),
                      name="logits", weightsFormat="DEFAULT", keepNumDims=True, **NONE)  # fmt: skip
    return boxes, chain.op("LOGISTIC", logits, shape=(1, 6, 3), name="scores")


def joined(chain: Chain, *tensors: int, axis: int, shape: tuple[int, ...]) -> int:
    return chain.op("CONCATENATION", *tensors, shape=shape, axis=axis, **NONE)


@pytest.mark.parametrize("axis", [2, -1])
def test_joined_columns_are_parts(axis: int) -> None:
    chain = Chain()
    y = joined(chain, *boxes_and_scores(chain), axis=axis, shape=(1, 6, 7))
    assert parts_of(chain.graph(y), y) == (Part("boxes", 2, 0, 4), Part("scores", 2, 4, 7))


def test_parts_are_found_behind_what_moves_them_and_scales_them() -> None:
    chain = Chain()
    y = joined(chain, *boxes_and_scores(chain), axis=2, shape=(1, 6, 7))
    y = chain.op("TRANSPOSE", y, chain.constant([0, 2, 1]), shape=(1, 7, 6))
    y = chain.op("MUL", y, chain.constant(np.arange(1.0, 7.0)), shape=(1, 7, 6), **NONE)
    y = chain.op("RESHAPE", y, chain.constant([1, 7, 2, 3]), shape=(1, 7, 2, 3), newShape=[1, 7, 2, 3])
    assert parts_of(chain.graph(y), y) == (Part("boxes", 1, 0, 4), Part("scores", 1, 4, 7))


def test_each_axis_has_its_parts() -> None:
    chain = Chain()
    y = joined(chain, *boxes_and_scores(chain), axis=2, shape=(1, 6, 7))
    further = joined(chain, *boxes_and_scores(chain), axis=2, shape=(1, 6, 7))
    both = joined(chain, y, further, axis=1, shape=(1, 12, 7))
    found = parts_of(chain.graph(both), both)
    assert [(p.axis, p.start, p.stop) for p in found] == [(1, 0, 6), (1, 6, 12), (2, 0, 4), (2, 4, 7)]
    assert found[2].name == "0:4 of axis 2"  # of two tensors
    values = np.arange(84.0).reshape(1, 12, 7)
    assert np.array_equal(found[3].of(values), values[:, :, 4:])


def test_a_constant_that_is_joined_in_is_a_part() -> None:
    chain = Chain()
    boxes, _ = boxes_and_scores(chain)
    y = joined(chain, boxes, chain.constant(np.ones((1, 6, 1))), axis=2, shape=(1, 6, 5))
    assert [(p.start, p.stop) for p in parts_of(chain.graph(y), y)] == [(0, 4), (4, 5)]


def test_what_is_of_one_kind_has_no_parts() -> None:
    chain = Chain()
    boxes, scores = boxes_and_scores(chain)
    # Time steps, or crops: what is joined of many is a sequence.
    many = joined(chain, *[scores, boxes] * 9, axis=2, shape=(1, 6, 63))
    total = chain.op("SUM", boxes, chain.constant([1]), shape=(1, 4), keepDims=False)
    graph = chain.graph(boxes, many, total)
    assert [parts_of(graph, t) for t in graph.outputs] == [(), (), ()]


def test_what_is_computed_of_one_tensor_in_two_ways_is_two_parts() -> None:
    chain = Chain()
    x = chain.input((1, 6, 4))
    both = joined(chain, x, chain.op("TANH", x, shape=(1, 6, 4)), axis=2, shape=(1, 6, 8))
    first, second = (chain.op("SLICE", both, chain.constant([0, 0, k]), chain.constant([1, 6, 2]), shape=(1, 6, 2))
                     for k in (0, 2))  # fmt: skip
    y = joined(chain, first, chain.op("EXP", second, shape=(1, 6, 2)), axis=2, shape=(1, 6, 4))
    assert [(p.name, p.start, p.stop) for p in parts_of(chain.graph(y), y)] == [("x0", 0, 2), ("x0", 2, 4)]


def test_interleaved_columns_are_parts_each() -> None:
    chain = Chain()
    boxes, _ = boxes_and_scores(chain)
    other = chain.op("TANH", boxes, shape=(1, 6, 4))
    y = chain.op("PACK", boxes, other, shape=(1, 6, 4, 2), valuesCount=2, axis=3)
    y = chain.op("RESHAPE", y, chain.constant([1, 6, 8]), shape=(1, 6, 8), newShape=[1, 6, 8])
    found = parts_of(chain.graph(y), y)
    assert [(p.start, p.stop) for p in found] == [(k, k + 1) for k in range(8)]
