"""Shifts of channels where what they come to is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeqwt.equalize.shifts import carried, constant_bias, sources, with_constants
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import xnnpack
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise, samples

DENSE: dict[str, Any] = {**NONE, "keepNumDims": True}
SHIFT = np.array([3.0, -2.0, 0.5, 7.0], np.float32)
TOKENS, WIDTH = 5, 4


def pointwise(chain: Chain, x: int, seed: int, channels: int = 4, size: int = 1, padding: str = "SAME") -> int:
    """A convolution to 4 channels with a bias."""
    weights, bias = chain.constant(noise(4, size, size, channels, seed=seed)), chain.constant(noise(4, seed=seed + 50))
    return chain.op("CONV_2D", x, weights, bias, **{**CONV, "padding": padding})


def spread(graph: Graph, t: int, shift: Array = SHIFT) -> Array:
    """A shift per channel of a tensor's shape."""
    return np.broadcast_to(shift, graph.tensors[t].shape)


def check_shifted(graph: Graph, given: dict[int, Array]) -> Graph:
    """Whether tensors are smaller by what `carried` says, and outputs are the same."""
    found = carried(graph, {t: spread(graph, t, shift) for t, shift in given.items()})
    assert found is not None
    changes = dict(found.taken)
    for t, shift in given.items():
        changes[sources(graph)[t]] = changes.get(sources(graph)[t], 0) - shift
    other = with_constants(graph, changes)
    computed = [t for op in graph.ops for t in op.outputs]
    assert [(op.kind, op.outputs) for op in other.ops] == [(op.kind, op.outputs) for op in graph.ops]
    for sample in samples(graph, 3):
        wanted, values = (xnnpack(g, computed).run(sample) for g in (graph, other))
        for t in computed:
            # Rounding in float32, 2^-24 of the largest of some dozen summands, through up to ten ops.
            atol = 2e-5 * max(float(np.abs(wanted[t]).max()), 30.0)
            np.testing.assert_allclose(values[t] + found.of.get(t, 0), wanted[t], rtol=0, atol=atol)
    return other


def test_a_shift_moves_from_one_bias_into_the_next() -> None:
    chain = Chain()
    weights = np.array([[1.0, 2.0, 0.0, -1.0], [0.5, 0.0, 4.0, 1.0]])
    y = chain.op("FULLY_CONNECTED", chain.input((1, 3)), chain.constant(noise(4, 3)), chain.constant(SHIFT), **DENSE)
    graph = chain.graph(chain.op("FULLY_CONNECTED", y, chain.constant(weights), -1, **DENSE))
    other = check_shifted(graph, {y: SHIFT})
    first, second = (other.tensors[op.inputs[2]].data for op in other.ops)
    assert first is not None
    assert second is not None
    assert first.tolist() == [0, 0, 0, 0]
    assert second.tolist() == [3 - 4 - 7, 1.5 + 2 + 7]


@pytest.mark.parametrize(("padding", "allowed"), [("VALID", True), ("SAME", False)])
@pytest.mark.parametrize("depthwise", [False, True])
def test_zeros_around_a_map_forbid_it(padding: str, allowed: bool, depthwise: bool) -> None:
    chain = Chain()
    y = pointwise(chain, chain.input((1, 6, 6, 2)), 0, channels=2)
    if depthwise:
        weights, bias = chain.constant(noise(1, 3, 3, 4)), chain.constant(noise(4))
        z = chain.op("DEPTHWISE_CONV_2D", y, weights, bias, **{**DEPTHWISE, "padding": padding})
    else:
        z = pointwise(chain, y, 1, size=3, padding=padding)
    graph = chain.graph(z)
    assert (carried(graph, {y: spread(graph, y)}) is not None) == allowed
    if allowed:
        check_shifted(graph, {y: SHIFT})


@pytest.mark.parametrize("padded", [False, True])
def test_a_pad_op_forbids_it_too(padded: bool) -> None:
    chain = Chain()
    y = pointwise(chain, chain.input((1, 6, 6, 2)), 0, channels=2)
    z = chain.op("PAD", y, chain.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]]))) if padded else y
    graph = chain.graph(pointwise(chain, z, 1, size=3, padding="VALID"))
    assert (carried(graph, {y: spread(graph, y)}) is None) == padded


def residual(nonlinear: bool) -> tuple[Graph, int, int, int, int]:
    """Two branches, their sum, a third branch from it, and the sum of that and the sum, which a convolution reads."""
    chain = Chain()
    x = chain.input((1, 4, 4, 4))
    a, b = pointwise(chain, x, 0), pointwise(chain, x, 1)
    first = chain.op("ADD", a, b, **NONE)
    c = pointwise(chain, chain.op("LOGISTIC", pointwise(chain, first, 2)), 3)
    second = chain.op("ADD", first, c, **NONE)
    out = chain.op("TANH", second) if nonlinear else pointwise(chain, second, 4)
    return chain.graph(out), a, b, c, second


