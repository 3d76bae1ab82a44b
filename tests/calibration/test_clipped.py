"""What a clipped sum needs of its summands."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.clipped import Summand, summands
from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Graph
from tests.chain import CONV, Chain, noise


def residual(activation: str) -> tuple[Graph, int, int, int]:
    """conv(x) + x, clipped; and its tensors x, conv(x), sum."""
    chain = Chain()
    x = chain.input((1, 6, 6, 4))
    y = chain.op("CONV_2D", x, chain.constant(noise(4, 3, 3, 4)), chain.constant(noise(4)), **CONV)
    total = chain.op("ADD", y, x, fusedActivationFunction=activation)
    return chain.graph(total), x, y, total


def test_clipping_at_the_needed_values_changes_no_sum() -> None:
    rng = np.random.default_rng(0)
    y, other = rng.normal(0, 3, 1000).astype(np.float32), rng.normal(0, 3, 1000).astype(np.float32)
    total = np.maximum(y + other, 0)
    needed = Summand(1, 2).needed(y, {1: other, 2: total})
    for low in (0.0, -1.0, -2.5):
        # A range from `low` on errs by as much at the needed values as at the sum.
        clipped, wanted = np.maximum(y, low), np.maximum(needed, low)
        error = np.maximum(clipped + other, 0) - total
        # Two float32 sums of values of about 10.
        np.testing.assert_allclose(error, wanted - needed, atol=4 * 10 * 2.0**-24)
    assert needed.min() > y.min()


@pytest.mark.parametrize("activation", ["RELU", "RELU6"])
def test_statistics_leave_out_what_a_clipped_sum_does_not_need(activation: str) -> None:
    graph, x, y, total = residual(activation)
    assert summands(graph) == {y: Summand(x, total)}
    samples = [{x: noise(1, 6, 6, 4) * 3} for _ in range(4)]
    plain, *_ = residual("NONE")
    statistics, everything = observe(graph, samples)[0], observe(plain, samples)[0]
    assert everything[y].low < statistics[y].low <= 0
    assert statistics[y].high == everything[y].high
    assert statistics[x].low == everything[x].low


def test_other_sums_need_everything() -> None:
    assert summands(residual("NONE")[0]) == {}
    assert summands(residual("RELU_N1_TO_1")[0]) == {}
    chain = Chain()  # another reader, and a model output
    x = chain.input((1, 6, 6, 4))
    y = chain.op("CONV_2D", x, chain.constant(noise(4, 3, 3, 4)), chain.constant(noise(4)), **CONV)
    total = chain.op("ADD", y, x, fusedActivationFunction="RELU")
    assert summands(chain.graph(total, y)) == {}
