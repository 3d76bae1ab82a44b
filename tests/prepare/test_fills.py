"""Fill values that are chosen, added and multiplied: no range spans them, whatever the spelling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.fills import FILL
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.interpreters import InterpreterError
from edgeqwt.runtime.runners import reference, xnnpack
from edgeqwt.scales.ranges import MinMax
from edgeqwt.verify.rounding import Bounded
from tests.chain import CONV, NONE, Chain, noise, samples
from tests.prepare.test_prepare import assert_same_function, kinds

SIZES = [np.inf, float(np.finfo(np.float32).max), 1e9, 1e4]
SHAPE = (2, 6)
HIDDEN = np.array([1, 0, 0, 1, 0, 0], bool)


def flag(chain: Chain, x: int) -> int:
    """Where x is above 0.3."""
    return chain.op("GREATER", x, chain.constant(0.3), dtype="bool", shape=SHAPE)


def real(chain: Chain, x: int) -> int:
    """The same as 0 and 1."""
    return chain.op("CAST", flag(chain, x), shape=SHAPE, inDataType="BOOL", outDataType="FLOAT32")


def selected(chain: Chain, x: int, fill: float) -> int:
    return chain.op("SELECT_V2", flag(chain, x), chain.constant(fill), x, shape=SHAPE)


def added(chain: Chain, x: int, fill: float) -> int:
    return chain.op("ADD", x, chain.constant(np.where(HIDDEN, fill, 0.0)), shape=SHAPE, **NONE)


def added_with_a_bias(chain: Chain, x: int, fill: float) -> int:
    return chain.op("ADD", x, chain.constant(np.where(HIDDEN, fill, noise(6))), shape=SHAPE, **NONE)


def computed(chain: Chain, x: int, fill: float) -> int:
    """onnx2tf's Where: c x + (1 - c) fill."""
    c = real(chain, x)
    rest = chain.op("SUB", chain.constant(1.0), c, shape=SHAPE, **NONE)
    shown = chain.op("MUL", c, x, shape=SHAPE, **NONE)
    hidden = chain.op("MUL", rest, chain.constant([fill]), shape=SHAPE, **NONE)
    return chain.op("ADD", shown, hidden, shape=SHAPE, **NONE)


def computed_the_other_way(chain: Chain, x: int, fill: float) -> int:
    """c fill + (1 - c) x."""
    c = real(chain, x)
    rest = chain.op("SUB", chain.constant(1.0), c, shape=SHAPE, **NONE)
    hidden = chain.op("MUL", c, chain.constant([fill]), shape=SHAPE, **NONE)
    return chain.op("ADD", hidden, chain.op("MUL", rest, x, shape=SHAPE, **NONE), shape=SHAPE, **NONE)


def multiplied(chain: Chain, x: int, fill: float) -> int:
    """x + m fill."""
    return chain.op(
        "ADD", x, chain.op("MUL", real(chain, x), chain.constant(fill), shape=SHAPE, **NONE), shape=SHAPE, **NONE
    )


def joined(chain: Chain, x: int, fill: float) -> int:
    return chain.op("CONCATENATION", x, chain.constant(np.full((2, 3), fill)), axis=1, **NONE)


def padded(chain: Chain, x: int, fill: float) -> int:
    return chain.op("PADV2", x, chain.constant([(0, 0), (1, 2)]), chain.constant([fill]))


SPELLINGS: dict[str, Callable[[Chain, int, float], int]] = {
    f.__name__: f
    for f in (selected, added, added_with_a_bias, computed, computed_the_other_way, multiplied, joined, padded)
}


def extreme(spelling: str, size: float, kind: str, *, moved: bool = False) -> Graph:
    """The largest or smallest of what a fill leaves over."""
    chain = Chain()
    x = chain.op("MUL", chain.input(SHAPE), chain.constant(noise(6, seed=3)), **NONE)
    y = SPELLINGS[spelling](chain, x, -size if kind == "REDUCE_MAX" else size)
    if moved:
        y = chain.op("TRANSPOSE", y, chain.constant([1, 0]))
    return chain.graph(chain.op(kind, y, chain.constant([0 if moved else 1])))


