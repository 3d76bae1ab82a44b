"""Where constants take factors up, give new ones or go along: transformers' norms, embeddings and streams."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.equalize.channels import channels
from edgeqwt.equalize.factors import FIXED, Channels
from edgeqwt.equalize.multiply import multiplied
from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain, noise
from tests.equalize.same import check_same
from tests.prepare import toy

WIDTH = toy.WIDTH


def post_norm() -> Graph:
    """BERT's order: LayerNorm behind each residual sum."""
    chain = Chain()
    ids = chain.input((1, toy.TOKENS), dtype="int32")
    x = chain.op("GATHER", chain.constant(noise(9, WIDTH)), ids, shape=(1, toy.TOKENS, WIDTH), axis=0, batchDims=0)
    x = toy.norm(chain, toy.add(chain, x, chain.constant(noise(toy.TOKENS, WIDTH, seed=1))), 2)
    for seed in (10, 40):
        x = toy.norm(chain, toy.add(chain, toy.attention(chain, x, seed), x), seed + 20)
    return chain.graph(toy.dense(chain, x, toy.CLASSES, 3))


def free(found: Channels, t: int) -> int:
    """How many different factors, other than 1, an activation has."""
    return len(np.unique(found.of[t][found.of[t] > FIXED]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [toy.vision, toy.language, post_norm], ids=lambda make: str(make.__name__))
def test_transformers_stay_the_same_function(make: object, seed: int) -> None:
    assert callable(make)
    graph = make()
    for written in (graph, prepare(graph).graph):
        _, found, _ = check_same(written, seed)
        assert found.unknowns > 2 * WIDTH


def test_gamma_gives_new_factors_and_beta_goes_along() -> None:
    chain = Chain()
    x = chain.input((1, toy.TOKENS, WIDTH))
    gamma, beta = chain.constant(noise(WIDTH, seed=1)), chain.constant(noise(WIDTH, seed=2))
    y = chain.op("MUL", x, gamma, **NONE)
    z = chain.op("ADD", beta, y, **NONE)
    other, found, factors = check_same(chain.graph(toy.dense(chain, z, 3, 4)))
    assert free(found, y) == WIDTH
    np.testing.assert_array_equal(found.of[y], found.of[z])
    for t, old in ((gamma, noise(WIDTH, seed=1)), (beta, noise(WIDTH, seed=2))):
        np.testing.assert_allclose(other.tensors[t].data, old * factors[found.of[y][0, 0]], rtol=1e-6)


def norms(graph: Graph) -> list[int]:
    """The outputs of norms and, from the second on, the sums before them."""
    return [op.outputs[0] for op in graph.ops if op.kind == "ADD" and graph.tensors[op.inputs[1]].shape == (WIDTH,)]


def test_behind_a_pre_norm_every_channel_is_free_and_behind_a_post_norm_none() -> None:
    before, after = toy.language(), post_norm()
    found = channels(before)
    assert [free(found, t) for t in norms(before)] == [WIDTH] * 5
    # Here the residual sum hands the factors on to the next norm, whose mean is one of all channels. Behind the last
    # one there is no sum.
    found = channels(after)
    assert [free(found, t) for t in norms(after)] == [0, 0, WIDTH]


def test_a_stream_without_means_is_free_from_its_tables_to_its_norms() -> None:
    graph = prepare(toy.language()).graph
    assert not [op for op in graph.ops if op.kind == "SUB"]
    found = channels(graph)
    (words,) = [op.outputs[0] for op in graph.ops if op.kind == "GATHER"]
    sums = [op.outputs[0] for op in graph.ops if op.kind == "ADD" and len(graph.tensors[op.inputs[1]].shape) == 3]
    assert free(found, words) == WIDTH
    assert len(sums) == 4
    for t in sums:
        np.testing.assert_array_equal(found.of[t][0, 0], found.of[words][0, 0])


def test_a_class_token_goes_along() -> None:
    graph = prepare(toy.vision()).graph
    found = channels(graph)
    (joined,) = [op.outputs[0] for op in graph.ops if op.kind == "CONCATENATION"]
    assert free(found, joined) == WIDTH


def test_a_constant_of_two_ops_becomes_two() -> None:
    chain = Chain()
    x = chain.input((1, 3, WIDTH))
    gamma = chain.constant(noise(WIDTH), name="gamma")
    ends = [toy.dense(chain, chain.op("MUL", x, gamma, **NONE), 3, seed) for seed in (1, 2)]
    graph = chain.graph(chain.op("ADD", *ends, **NONE))
    other, _, _ = check_same(graph)
    assert len(other.tensors) == len(graph.tensors) + 2
    np.testing.assert_array_equal(other.tensors[gamma].data, graph.tensors[gamma].data)
    assert len({other.ops[i].inputs[1] for i in (0, 2)}) == 2


def test_one_number_for_all_becomes_one_per_channel_only_where_factors_differ() -> None:
    chain = Chain()
    x = chain.input((1, 3, WIDTH))
    y = toy.dense(chain, x, WIDTH, 1)
    shifted = chain.op("ADD", y, chain.constant([0.5]), **NONE)
    graph = chain.graph(toy.dense(chain, chain.op("RELU", shifted), 3, 2))
    other, found, _ = check_same(graph)
    assert free(found, shifted) == WIDTH
    (index,) = [i for i, op in enumerate(graph.ops) if op.kind == "ADD"]
    assert other.tensors[other.ops[index].inputs[1]].size == WIDTH
    same = multiplied(graph, found, np.ones(found.count))
    assert all(a.data is b.data for a, b in zip(same.tensors, graph.tensors, strict=True))


def test_integers_have_no_factors() -> None:
    chain = Chain()
    ids = chain.input((1, 3), dtype="int32")
    moved = chain.op("MUL", ids, chain.constant([1, 2, 1]), dtype="int32", shape=(1, 3), **NONE)
    x = chain.op("GATHER", chain.constant(noise(9, 4)), moved, shape=(1, 3, 4), axis=0, batchDims=0)
    _, found, _ = check_same(chain.graph(toy.dense(chain, x, 2, 1)))
    assert moved not in found.of
    assert free(found, x) == 4


def test_fully_connected_may_read_several_axes_as_one() -> None:
    chain = Chain()
    x = chain.input((1, 2, 4))
    y = toy.dense(chain, x, 4, 1)
    weights = chain.constant(noise(3, 8))
    graph = chain.graph(chain.op("FULLY_CONNECTED", y, weights, -1, **NONE, keepNumDims=False))
    _, found, _ = check_same(graph)
    assert free(found, y) == 4
