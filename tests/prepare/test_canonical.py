"""Picking by indices that are known."""

from __future__ import annotations

import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from tests.chain import CONV, Chain, noise
from tests.prepare.test_prepare import assert_same_function, kinds


def gather(index: list[int] | int, axis: int, rank: int = 3) -> Graph:
    """GATHER of known indices from what is computed."""
    chain = Chain()
    x = chain.op("TANH", chain.input((2, 5, 4)[-rank:]))
    return chain.graph(chain.op("GATHER", x, chain.constant(index), axis=axis, batchDims=0))


@pytest.mark.parametrize(("index", "axis"), [([0], 1), ([1, 2, 3], 1), ([2, 3], -1), ([1], 0)])
def test_indices_in_a_row_are_a_slice(index: list[int], axis: int) -> None:
    graph = gather(index, axis)
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["TANH", "SLICE"]
    assert_same_function(graph, prepared)


@pytest.mark.parametrize("index", [[1, 3], [3, 2], [2, 2], 0])
def test_other_indices_stay(index: list[int] | int) -> None:
    assert kinds(prepare(gather(index, 1)).graph) == ["TANH", "GATHER"]


@pytest.mark.parametrize("linear", [True, False])
def test_clamping_to_0_and_1_is_a_fused_relu6(linear: bool) -> None:
    chain = Chain()
    x = chain.input((1, 4, 4, 3))
    if linear:
        x = chain.op("CONV_2D", x, chain.constant(noise(6, 1, 1, 3)), chain.constant(noise(6, seed=2)), **CONV)
    clamped = chain.op("RELU_0_TO_1", x)
    weights, bias = chain.constant(noise(2, 1, 1, chain.tensors[x].shape[-1])), chain.constant(noise(2, seed=4))
    y = chain.op("CONV_2D", clamped, weights, bias, **CONV)
    graph = chain.graph(y)
    prepared = prepare(graph).graph
    assert_same_function(graph, prepared)
    assert [(op.kind, op.activation) for op in prepared.ops][:1] == [("CONV_2D" if linear else "MUL", "RELU6")]
    assert [op.kind for op in prepared.ops][1:] == ["CONV_2D"]
