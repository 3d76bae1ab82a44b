"""What steps of a recurrent layer share, and what is joined only to be taken apart."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.prepare.steps import divide, pick_joined, share_weights
from tests.chain import NONE, Chain
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds


def stepped(count: int = 3, seeds: tuple[int, ...] = (0, 0, 0)) -> Graph:
    """Layers one behind the other, each with constants of its own."""
    chain = Chain()
    x = chain.input((1, 4))
    for k in range(count):
        x = chain.op("TANH", toy.dense(chain, x, 4, 5 * seeds[k]), shape=(1, 4))
    return chain.graph(x)


def test_layers_with_equal_weights_read_one_tensor() -> None:
    graph, names = share_weights(stepped())
    assert len(names) == 2
    layers = [op for op in graph.ops if op.kind == "FULLY_CONNECTED"]
    assert len({op.inputs[1:] for op in layers}) == 1
    assert_same_function(stepped(), graph)
    assert share_weights(graph)[1] == []


def test_other_weights_stay_apart() -> None:
    graph, names = share_weights(stepped(seeds=(0, 1, 0)))
    assert len(names) == 1
    assert len({op.inputs[1] for op in graph.ops if op.kind == "FULLY_CONNECTED"}) == 2


def test_weights_that_take_a_mean_are_no_layers() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    for _ in range(2):
        x = chain.op("FULLY_CONNECTED", x, chain.constant(np.full((4, 4), 0.25)), shape=(1, 4), **NONE)
    assert share_weights(chain.graph(x))[1] == []


def slices(chain: Chain, x: int, begins: list[list[int]], size: list[int]) -> list[int]:
    return [chain.op("SLICE", x, chain.constant(b), chain.constant(size), shape=tuple(size)) for b in begins]


def test_slices_that_divide_a_tensor_become_one_split() -> None:
    chain = Chain()
    x = chain.op("TANH", chain.input((3, 6)), shape=(3, 6))
    parts = slices(chain, x, [[0, 4], [0, 0], [0, 2]], [3, 2])
    outputs = [chain.op("TANH", part, shape=(3, 2)) for part in parts]
    graph = chain.graph(*outputs)
    found, _ = divide(graph)
    assert kinds(found).count("SPLIT") == 1
    assert "SLICE" not in kinds(found)
    assert_same_function(graph, found)


@pytest.mark.parametrize(
    ("begins", "size"),
    [
        ([[0, 0], [0, 2]], [3, 2]),  # two parts, and not all
        ([[0, 0], [0, 1], [0, 4]], [3, 2]),  # they overlap
        ([[0, 0], [0, 2], [0, 2]], [3, 2]),  # one twice
        ([[0, 0], [1, 0], [2, 0]], [1, 2]),  # along two axes
    ],
)
def test_other_slices_stay(begins: list[list[int]], size: list[int]) -> None:
    chain = Chain()
    x = chain.op("TANH", chain.input((3, 6)), shape=(3, 6))
    assert divide(chain.graph(*slices(chain, x, begins, size)))[1] == []


def joined(begin: list[int], size: list[int]) -> Graph:
    """Three rows joined, reshaped, and something picked out of them."""
    chain = Chain()
    x = chain.input((1, 4))
    rows = [toy.dense(chain, x, 4, seed) for seed in (1, 5, 9)]
    y = chain.op("CONCATENATION", *rows, shape=(3, 4), axis=0, **NONE)
    picked = slices(chain, toy.reshape(chain, y, 3, 1, 4), [begin], size)[0]
    return chain.graph(toy.dense(chain, picked, 2, 20))


def test_the_last_part_is_read_where_it_was_joined_from() -> None:
    graph = joined([2, 0, 0], [1, 1, 4])
    found, names = pick_joined(graph)
    assert len(names) == 1
    assert_same_function(graph, found)
    assert kinds(prepare(graph).graph).count("FULLY_CONNECTED") == 2  # the other rows are not computed


@pytest.mark.parametrize(("begin", "size"), [([1, 0, 0], [2, 1, 4]), ([1, 0, 1], [1, 1, 3])])
def test_what_is_no_whole_part_stays(begin: list[int], size: list[int]) -> None:
    assert pick_joined(joined(begin, size))[1] == []