def test_a_residual_group_is_shifted_by_the_sum_of_its_branches() -> None:
    graph, a, b, c, second = residual(nonlinear=False)
    shifts = {a: SHIFT, b: 2 * SHIFT[::-1], c: np.ones(4, np.float32)}
    check_shifted(graph, shifts)
    found = carried(graph, {t: spread(graph, t, shift) for t, shift in shifts.items()})
    assert found is not None
    np.testing.assert_array_equal(found.of[second][0, 0, 0], SHIFT + 2 * SHIFT[::-1] + 1)


def test_one_nonlinear_reader_forbids_the_whole_group() -> None:
    graph, a, b, c, _ = residual(nonlinear=True)
    for t in (a, b, c):
        assert carried(graph, {t: spread(graph, t)}) is None
    # Only shifts that cancel before it are none there.
    opposite = {a: spread(graph, a), b: spread(graph, b, -SHIFT)}
    assert carried(graph, opposite) is not None


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
def test_shifts_of_values_pass_attention_whose_rows_sum_to_1(softmax: bool, turned: bool) -> None:
    chain = Chain()
    x = chain.input((1, TOKENS, WIDTH))
    scores = chain.input((1, TOKENS, TOKENS))
    shares = chain.op("SOFTMAX" if softmax else "LOGISTIC", scores, **({"beta": 1.0} if softmax else {}))
    v = chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 4)), chain.constant(SHIFT), **DENSE)
    values = chain.op("TRANSPOSE", v, chain.constant([0, 2, 1])) if turned else v
    y = chain.op("BATCH_MATMUL", shares, values, adjX=False, adjY=turned)
    graph = chain.graph(chain.op("FULLY_CONNECTED", y, chain.constant(noise(3, 4)), chain.constant(noise(3)), **DENSE))
    if softmax:
        check_shifted(graph, {v: SHIFT})
    else:
        assert carried(graph, {v: spread(graph, v)}) is None


def test_norms_forbid_it_though_they_are_linear_before_their_squares() -> None:
    chain = Chain()
    y = chain.op("FULLY_CONNECTED", chain.input((1, 3)), chain.constant(noise(4, 3)), -1, **DENSE)
    mean = chain.op("MEAN", y, chain.constant([-1]), keepDims=True)
    z = chain.op("SUB", y, mean, **NONE)
    graph = chain.graph(chain.op("MUL", z, z, **NONE))
    assert carried(graph, {y: spread(graph, y)}) is None


def test_constants_that_are_added_take_it_and_factors_hand_it_on() -> None:
    chain = Chain()
    y = chain.op("FULLY_CONNECTED", chain.input((1, 3)), chain.constant(noise(4, 3)), -1, **DENSE)
    z = chain.op("MUL", y, chain.constant(np.array([2.0, 1.0, -1.0, 0.5])), **NONE)
    beta = chain.op("ADD", z, chain.constant(noise(4)), **NONE)
    graph = chain.graph(chain.op("TANH", beta))
    assert sources(graph).keys() == {y, beta}
    found = carried(graph, {y: spread(graph, y)})
    assert found is not None
    assert {op: taken.tolist() for op, taken in found.taken.items()} == {2: [6, -2, -0.5, 3.5]}
    check_shifted(graph, {y: SHIFT})


def test_joined_and_split_tensors_keep_their_own_shifts() -> None:
    chain = Chain()
    x = chain.input((1, 4, 4, 4))
    a, b = pointwise(chain, x, 0), pointwise(chain, x, 1)
    joined = chain.op("CONCATENATION", a, b, axis=3, **NONE)
    graph = chain.graph(pointwise(chain, joined, 2, channels=8))
    check_shifted(graph, {a: SHIFT})
    found = carried(graph, {a: spread(graph, a)})
    assert found is not None
    assert found.of[joined][0, 0, 0].tolist() == [*SHIFT.tolist(), 0, 0, 0, 0]


def test_outputs_and_computed_biases_forbid_it() -> None:
    chain = Chain()
    x = chain.input((1, 3))
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 3)), -1, **DENSE)
    z = chain.op("FULLY_CONNECTED", y, chain.constant(noise(4, 4)), chain.input((4,)), **DENSE)
    graph = chain.graph(z)
    assert not constant_bias(graph, graph.ops[1])
    assert carried(graph, {y: spread(graph, y)}) is None
    graph = chain.graph(y)
    assert carried(graph, {y: spread(graph, y)}) is None
