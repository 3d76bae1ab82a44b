"""What a clipped sum needs of its summands, and what multiplies zeros alone."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.clipped import Factor, Summand, factors, summands
from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.scales.ranges import Mse
from edgeqwt.verify.quality import layer_quality
from edgeqwt.widths.precision import Precision
from tests.chain import CONV, NONE, Chain, noise


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
    needed = Summand(1).needed(y, {1: other})
    for low in (0.0, -1.0, -2.5):
        # A range from `low` on errs by as much at the needed values as at the sum.
        clipped, wanted = np.maximum(y, low), np.maximum(needed, low)
        error = np.maximum(clipped + other, 0) - total
        # Two float32 sums of values of about 10.
        np.testing.assert_allclose(error, wanted - needed, atol=4 * 10 * 2.0**-24)
    assert needed.min() > y.min()


@pytest.mark.parametrize("activation", ["RELU", "RELU6"])
def test_statistics_leave_out_what_a_clipped_sum_does_not_need(activation: str) -> None:
    graph, x, y, _ = residual(activation)
    assert summands(graph) == {y: Summand(x)}
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


def normalized(also_read: bool = False) -> tuple[Graph, int, int]:
    """Rows over their root mean square; and its tensors x and 1 / root."""
    chain = Chain()
    x = chain.input((1, 4, 8))
    square = chain.op("MUL", x, x, **NONE)
    mean = chain.op("MEAN", square, chain.constant(np.array([2])), keepDims=True)
    inverse = chain.op("RSQRT", chain.op("ADD", mean, chain.constant(np.float32(1e-12)), **NONE))
    product = chain.op("MUL", x, inverse, **NONE)
    return chain.graph(product, *([inverse] if also_read else [])), x, inverse


def with_a_row_of_zeros(x: int) -> list[dict[int, Array]]:
    samples = [{x: noise(1, 4, 8, seed=k)} for k in range(4)]
    for sample in samples:
        sample[x][:, 0] = 0
    return samples


def test_what_multiplies_zeros_alone_needs_no_room() -> None:
    graph, x, inverse = normalized()
    assert factors(graph) == {inverse: Factor((x,))}
    statistics, _ = observe(graph, with_a_row_of_zeros(x))
    assert statistics[inverse].high < 10  # 1e6 on the row of zeros
    other, x, inverse = normalized(also_read=True)  # as an output it is needed whatever it multiplies
    assert factors(other) == {}
    assert observe(other, with_a_row_of_zeros(x))[0][inverse].high > 1e5


def test_a_row_of_zeros_costs_the_others_nothing() -> None:
    graph, x, _ = normalized()
    samples = with_a_row_of_zeros(x)
    integer = lower(graph, observe(graph, samples)[0], Mse(), Precision())
    quality = layer_quality(graph, {"": integer}, samples)[""]
    assert quality.worst_db > 25  # below 0 where the range spans the million


def test_one_value_that_is_not_zero_is_enough() -> None:
    value = np.array([[[5.0], [7.0]]], np.float32)
    others = {1: np.zeros((1, 2, 3), np.float32), 2: np.zeros((2, 2, 2, 3), np.float32)}
    factor = Factor((1, 2))
    assert not factor.needed(value, others).any()
    others[2][1, 0, 1, 2] = -1e-9
    assert factor.needed(value, others).ravel().tolist() == [0, 7]
