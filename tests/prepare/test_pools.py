"""Max pools that are padded by an op of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.boundary import to_real
from edgeqwt.runtime.runners import reference, xnnpack
from edgeqwt.scales.ranges import MinMax
from tests.chain import CONV, Chain, noise, samples
from tests.prepare.test_prepare import assert_same_function, kinds

FILLS = [-np.inf, float(np.finfo(np.float32).min), -1e9, -1e4]


def pooled(
    fill: float | list[float],
    pads: tuple[tuple[int, int], tuple[int, int]],
    size: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (2, 2),
    image: tuple[int, int] = (8, 8),
    activation: str = "NONE",
) -> Graph:
    """Convolution, PADV2, max pool without padding."""
    chain = Chain()
    weights, bias = chain.constant(noise(4, 3, 3, 3)), chain.constant(noise(4))
    y = chain.op(
        "CONV_2D", chain.input((1, *image, 3)), weights, bias, **{**CONV, "fusedActivationFunction": activation}
    )
    amounts = chain.constant([(0, 0), *pads, (0, 0)])
    padded = chain.op("PADV2", y, amounts, chain.constant(fill))
    options: dict[str, Any] = dict(zip(("filterHeight", "filterWidth"), size, strict=True))
    options |= dict(zip(("strideH", "strideW"), stride, strict=True))
    return chain.graph(chain.op("MAX_POOL_2D", padded, padding="VALID", fusedActivationFunction="NONE", **options))


def integer(graph: Graph) -> Graph:
    """Lowered at 8 bits, by observed extremes."""
    statistics, _ = observe(graph, samples(graph, 8))
    return lower(graph, statistics, MinMax(), Precision())


def assert_as_good_as_its_input(graph: Graph) -> None:
    """A max pool chooses: its error is that of what it chooses from, one step of the convolution's output."""
    prepared = prepare(graph).graph
    assert_same_function(graph, prepared)
    lowered = integer(prepared)
    scale = float(lowered.tensors[lowered.outputs[0]].quantization.scale[0])  # type: ignore[union-attr]
    for feed in samples(graph, 8):
        expected = xnnpack(graph).run(feed)[graph.outputs[0]]
        given = {t: feed[s] for s, t in zip(graph.inputs, lowered.inputs, strict=True)}
        q = lowered.tensors[lowered.inputs[0]].quantization
        assert q is not None
        ints = {
            t: np.clip(np.rint(v / q.scale[0]) + q.zero_point[0], -128, 127).astype(np.int8) for t, v in given.items()
        }
        got = to_real(lowered, lowered.outputs[0], reference(lowered).run(ints)[lowered.outputs[0]])
        # 27 products of weights around 1 with inputs off by half a step of 1/40, and the output's own step.
        assert np.abs(expected - got).max() < 27 * 0.02 + scale


@pytest.mark.parametrize("fill", FILLS)
def test_the_lowest_integer_pads(fill: float) -> None:
    graph = pooled(fill, ((1, 1), (1, 1)))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["CONV_2D", "PADV2", "MAX_POOL_2D"]
    assert prepared.tensors[prepared.ops[1].outputs[0]].shape == (1, 9, 9, 4)  # no window reaches the last row
    lowered = integer(prepared)
    pad = lowered.tensors[lowered.ops[1].inputs[2]].data
    assert pad is not None
    assert pad.reshape(-1).tolist() == [-128]
    assert_as_good_as_its_input(graph)
    assert prepare(prepared).graph is prepared


@pytest.mark.parametrize("rank", [0, 1])
def test_the_pad_of_any_rank(rank: int) -> None:
    assert_as_good_as_its_input(pooled([-np.inf] if rank else -np.inf, ((1, 1), (1, 1))))


CASES: dict[str, dict[str, Any]] = {
    "odd": {"pads": ((1, 1), (1, 1)), "image": (7, 9)},
    "one row": {"pads": ((0, 0), (1, 1)), "size": (1, 3), "stride": (1, 2), "image": (1, 9)},
    "as much as ceil_mode needs": {"pads": ((0, 1), (0, 1)), "image": (8, 8)},
    "every step": {"pads": ((2, 2), (2, 2)), "size": (5, 5), "stride": (1, 1), "image": (6, 6)},
}


@pytest.mark.parametrize("case", CASES)
def test_same_padding_is_the_pools_own(case: str) -> None:
    graph = pooled(-np.inf, **CASES[case])
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["CONV_2D", "MAX_POOL_2D"]
    assert prepared.ops[1].options["padding"] == "SAME"
    assert_as_good_as_its_input(graph)


OTHERS: dict[str, dict[str, Any]] = {
    "even windows": {"pads": ((1, 1), (1, 1)), "size": (2, 2)},
    "more behind": {"pads": ((0, 2), (1, 0))},
    "one axis": {"pads": ((1, 1), (0, 0)), "size": (3, 2)},
    "larger than the image": {"pads": ((4, 4), (4, 4)), "size": (9, 9), "stride": (3, 3)},
    "behind a RELU": {"pads": ((1, 1), (1, 1)), "activation": "RELU"},
}


@pytest.mark.parametrize("case", OTHERS)
def test_paddings_of_all_kinds(case: str) -> None:
    assert_as_good_as_its_input(pooled(-3.4e38, **OTHERS[case]))


def test_behind_a_relu_zero_is_small_enough() -> None:
    prepared = prepare(pooled(-np.inf, ((1, 1), (1, 1)), activation="RELU")).graph
    assert kinds(prepared) == ["CONV_2D", "PAD", "MAX_POOL_2D"]


def test_a_small_pad_is_data() -> None:
    graph = pooled(-0.5, ((1, 1), (1, 1)))
    assert prepare(graph).graph.ops[1].inputs[2] in range(len(graph.tensors))
    assert_as_good_as_its_input(graph)


def test_a_pad_between_two_transposes_goes_behind_them() -> None:
    chain = Chain()
    y = chain.op("MUL", chain.input((1, 8, 8, 4)), chain.constant(noise(4)), fusedActivationFunction="NONE")
    turned = chain.op("TRANSPOSE", y, chain.constant([0, 3, 1, 2]))
    padded = chain.op("PADV2", turned, chain.constant([(0, 0), (0, 0), (1, 0), (0, 2)]), chain.constant(-np.inf))
    back = chain.op("TRANSPOSE", padded, chain.constant([0, 2, 3, 1]))
    options = {"filterHeight": 3, "filterWidth": 3, "strideH": 2, "strideW": 2}
    pool = chain.op("MAX_POOL_2D", back, padding="VALID", fusedActivationFunction="NONE", **options)
    graph = chain.graph(pool)
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["MUL", "PADV2", "MAX_POOL_2D"]
    assert_same_function(graph, prepared)
