"""Several graphs in one file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.joined import joined
from tests.chain import NONE, Chain, noise


def dense(factor: float, name: str = "x") -> Graph:
    """A dense layer whose bias is so many times another one's."""
    chain = Chain()
    x = chain.input((1, 64), name)
    weights, bias = chain.constant(noise(64, 64, seed=0), "weights"), chain.constant(noise(64, seed=1) * factor, "bias")
    return chain.graph(chain.op("FULLY_CONNECTED", x, weights, bias, name="y", keepNumDims=False, **NONE))


def test_weights_are_there_once_and_signatures_of_one_graph_share_it() -> None:
    first, second = dense(1), dense(2)
    one, two = (len(flatbuffer.to_bytes(joined(g))) for g in ({"a": first}, {"a": first, "b": second, "c": first}))
    assert two - one < 64 * 64 * 4  # bytes of the weights
    back = flatbuffer.from_bytes(flatbuffer.to_bytes(joined({"a": first, "b": second, "c": first})))
    assert [[s.key for s in part.signatures] for part in (back, *back.others)] == [["a", "c"], ["b"]]
    for part, graph in zip((back, *back.others), (first, second), strict=True):
        found, wanted = ({t.name: t.data for t in g.tensors if t.is_constant} for g in (part, graph))
        assert {*found} == {*wanted}
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
        assert [t.name for t in part.tensors] == [t.name for t in graph.tensors]


def test_other_models_are_refused() -> None:
    with pytest.raises(InputError, match="other inputs"):
        joined({"a": dense(1), "b": dense(1, "z")})
    with pytest.raises(InputError, match="control flow"):
        joined({"a": replace(dense(1), others=(dense(2),))})
