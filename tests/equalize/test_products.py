"""What products of matrices do to factors, in every layout."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.equalize.channels import channels
from edgeqwt.equalize.factors import FIXED
from edgeqwt.graph.graph import Graph
from tests.chain import NONE, Chain, noise
from tests.equalize.same import check_same

TOKENS, WIDTH, PART = 3, 8, 4
LAYOUTS = [(False, False), (False, True), (True, False), (True, True)]


def heads(chain: Chain, x: int, seed: int, order: tuple[int, ...]) -> int:
    """A linear layer's output (1, TOKENS, WIDTH) as (1, 2 heads, ...), its last two axes in some order."""
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(WIDTH, WIDTH, seed=seed)), -1, **NONE, keepNumDims=True)
    y = chain.op("RESHAPE", y, chain.constant([1, TOKENS, 2, PART]), newShape=(1, TOKENS, 2, PART))
    return chain.op("TRANSPOSE", y, chain.constant(order))


def scores(left: bool, right: bool) -> tuple[Graph, int, int, int]:
    """Q K^T with either side stored upright or not."""
    chain = Chain()
    x = chain.input((1, TOKENS, WIDTH))
    q = heads(chain, x, 1, (0, 2, 3, 1) if left else (0, 2, 1, 3))
    k = heads(chain, x, 2, (0, 2, 1, 3) if right else (0, 2, 3, 1))
    y = chain.op("BATCH_MATMUL", q, k, adjX=left, adjY=right)
    return chain.graph(chain.op("SOFTMAX", y, beta=1.0)), q, k, y


@pytest.mark.parametrize(("left", "right"), LAYOUTS)
def test_keys_are_divided_by_what_queries_are_multiplied_by(left: bool, right: bool) -> None:
    graph, q, k, y = scores(left, right)
    _, found, factors = check_same(graph)
    rows = found.of[q].swapaxes(-1, -2) if left else found.of[q]
    columns = found.of[k] if right else found.of[k].swapaxes(-1, -2)
    assert len(np.unique(rows)) == WIDTH  # each head's channels have factors of their own
    assert (rows > FIXED).all()
    np.testing.assert_allclose(factors[rows] * factors[columns], 1, rtol=1e-12)
    assert (found.of[y] == FIXED).all()


@pytest.mark.parametrize(("left", "right"), LAYOUTS)
def test_channels_of_values_are_those_of_the_heads_outputs(left: bool, right: bool) -> None:
    chain = Chain()
    x = chain.input((1, TOKENS, WIDTH))
    shares = chain.op("SOFTMAX", chain.input((1, 2, TOKENS, TOKENS)), beta=1.0)
    if left:
        shares = chain.op("TRANSPOSE", shares, chain.constant([0, 1, 3, 2]))
    v = heads(chain, x, 1, (0, 2, 3, 1) if right else (0, 2, 1, 3))
    y = chain.op("BATCH_MATMUL", shares, v, adjX=left, adjY=right)
    z = chain.op("TRANSPOSE", y, chain.constant([0, 2, 1, 3]))
    z = chain.op("RESHAPE", z, chain.constant([1, TOKENS, WIDTH]), newShape=(1, TOKENS, WIDTH))
    w = chain.constant(noise(2, WIDTH))
    _, found, _ = check_same(chain.graph(chain.op("FULLY_CONNECTED", z, w, -1, **NONE, keepNumDims=True)))
    assert len(np.unique(found.of[v])) == WIDTH
    assert (found.of[v] > FIXED).all()
    np.testing.assert_array_equal(found.of[y][0, :, 0], found.of[z][0, 0].reshape(2, PART))


@pytest.mark.parametrize(("left", "right"), LAYOUTS)
@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("batch", [(), (2,), (1, 1)], ids=str)
def test_a_constant_side_takes_up_factors_and_gives_new_ones(
    slot: int, left: bool, right: bool, batch: tuple[int, ...]
) -> None:
    chain = Chain()
    x = chain.input((1, TOKENS, WIDTH))
    turned = left if slot == 1 else not right  # whether tokens come last
    a = heads(chain, x, 1, (0, 2, 3, 1) if turned else (0, 2, 1, 3))
    shape = (5, PART) if (right if slot == 1 else not left) else (PART, 5)
    c = chain.constant(noise(*batch, *shape, seed=3))
    y = chain.op("BATCH_MATMUL", *((c, a) if slot == 0 else (a, c)), adjX=left, adjY=right)
    if slot == 0:
        y = chain.op("TRANSPOSE", y, chain.constant([0, 1, 3, 2]))
    end = chain.constant(noise(*batch, 5, 4, seed=4))
    z = chain.op("BATCH_MATMUL", y, end, adjX=False, adjY=False)
    _, found, factors = check_same(chain.graph(z))
    assert (found.of[a] > FIXED).all()
    assert (found.of[y] > FIXED).all()
    assert len({*np.unique(found.of[a]), *np.unique(found.of[y])}) >= 4 + 5
    assert (factors[found.of[z]] == 1).all()


def test_a_mean_of_squares_allows_factors_that_cancel() -> None:
    chain = Chain()
    x = chain.input((2, WIDTH))
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(WIDTH, WIDTH)), -1, **NONE, keepNumDims=False)
    share = chain.op("MUL", y, chain.constant([1 / WIDTH]), **NONE)
    a, b = (chain.op("RESHAPE", t, chain.constant([2, 1, WIDTH]), newShape=(2, 1, WIDTH)) for t in (y, share))
    graph = chain.graph(chain.op("BATCH_MATMUL", a, b, adjX=False, adjY=True))
    other, found, factors = check_same(graph)
    assert len(np.unique(found.of[y])) == WIDTH
    np.testing.assert_allclose(factors[found.of[y]] * factors[found.of[share]], 1, rtol=1e-12)
    one_of = other.tensors[other.ops[1].inputs[1]].data
    assert one_of is not None
    np.testing.assert_allclose(one_of.reshape(-1), factors[found.of[y][0]] ** -2 / WIDTH, rtol=1e-6)


def test_of_rows_and_columns_one_side_s_factors_pass() -> None:
    chain = Chain()
    x = chain.input((1, TOKENS, WIDTH))
    k, v = (heads(chain, x, seed, (0, 2, 1, 3)) for seed in (1, 2))
    mixed = chain.op("BATCH_MATMUL", k, v, adjX=True, adjY=False)  # linear attention: sums over tokens
    graph = chain.graph(chain.op("BATCH_MATMUL", mixed, chain.constant(noise(2, PART, 2)), adjX=False, adjY=False))
    _, found, _ = check_same(graph)
    assert (found.of[k] == FIXED).all()
    assert len(np.unique(found.of[v])) == WIDTH


def test_squares_have_no_factors() -> None:
    chain = Chain()
    q = heads(chain, chain.input((1, TOKENS, WIDTH)), 1, (0, 2, 1, 3))
    graph = chain.graph(chain.op("BATCH_MATMUL", q, q, adjX=False, adjY=True))
    assert (channels(graph).of[q] == FIXED).all()  # k = 1 / k
