"""Chains of RESHAPE and TRANSPOSE: the same order of elements from fewer ops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.moves import LARGEST_RANK, Move, plan, shorten
from edgeqwt.prepare.prepare import prepare
from tests.chain import Chain, noise
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds

R, T = "RESHAPE", "TRANSPOSE"


def chain_of(shape: tuple[int, ...], *moves: tuple[str, tuple[int, ...]]) -> Graph:
    """Moves between two functions."""
    chain = Chain()
    x = chain.op("TANH", chain.input(shape))
    for kind, how in moves:
        x = toy.reshape(chain, x, *how) if kind == R else toy.transpose(chain, x, *how)
    return chain.graph(chain.op("EXP", x))


CHAINS: dict[str, tuple[Graph, list[str]]] = {
    "two TRANSPOSEs": (chain_of((2, 3, 4), (T, (1, 0, 2)), (T, (2, 0, 1))), [T]),
    "a TRANSPOSE and back": (chain_of((2, 3, 4), (T, (1, 2, 0)), (T, (2, 0, 1))), []),
    "RESHAPEs": (chain_of((2, 3, 4), (R, (6, 4)), (R, (4, 6)), (R, (24,))), [R]),
    "RESHAPEs and back": (chain_of((2, 3, 4), (R, (6, 4)), (R, (2, 3, 4))), []),
    "a TRANSPOSE of axes of length 1": (chain_of((1, 3, 1, 4), (T, (1, 2, 3, 0))), [R]),
    "a TRANSPOSE around": (chain_of((2, 3, 4), (T, (0, 2, 1)), (R, (2, 4, 3, 1)), (T, (0, 3, 2, 1))), [R]),
    "heads of a batch": (chain_of((1, 6, 8), (R, (6, 2, 4)), (T, (1, 0, 2)), (R, (1, 2, 6, 4))), [R, T]),
    "heads joined": (chain_of((1, 2, 6, 4), (R, (2, 6, 4)), (T, (1, 0, 2)), (R, (1, 6, 8))), [T, R]),
    "five axes": (chain_of((1, 5, 6), (R, (1, 5, 3, 1, 2)), (T, (2, 0, 3, 1, 4)), (R, (3, 5, 2))), [R, T]),
    "windows": (chain_of((4, 6, 2), (R, (2, 2, 3, 2, 2)), (T, (0, 2, 1, 3, 4)), (R, (6, 4, 2))), [R, T, R]),
    "an axis of length 1 dropped behind": (chain_of((1, 1, 5, 4), (T, (0, 3, 1, 2)), (R, (1, 4, 5))), [R, T]),
    "an axis of length 1 added before": (chain_of((1, 4, 5), (R, (1, 4, 1, 5)), (T, (0, 2, 3, 1))), [T, R]),
    "ones in other places": (chain_of((1, 3, 4), (R, (3, 4, 1)), (T, (1, 0, 2))), [T]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_get_short(name: str) -> None:
    graph, left = CHAINS[name]
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["TANH", *left, "EXP"]
    assert_same_function(graph, prepared)
    assert prepare(prepared).graph is prepared


def applied(shape: tuple[int, ...], moves: tuple[Move, ...]) -> np.ndarray:
    """Where each element comes from, by numpy."""
    order = np.arange(np.prod(shape)).reshape(shape)
    for move in moves:
        order = order.reshape(move.shape) if move.order is None else order.transpose(move.order)
        assert order.shape == move.shape
    return order


@pytest.mark.parametrize("seed", range(40))
def test_plans_do_what_the_moves_did(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.choice([1, 1, 2, 3, 4], size=rng.integers(2, 6)).tolist())
    order = np.arange(np.prod(shape)).reshape(shape)
    for _ in range(3):
        order = order.transpose(rng.permutation(order.ndim))
        axis = int(rng.integers(order.ndim))
        merged = (*order.shape[:axis], -1, *order.shape[axis + 2 :])
        order = order.reshape(merged)
    moves = plan(shape, order)
    # Merging axes between TRANSPOSEs may need more than one TRANSPOSE in the end, never a wrong one.
    if moves is not None:
        np.testing.assert_array_equal(applied(shape, moves), order)
        assert len(moves) <= 3
        assert not any(a.order is None and b.order is None for a, b in pairwise(moves))


def test_what_no_transpose_does_is_reported() -> None:
    assert plan((2, 3), np.array([[0, 1, 2], [4, 3, 5]])) is None  # not a permutation of axes
    assert plan((2, 3), np.array([5, 4, 3, 2, 1, 0])) is None  # backwards
    assert plan((2, 3), np.array([0, 2, 4])) is None  # a part


def test_no_chain_gets_more_axes_than_kernels_take() -> None:
    """What Hiera does three times over with windows of 2 by 2: together they would turn ten axes."""
    windows = []
    for batch, side in ((1, 8), (4, 4), (16, 2)):
        windows += [(R, (batch, side // 2, 2, side // 2, 2, 3)), (T, (0, 2, 4, 1, 3, 5))]
        windows += [(R, (4 * batch, side // 2, side // 2, 3))]
    graph = chain_of((1, 8, 8, 3), *windows, (R, (64, 3)))
    prepared = prepare(graph).graph
    assert max(len(tensor.shape) for tensor in prepared.tensors) <= LARGEST_RANK
    assert kinds(prepared).count(T) < kinds(graph).count(T)  # two of three fit in six axes
    assert_same_function(graph, prepared)  # LiteRT refuses to load ten
    assert prepare(prepared).graph is prepared


def test_what_is_read_between_stays() -> None:
    chain = Chain()
    x = toy.transpose(chain, chain.input((2, 3, 4)), 1, 0, 2)
    graph = chain.graph(toy.transpose(chain, x, 1, 0, 2), chain.op("TANH", x))
    assert shorten(graph) == (graph, [])


def test_outputs_keep_their_names() -> None:
    chain = Chain()
    x = toy.transpose(chain, chain.input((2, 3, 4)), 1, 0, 2)
    last = chain.op("TRANSPOSE", x, chain.constant([1, 0, 2]), shape=(2, 3, 4), name="answer")
    graph = chain.graph(last)
    assert_same_function(graph, prepare(graph).graph)
    assert len(prepare(graph).graph.ops) == 1


def test_constants_and_integers_move_too() -> None:
    chain = Chain()
    ids = chain.input((2, 3), dtype="int32")
    x = chain.op("RESHAPE", ids, chain.constant([6]), shape=(6,), dtype="int32", newShape=(6,))
    x = chain.op("RESHAPE", x, chain.constant([3, 2]), shape=(3, 2), dtype="int32", newShape=(3, 2))
    graph = chain.graph(chain.op("GATHER", chain.constant(noise(4, 5)), x, shape=(3, 2, 5), axis=0, batchDims=0))
    assert kinds(prepare(graph).graph) == ["RESHAPE", "GATHER"]
    assert_same_function(graph, prepare(graph).graph)
