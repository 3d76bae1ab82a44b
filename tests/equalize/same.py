"""Whether multiplying channels leaves a function as it is, and what rounding costs."""

from __future__ import annotations

import numpy as np

from edgeqwt.calibration.observe import observe
from edgeqwt.equalize.channels import channels
from edgeqwt.equalize.factors import Channels
from edgeqwt.equalize.multiply import multiplied
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Precision
from tests.chain import samples


def drawn(found: Channels, seed: int = 0, spread: float = 1.0) -> Array:
    """Random factors: unknowns are log-normally distributed."""
    return found.factors(np.random.default_rng(seed).normal(0, spread, found.unknowns))


def check_same(graph: Graph, seed: int = 0) -> tuple[Graph, Channels, Array]:
    """Multiplies channels by random factors and compares every activation; returns the graph, numbers and factors."""
    found = channels(graph)
    factors = drawn(found, seed)
    other = multiplied(graph, found, factors)
    check_alike(graph, other, {t: factors[numbers] for t, numbers in found.of.items()}, seed)
    return other, found, factors


def check_alike(graph: Graph, other: Graph, factors: dict[int, Array], seed: int = 0) -> None:
    """Whether each activation of a second graph is that of the first times some factors."""
    computed = [t for op in graph.ops for t in op.outputs if t in factors]
    for sample in samples(graph, 2, seed):
        wanted, values = (xnnpack(g, computed).run(sample) for g in (graph, other))
        for t in computed:
            # Rounding in float32, 2^-24 of the largest of some hundred summands, through up to a hundred ops.
            largest = float(np.abs(wanted[t]).max())
            np.testing.assert_allclose(values[t] / factors[t], wanted[t], rtol=0, atol=2e-5 * largest)


def squared_error(graph: Graph, precision: Precision, data: list[dict[int, Array]]) -> float:
    """Of the outputs, when the graph is lowered."""
    integer = lower(graph, observe(graph, data)[0], MinMax(), precision)
    real, whole, total = xnnpack(graph), xnnpack(integer), 0.0
    for sample in data:
        out = integer.outputs[0]
        found = to_real(integer, out, whole.run(graph_feed(integer, sample))[out])
        total += float(np.square(found - real.run(sample)[graph.outputs[0]]).sum())
    return total
