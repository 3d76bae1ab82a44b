"""Probabilities have their scale wherever they come out."""

from __future__ import annotations

import numpy as np

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lower import assigned
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Precision, Widths
from tests.chain import Chain, samples


def chosen(*, bounded: bool = True) -> Graph:
    """One of two probabilities of rare events, or of two values."""
    chain = Chain()
    x = chain.input((1, 4))
    shifted = chain.op("SUB", x, chain.constant(9.0), name="shifted", fusedActivationFunction="NONE")
    kind = "LOGISTIC" if bounded else "RELU"
    a, b = chain.op(kind, shifted, name="a"), chain.op(kind, x, name="b")
    above = chain.op("GREATER", x, chain.constant(5.0), dtype="bool")
    return chain.graph(chain.op("SELECT_V2", above, b, a, name="y"))


def output_scale(graph: Graph) -> float:
    wide = dict.fromkeys(("a", "b", "y"), Widths(8, 16))
    assignment = assigned(graph, observe(graph, samples(graph))[0], MinMax(), Precision(layers=wide))
    return float(assignment.at(graph.outputs[0], 8).scale[0])


def test_a_probability_that_is_picked_keeps_its_scale() -> None:
    """A wake word that calibration lacked could not be heard: the file's output ended at 0.006."""
    assert output_scale(chosen()) == np.float32(1 / 256)


def test_other_values_that_are_picked_do_not() -> None:
    assert output_scale(chosen(bounded=False)) != np.float32(1 / 256)
