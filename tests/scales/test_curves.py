"""TANH and LOGISTIC as tables with output scales of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.scales.curves import finer_curves
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import Precision
from tests.chain import NONE, Chain, noise
from tests.prepare.test_prepare import kinds

FINER = Precision(finer_curves=True)


def actor(kind: str = "TANH", scaled: bool = True) -> Graph:
    """A bounded function, and a multiple of it."""
    chain = Chain()
    y = chain.op(kind, chain.input((1, 64), name="x"), shape=(1, 64), name="curve")
    return chain.graph(chain.op("MUL", y, chain.constant(4.0), shape=(1, 64), name="y", **NONE) if scaled else y)


def samples(reach: float, count: int = 16) -> Array:
    return np.stack([reach * noise(1, 64, seed=i) for i in range(count)])


def candidates(graph: Graph, reach: float, precision: Precision = FINER) -> frozenset[int]:
    statistics, _ = observe(graph, [{graph.inputs[0]: x} for x in samples(reach)])
    return finer_curves(graph, statistics, MinMax(), planned(graph, precision))


def test_a_tanh_of_small_values_becomes_a_table() -> None:
    graph = actor()
    assert candidates(graph, 0.02) == {0}
    assert not candidates(graph, 2.0)
    assert not candidates(graph, 0.02, replace(FINER, activation_bits=16))
    statistics, _ = observe(graph, [{graph.inputs[0]: x} for x in samples(0.02)])
    plain, table = (kinds(lower(graph, statistics, MinMax(), p)) for p in (Precision(), FINER))
    assert plain == ["TANH", "MUL"]
    assert table == ["CAST", "ADD", "GATHER", "MUL"]


def test_probabilities_that_the_model_delivers_keep_their_scale() -> None:
    graph = actor("LOGISTIC", scaled=False)
    shifted = [{graph.inputs[0]: x - 3} for x in samples(0.2)]
    statistics, _ = observe(graph, shifted)
    assert not finer_curves(graph, statistics, MinMax(), planned(graph, FINER))
    inner = actor("LOGISTIC")
    statistics, _ = observe(inner, [{inner.inputs[0]: x - 3} for x in samples(0.2)])
    assert finer_curves(inner, statistics, MinMax(), planned(inner, FINER)) == {0}
    assert candidates(actor(scaled=False), 0.02) == {0}