@pytest.mark.parametrize("kind", ["REDUCE_MAX", "REDUCE_MIN"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_range_spans_a_fill(spelling: str, size: float, kind: str) -> None:
    if np.isinf(size) and spelling in ("computed", "computed_the_other_way", "multiplied"):
        pytest.skip("0 times infinity is NaN: nobody writes that")
    graph = extreme(spelling, size, kind)
    prepared = prepare(graph).graph
    statistics, _ = observe(prepared, samples(graph, 8))
    assert max(max(-s.low, s.high) for s in statistics.values() if s.folds is not None) < 20
    integer = lower(prepared, statistics, MinMax(), Precision())
    assert all(t.quantization.scale.max() < 0.1 for t in integer.tensors if t.quantization is not None)
    assert prepare(prepared).graph is prepared


def shown_somewhere(graph: Graph) -> list[dict[int, Array]]:
    """Inputs of which no row is hidden as a whole."""
    found = samples(graph, 8)
    for feed in found:
        for x in feed.values():
            x[:, 1], x[:, 2] = -1, 1
            x[0], x[1] = x[0] * np.sign(noise(6, seed=3)), x[1] * np.sign(noise(6, seed=3))
    return found


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_function_stays(spelling: str, moved: bool) -> None:
    graph = extreme(spelling, 1e9, "REDUCE_MAX", moved=moved)
    assert_same_function(graph, prepare(graph).graph, shown_somewhere(graph))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spelling", ["selected", "added", "computed"])
def test_a_fill_among_the_outputs(spelling: str, size: float) -> None:
    """What cannot be data has the end of the range; -1e4 may be data."""
    if np.isinf(size) and spelling == "computed":
        pytest.skip("0 times infinity is NaN: nobody writes that")
    chain = Chain()
    y = chain.op("MUL", chain.input(SHAPE), chain.constant(noise(6, seed=3)), **NONE)
    graph = chain.graph(SPELLINGS[spelling](chain, y, -size))
    prepared = prepare(graph).graph
    for feed in samples(graph, 4):
        expected, found = (xnnpack(g).run(feed)[g.outputs[0]] for g in (graph, prepared))
        assert Bounded(found, 1e-3).judge(expected).ok
    if size > 1e6:
        statistics, _ = observe(prepared, samples(graph, 8))
        integer = lower(prepared, statistics, MinMax(), Precision())
        assert integer.tensors[integer.outputs[0]].quantization.scale.max() < 0.1  # type: ignore[union-attr]


@pytest.mark.parametrize(("kind", "sign"), [("MAXIMUM", -1), ("MINIMUM", 1)])
@pytest.mark.parametrize("size", SIZES[:2])
@pytest.mark.parametrize("first", [False, True])
def test_a_limit_at_infinity_is_none(kind: str, sign: int, size: float, first: bool) -> None:
    chain = Chain()
    x = chain.op("TANH", chain.input(SHAPE))
    limit = chain.constant([sign * size])
    graph = chain.graph(chain.op(kind, *((limit, x) if first else (x, limit)), shape=SHAPE))
    assert kinds(prepare(graph).graph) == ["TANH"]


@pytest.mark.parametrize(("kind", "limit"), [("MAXIMUM", -1e4), ("MINIMUM", 1e4), ("MAXIMUM", -1e9)])
def test_a_limit_beyond_all_values_takes_no_range(kind: str, limit: float) -> None:
    chain = Chain()
    graph = chain.graph(chain.op(kind, chain.op("TANH", chain.input(SHAPE)), chain.constant(limit), shape=SHAPE))
    prepared = prepare(graph).graph
    statistics, _ = observe(prepared, samples(graph, 8))
    integer = lower(prepared, statistics, MinMax(), Precision())
    assert all(t.quantization.scale.max() < 0.1 for t in integer.tensors if t.quantization is not None)
    assert_same_function(graph, prepared)


@pytest.mark.parametrize("kind", ["CONV_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(("limiting", "limit"), [("MAXIMUM", 0.1), ("MINIMUM", -0.1)])
@pytest.mark.parametrize("between", [False, True])
def test_a_limit_beyond_zero_behind_windows_is_no_single_one(
    kind: str, limiting: str, limit: float, between: bool
) -> None:
    chain = Chain()
    x, shape = chain.input((1, 4, 4, 2)), (1, 4, 4, 2)
    if kind == "CONV_2D":
        y = chain.op(kind, x, chain.constant(noise(2, 3, 3, 2)), chain.constant(noise(2)), shape=shape, **CONV)
    else:
        pool = {"padding": "SAME", "strideH": 1, "strideW": 1, "filterHeight": 3, "filterWidth": 3}
        y = chain.op(kind, x, shape=shape, **pool, **NONE)
    if between:
        y = chain.op("MINIMUM" if limit > 0 else "MAXIMUM", y, chain.constant([5 * limit]), shape=shape)
    graph = chain.graph(chain.op(limiting, chain.constant([limit]), y, shape=shape))
    with pytest.raises(InterpreterError, match="cannot load"):
        xnnpack(graph)
    prepared = prepare(graph).graph
    plain, found = reference(graph), xnnpack(prepared)
    for sample in samples(graph):
        expected = plain.run(sample)[graph.outputs[0]]
        # float sums of 18 products in another order
        np.testing.assert_allclose(found.run(sample)[prepared.outputs[0]], expected, rtol=0, atol=1e-5)
    assert prepare(prepared).graph is prepared


def test_fills_have_one_size() -> None:
    graph = prepare(extreme("selected", 1e4, "REDUCE_MAX")).graph
    assert [t.data.min() for t in graph.tensors if t.name.endswith("/fill") and t.data is not None] == [-FILL]
