"""Probabilities have their scale wherever they come out."""

from __future__ import annotations

import numpy as np
import pytest

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


def test_logarithms_that_are_reshaped_reach_beyond_the_8_bit_kernel_s_end() -> None:
    """LOG_SOFTMAX has 16 bits where calibration reaches below -16; its copy in 8 bits ended there behind a RESHAPE."""
    chain = Chain()
    scaled = chain.op("MUL", chain.input((1, 4)), chain.constant(30.0), name="scaled", fusedActivationFunction="NONE")
    found = chain.op("LOG_SOFTMAX", scaled, name="logarithms")
    shape = chain.constant(np.array([4, 1], np.int32))
    graph = chain.graph(chain.op("RESHAPE", found, shape, name="y", shape=(4, 1)))
    statistics = observe(graph, samples(graph))[0]
    wide = dict.fromkeys(("logarithms", "y"), Widths(8, 16))
    scale = assigned(graph, statistics, MinMax(), Precision(layers=wide)).at(graph.outputs[0], 8).scale[0]
    lowest = statistics[graph.outputs[0]].low
    assert lowest < -16
    assert 255 * float(scale) == pytest.approx(-lowest, rel=1e-6)  # a float32 scale: 2^-24
