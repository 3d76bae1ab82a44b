"""Linear layers in their simplest form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.layer_splits import join_reshapes, split_layers
from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds

ROWS, WIDTH = 6, 8


def fused(apart: Callable[[Chain, int], list[int]], outputs: int = 3 * WIDTH, **more: str) -> Graph:
    """One layer whose outputs are taken apart."""
    chain = Chain()
    y = toy.dense(chain, chain.input((1, ROWS, WIDTH)), outputs, 1, **more)
    return chain.graph(*(chain.op("TANH", part, shape=chain.tensors[part].shape) for part in apart(chain, y)))


def sliced(chain: Chain, x: int, axis: int, starts: list[int], length: int) -> list[int]:
    """SLICE along an axis."""
    shape = chain.tensors[x].shape
    sizes = [length if i == axis else n for i, n in enumerate(shape)]
    begins = [[start if i == axis else 0 for i in range(len(shape))] for start in starts]
    return [chain.op("SLICE", x, chain.constant(b), chain.constant(sizes), shape=tuple(sizes)) for b in begins]


def heads(chain: Chain, y: int) -> list[int]:
    """Queries, keys and values as vision transformers have them: (3, 1, heads, rows, part)."""
    y = toy.transpose(chain, toy.reshape(chain, y, 1, ROWS, 3, 2, WIDTH // 2), 2, 0, 3, 1, 4)
    return [toy.reshape(chain, part, 1, 2, ROWS, WIDTH // 2) for part in sliced(chain, y, 0, [0, 1, 2], 1)]


def gathered(chain: Chain, y: int) -> list[int]:
    """The same from torch's MultiheadAttention."""
    y = toy.transpose(chain, toy.reshape(chain, y, ROWS, 1, 3, WIDTH), 2, 0, 1, 3)
    shape = (1, ROWS, 1, WIDTH)
    return [chain.op("GATHER", y, chain.constant([i]), shape=shape, axis=0, batchDims=0) for i in range(3)]


