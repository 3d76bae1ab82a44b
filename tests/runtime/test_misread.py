"""Convolutions that XNNPACK computes wrongly: when exactly, and what is written in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.runtime.misread import misread, read_rightly
from edgeqwt.runtime.runners import TFLiteMicro, reference, xnnpack
from edgeqwt.scales.ranges import MinMax
from tests.chain import CONV, DEPTHWISE, Chain, noise, samples

Pair = tuple[int, int]


def convolution(kind: str, image: Pair, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Graph:
    """One layer, float; its bias is not zero."""
    chain = Chain()
    weights = noise(3, *kernel, 2) if kind == "CONV_2D" else noise(1, *kernel, 2)
    options: dict[str, Any] = {**(CONV if kind == "CONV_2D" else DEPTHWISE), "padding": "SAME"}
    options |= {"strideH": stride[0], "strideW": stride[1]}
    options |= {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
    channels = 3 if kind == "CONV_2D" else 2
    shape = (1, *(-(-n // s) for n, s in zip(image, stride, strict=True)), channels)
    x = chain.input((1, *image, 2))
    y = chain.op(kind, x, chain.constant(weights), chain.constant(noise(channels)), shape=shape, **options)
    return chain.graph(y)


def integer(graph: Graph) -> Graph:
    """The same layer in integers, as other tools write it."""
    return lower(graph, observe(graph, samples(graph))[0], MinMax(), Precision())


def results(graph: Graph, *factories: Any) -> list[Array]:
    """What interpreters make of one sample."""
    rng, tensor = np.random.default_rng(1), graph.tensors[graph.inputs[0]]
    x = rng.normal(size=tensor.shape).astype(np.float32)
    x = x if tensor.is_float else rng.integers(-128, 128, tensor.shape).astype(np.int8)
    return [factory(graph).run({graph.inputs[0]: x})[graph.outputs[0]].astype(np.float64) for factory in factories]


WRONG = {
    "both axes": ((6, 6), (2, 2), (3, 3), (1, 1)),
    "height": ((6, 5), (1, 3), (2, 2), (1, 1)),
    "width": ((5, 7), (3, 2), (1, 4), (1, 1)),
    "dilated": ((8, 9), (1, 2), (3, 5), (2, 2)),
    "height, nothing to pad": ((6, 4), (1, 2), (2, 2), (1, 1)),
}
RIGHT = {
    "as many lines as kernels reach": ((6, 6), (2, 2), (2, 2), (1, 1)),
    "kernels of one": ((6, 6), (1, 1), (3, 3), (1, 1)),
    "padded": ((6, 6), (3, 3), (2, 2), (1, 1)),
    "the last kernel ends with the image": ((7, 7), (2, 1), (5, 3), (1, 1)),
}


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("form", ["float", "int8"])
def test_xnnpack_gives_the_bias_alone_and_what_is_written_instead_is_right(kind: str, case: str, form: str) -> None:
    graph = convolution(kind, *WRONG[case])
    tolerance, runners = 1e-5, [reference, xnnpack]  # float sums of at most 12 products in another order
    if form == "int8":
        graph, tolerance, runners = (
            integer(graph),
            1.0,
            [*runners, TFLiteMicro],
        )  # XNNPACK rounds once, the others twice
    assert misread(graph) == (0,)
    expected, wrong, *micro = results(graph, *runners)
    assert np.abs(expected - wrong).max() > (50 if form == "int8" else 0.5)
    assert (wrong == wrong[:, :1, :1]).all()  # the bias everywhere
    again, names = read_rightly(graph)
    assert names == [graph.tensors[graph.outputs[0]].name]
    assert misread(again) == ()
    assert again.ops[-1].kind == kind
    rewritten = results(again, *runners)
    np.testing.assert_array_equal(rewritten[0], expected)
    assert np.abs(rewritten[1] - expected).max() <= tolerance
    for found in (*micro, *rewritten[2:]):
        np.testing.assert_array_equal(found, expected)
    assert read_rightly(again) == (again, [])


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize("case", RIGHT)
def test_others_are_computed_rightly_and_stay(kind: str, case: str) -> None:
    graph = convolution(kind, *RIGHT[case])
    assert read_rightly(graph) == (graph, [])
    expected, found = results(graph, reference, xnnpack)
    assert np.abs(expected - found).max() < 1e-5
