"""Beta in the biases of what reads it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.affine import fold_beta
from edgeqwt.prepare.prepare import prepare
from tests.chain import CONV, NONE, Chain, noise
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds


@pytest.mark.parametrize("network", [toy.vision, toy.language])
def test_pre_norm_networks_lose_beta(network: Callable[[], Graph]) -> None:
    graph = network()
    without_beta, names = fold_beta(graph)
    # Two blocks of two norms, and the last one.
    assert len(names) == 5
    assert_same_function(graph, without_beta)
    prepared = prepare(graph).graph
    assert fold_beta(prepared) == (prepared, [])


def around(behind: Callable[[Chain, int], int], *more: str) -> Graph:
    """x + beta and what reads it."""
    chain = Chain()
    x = chain.op("TANH", chain.input((1, 4, 4, 8)))
    y = chain.op("SUB", x, chain.constant(noise(1, 1, 1, 8, seed=1)), **NONE)
    return chain.graph(behind(chain, y), *([y] if more else []))


def pointwise(chain: Chain, x: int) -> int:
    """A convolution of single positions."""
    return chain.op("CONV_2D", x, chain.constant(noise(5, 1, 1, 8)), chain.constant(noise(5)), **CONV)


def bare(chain: Chain, x: int) -> int:
    """A linear layer without bias, of means over positions."""
    x = chain.op("MEAN", x, chain.constant([1, 2]), shape=(1, 8), keepDims=False)
    return chain.op("FULLY_CONNECTED", x, chain.constant(noise(5, 8)), shape=(1, 5), version=6, keepNumDims=False,
                    weightsFormat="DEFAULT", fusedActivationFunction="RELU")  # fmt: skip


@pytest.mark.parametrize("behind", [pointwise, bare])
def test_layers_take_summands(behind: Callable[[Chain, int], int]) -> None:
    graph = around(behind)
    folded, names = fold_beta(graph)
    assert len(names) == 1
    assert "SUB" not in kinds(folded)
    assert_same_function(graph, folded)


STAYING: dict[str, Callable[[Chain, int], int]] = {
    "padded": lambda chain, x: chain.op(
        "CONV_2D", x, chain.constant(noise(5, 3, 3, 8)), chain.constant(noise(5)), **CONV
    ),
    "a function": lambda chain, x: chain.op("TANH", x),
    "other channels": lambda chain, x: toy.dense(chain, toy.reshape(chain, x, 1, 32, 4), 5, 1),
    "moved channels": lambda chain, x: toy.dense(chain, toy.transpose(chain, x, 0, 1, 3, 2), 5, 1),
    "a residual": lambda chain, x: toy.add(chain, toy.dense(chain, x, 8, 1), x),
}


@pytest.mark.parametrize("staying", STAYING)
def test_what_others_read_stays(staying: str) -> None:
    graph = around(STAYING[staying])
    assert fold_beta(graph) == (graph, [])


def test_what_the_caller_reads_stays() -> None:
    graph = around(pointwise, "seen")
    assert fold_beta(graph) == (graph, [])


def test_weights_that_layers_share_stay() -> None:
    def shared(chain: Chain, x: int) -> int:
        w = chain.constant(noise(8, 8))
        options = {"weightsFormat": "DEFAULT", "keepNumDims": True, **NONE}
        y = chain.op("FULLY_CONNECTED", x, w, shape=(1, 4, 4, 8), version=6, **options)
        return chain.op("FULLY_CONNECTED", chain.op("TANH", y), w, shape=(1, 4, 4, 8), version=6, **options)

    graph = around(shared)
    assert fold_beta(graph) == (graph, [])