def strided(chain: Chain, y: int) -> list[int]:
    """Every second channel."""
    masks = dict.fromkeys(("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0)
    end, steps = chain.constant([1, ROWS, 3 * WIDTH]), chain.constant([1, 1, 2])
    shape = (1, ROWS, 3 * WIDTH // 2)
    return [chain.op("STRIDED_SLICE", y, chain.constant([0, 0, i]), end, steps, shape=shape, **masks) for i in (0, 1)]


def some(chain: Chain, y: int) -> list[int]:
    """Parts of two sizes, and channels that nothing reads."""
    return [*sliced(chain, y, 2, [3], 4), *sliced(chain, y, 2, [10], 7)]


APART = {"heads": heads, "gathered": gathered, "strided": strided, "some": some}


@pytest.mark.parametrize("activation", ["NONE", "RELU"])
@pytest.mark.parametrize("apart", APART)
def test_layers_that_are_taken_apart_are_several(apart: str, activation: str) -> None:
    graph = fused(APART[apart], fusedActivationFunction=activation)
    split, names = split_layers(graph)
    assert names == ["fully_connected0"]
    assert kinds(split).count("FULLY_CONNECTED") == kinds(graph).count("TANH")
    assert not {"SLICE", "STRIDED_SLICE", "GATHER"} & set(kinds(split))
    assert_same_function(graph, split)
    prepared = prepare(graph).graph
    assert_same_function(graph, prepared)
    assert prepare(prepared).graph is prepared


def test_vision_transformers_lose_tensors_of_five_axes() -> None:
    prepared = prepare(fused(heads)).graph
    assert sorted(kinds(prepared)) == sorted(["FULLY_CONNECTED", "RESHAPE", "TRANSPOSE", "TANH"] * 3)
    assert max(len(t.shape) for t in prepared.tensors) == 4


STAYING: dict[str, Callable[[Chain, int], list[int]]] = {
    "rows": lambda chain, y: sliced(chain, y, 1, [0, 3], 3),
    "all of it again": lambda chain, y: [*sliced(chain, y, 2, [0], 3 * WIDTH), *sliced(chain, y, 2, [1], 4)],
    "one part": lambda chain, y: sliced(chain, y, 2, [1], 4),
    "the whole as well": lambda chain, y: [*sliced(chain, y, 2, [0, 8], 8), y],
}


@pytest.mark.parametrize("staying", STAYING)
def test_layers_that_are_one_stay_one(staying: str) -> None:
    graph = fused(STAYING[staying])
    assert split_layers(graph) == (graph, [])


def test_layers_whose_output_is_the_callers_stay() -> None:
    graph = fused(heads)
    seen = next(op.outputs[0] for op in graph.ops if op.kind == "TRANSPOSE")
    graph = replace(graph, outputs=(*graph.outputs, seen))
    assert split_layers(graph) == (graph, [])


def test_gates_are_layers() -> None:
    """GLU: half of a layer's outputs is the other half's gate."""
    chain = Chain()
    y = toy.dense(chain, chain.input((1, ROWS, WIDTH)), 2 * WIDTH, 1)
    first, second = sliced(chain, y, 2, [0, WIDTH], WIDTH)
    graph = chain.graph(chain.op("MUL", first, chain.op("LOGISTIC", second), **NONE))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["FULLY_CONNECTED", "FULLY_CONNECTED", "LOGISTIC", "MUL"]
    assert_same_function(graph, prepared)
    weights = [prepared.tensors[op.inputs[1]].data for op in prepared.ops[:2]]
    assert all(w is not None and w.shape == (WIDTH, WIDTH) for w in weights)
    assert not np.array_equal(weights[0], weights[1])


def between_reshapes(*shapes: tuple[int, ...], more: bool = False) -> Graph:
    """A layer behind and before a RESHAPE: the shapes of its source, its input and what is made of its output."""
    chain = Chain()
    x = chain.op("TANH", chain.input(shapes[0]))
    rows = toy.reshape(chain, x, *shapes[1])
    y = toy.reshape(chain, toy.dense(chain, rows, 5, 1), *shapes[2])
    return chain.graph(chain.op("EXP", y), *([chain.op("EXP", rows)] if more else []))


@pytest.mark.parametrize(("shapes", "left"), [
    (((1, 6, 8), (6, 1, 8), (1, 3, 2, 5)), ["TANH", "FULLY_CONNECTED", "RESHAPE", "EXP"]),
    (((1, 6, 8), (6, 1, 8), (1, 6, 5)), ["TANH", "FULLY_CONNECTED", "EXP"]),
    (((6, 2, 4), (6, 8), (1, 6, 5)), ["TANH", "RESHAPE", "FULLY_CONNECTED", "EXP"]),
    (((6, 2, 4), (6, 8), (1, 30)), ["TANH", "RESHAPE", "FULLY_CONNECTED", "RESHAPE", "EXP"]),
])  # fmt: skip
def test_one_reshape_around_a_layer_is_enough(shapes: tuple[tuple[int, ...], ...], left: list[str]) -> None:
    graph = between_reshapes(*shapes)
    joined, names = join_reshapes(graph)
    assert kinds(joined) == left
    assert bool(names) == (len(left) < 5)
    assert_same_function(graph, joined)
    assert join_reshapes(joined) == (joined, [])


def test_a_reshape_that_others_read_stays_for_them() -> None:
    graph = between_reshapes((1, 6, 8), (6, 1, 8), (1, 3, 2, 5), more=True)
    joined, _ = join_reshapes(graph)
    assert sorted(kinds(joined)) == sorted(kinds(graph))
    assert_same_function(graph, joined)
    graph = between_reshapes((6, 2, 4), (6, 8), (1, 6, 5), more=True)
    assert join_reshapes(graph) == (graph, [])
