"""SLICEs of what was joined or sliced before."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare import slices
from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain
from tests.prepare.test_prepare import assert_same_function, kinds

ROWS = 3


def sliced(chain: Chain, x: int, start: int, stop: int, size: int | None = None) -> int:
    """Columns of a matrix."""
    ends = [np.array(ends, np.int32) for ends in ((0, start), (-1 if size is None else ROWS, size or stop - start))]
    constants = [chain.constant(data) for data in ends]
    return chain.op("SLICE", x, *constants, shape=(ROWS, stop - start))


def joined(chain: Chain, *parts: int) -> int:
    columns = sum(chain.tensors[t].shape[1] for t in parts)
    return chain.op("CONCATENATION", *parts, shape=(ROWS, columns), axis=1, **NONE)


def assigned(start: int, stop: int) -> Graph:
    """EXP of some columns of three joined tensors, of 2, 3 and 4 columns."""
    chain = Chain()
    parts = [chain.op("TANH", chain.input((ROWS, n), name=f"x{n}"), shape=(ROWS, n)) for n in (2, 3, 4)]
    whole = joined(chain, *parts)
    return chain.graph(chain.op("EXP", sliced(chain, whole, start, stop), shape=(ROWS, stop - start)))


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0, 2), []),
        ((3, 5), ["SLICE"]),
        ((1, 4), ["SLICE", "SLICE", "CONCATENATION"]),
        ((2, 9), ["CONCATENATION"]),
        ((1, 9), ["CONCATENATION", "SLICE"]),  # of all of them
    ],
)
def test_a_slice_reads_what_was_joined(ends: tuple[int, int], expected: list[str]) -> None:
    graph = assigned(*ends)
    prepared = prepare(graph)
    assert [kind for kind in kinds(prepared.graph) if kind not in ("TANH", "EXP")] == expected
    assert_same_function(graph, prepared.graph)


def test_what_others_read_whole_stays_joined() -> None:
    chain = Chain()
    a, b, c = (chain.input((ROWS, 2), name=name) for name in "abc")
    whole = joined(chain, a, b, c)
    graph = chain.graph(chain.op("TANH", whole, shape=(ROWS, 6)), sliced(chain, whole, 1, 4))
    assert slices.of_joined(graph) == (graph, [])


def test_slices_of_slices_become_one() -> None:
    chain = Chain()
    x = chain.op("TANH", chain.input((ROWS, 8)), shape=(ROWS, 8))
    graph = chain.graph(sliced(chain, sliced(chain, x, 2, 8), 1, 3, size=2))
    prepared = prepare(graph)
    assert kinds(prepared.graph) == ["TANH", "SLICE"]
    assert_same_function(graph, prepared.graph)


PADDING = np.array([[0, 0], [2, 3]], np.int32)


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (2, 6, ["TANH", "EXP"]),  # what was padded
        (3, 5, ["TANH", "SLICE", "EXP"]),
        (1, 5, ["TANH", "PADV2", "SLICE", "EXP"]),  # some of both
    ],
)
def test_a_slice_reads_what_was_padded(start: int, stop: int, expected: list[str]) -> None:
    chain = Chain()
    x = chain.op("TANH", chain.input((ROWS, 4)), shape=(ROWS, 4))
    wide = chain.op("PADV2", x, chain.constant(PADDING), chain.constant(np.array(0.5)), shape=(ROWS, 9))
    graph = chain.graph(chain.op("EXP", sliced(chain, wide, start, stop), shape=(ROWS, stop - start)))
    prepared = prepare(graph)
    assert kinds(prepared.graph) == expected
    assert_same_function(graph, prepared.graph)


def test_a_slice_of_padding_is_a_constant() -> None:
    chain = Chain()
    x = chain.op("TANH", chain.input((ROWS, 4)), shape=(ROWS, 4))
    wide = chain.op("PADV2", x, chain.constant(PADDING), chain.constant(np.array(0.5)), shape=(ROWS, 9))
    graph = chain.graph(chain.op("MUL", x, sliced(chain, wide, 6, 7), **NONE))
    prepared = prepare(graph)
    assert "SLICE" not in kinds(prepared.graph)
    assert_same_function(graph, prepared.graph)


TOKENS, WIDTH = 6, 4


def attention(join: str, number: float = 1.0) -> tuple[Chain, int, int]:
    """Keys' products with values and a column of equal numbers beside them, and queries' products with those."""
    chain = Chain()
    query, key, values = (chain.input((1, TOKENS, WIDTH), name=name) for name in ("query", "key", "values"))
    if join == "PADV2":
        paddings = chain.constant(np.array([[0, 0], [0, 0], [0, 1]], np.int32))
        wide = chain.op("PADV2", values, paddings, chain.constant(np.array(number)))
    else:
        column = chain.constant(np.full((1, TOKENS, 1), number))
        wide = chain.op("CONCATENATION", values, column, axis=2, **NONE)
    turned = chain.op("TRANSPOSE", key, chain.constant([0, 2, 1]))
    inner = chain.op("BATCH_MATMUL", turned, wide)
    return chain, inner, chain.op("BATCH_MATMUL", query, inner)


def columns(chain: Chain, x: int, start: int, count: int) -> int:
    ends = [chain.constant(np.array(values, np.int32)) for values in ((0, 0, start), (1, TOKENS, count))]
    return chain.op("SLICE", x, *ends)


@pytest.mark.parametrize("join", ["PADV2", "CONCATENATION"])
@pytest.mark.parametrize("number", [1.0, 0.5])
def test_columns_joined_for_a_product_are_products_of_their_own(join: str, number: float) -> None:
    chain, _, product = attention(join, number)
    graph = chain.graph(columns(chain, product, 0, WIDTH), columns(chain, product, WIDTH, 1))
    prepared = prepare(graph).graph
    assert kinds(prepared).count("BATCH_MATMUL") == 3
    assert not {"SLICE", "PADV2", "CONCATENATION"} & {*kinds(prepared)}
    assert_same_function(graph, prepared)


def test_columns_that_others_read_or_that_were_not_joined_stay_together() -> None:
    chain, inner, product = attention("PADV2")
    whole = chain.op("TANH", product)
    read = chain.graph(columns(chain, product, 0, WIDTH), whole)
    assert slices.of_products(read) == (read, [])
    across = chain.graph(columns(chain, product, WIDTH - 1, 2))
    assert slices.of_products(across.pruned())[1] == []
    plain = chain.op("BATCH_MATMUL", chain.input((1, TOKENS, WIDTH)), chain.op("TANH", inner))
    graph = chain.graph(columns(chain, plain, 0, WIDTH), columns(chain, plain, WIDTH, 1)).pruned()
    assert slices.of_products(graph) == (graph, [])
