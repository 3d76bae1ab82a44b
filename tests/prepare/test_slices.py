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
