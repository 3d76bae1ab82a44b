"""Ops that 16-bit activations need several ops for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.profile import Kernels
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.scales.activations import HEADROOM
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Precision
from tests.chain import Chain, noise

CLASSES, COARSE = 10, 1 / 16


def classifier() -> Graph:
    chain = Chain()
    return chain.graph(chain.op("LOG_SOFTMAX", chain.input((1, 4, CLASSES)), shape=(1, 4, CLASSES)))


def scores(reach: float) -> list[Array]:
    """Samples whose values lie between -reach and reach, and reach both ends."""
    found = [np.clip(reach * noise(1, 4, CLASSES, seed=k) / 2, -reach, reach).astype(np.float32) for k in range(8)]
    found[0][0, 0, :2] = -reach, reach
    return found


def logarithms(x: Array) -> Array:
    x = x.astype(np.float64) - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.requires("tflite_micro")
@pytest.mark.parametrize("runner", ["reference", "xnnpack", "tflm"])
@pytest.mark.parametrize("bits", [8, 16])
def test_logarithms_of_probabilities_far_below_the_8_bit_kernels_end(bits: int, runner: str) -> None:
    """A classifier that is sure has -60 where the kernel ends at -16: its file had 0 dB of what varies."""
    graph, data = classifier(), scores(40.0)
    (x,) = graph.inputs
    statistics = observe(graph, [{x: each} for each in data])[0]
    integer = lower(graph, statistics, MinMax(), Precision(activation_bits=bits), Kernels())
    (y,) = integer.outputs
    interpreter = RUNNERS[runner](integer, [y])
    reach = 40.0 * (HEADROOM if bits == 16 else 1.0)
    # Rounded: differences near zero and their exponentials' sum (a step), and that sum's logarithm (half of one); four
    # values of 16 bits, of which differences of two others span twice their range; what comes out.
    steps = (16 + 2 * reach / 255) / 255 + 0.51 * COARSE + 4 * 4 * HEADROOM * reach / 32767
    steps += 0.51 * float(integer.tensors[y].grid.scale[0])
    for sample in data:
        feed = graph_feed(integer, {x: sample})
        exact = logarithms(to_real(integer, integer.inputs[0], feed[integer.inputs[0]]))
        found = to_real(integer, y, interpreter.run(feed)[y])
        assert np.abs(found - exact).max() <= steps


def test_those_that_the_8_bit_kernel_has_stay_there() -> None:
    graph = classifier()
    statistics = observe(graph, [{graph.inputs[0]: each} for each in scores(6.0)])[0]
    integer = lower(graph, statistics, MinMax(), Precision(), Kernels())
    assert [op.kind for op in integer.ops] == ["LOG_SOFTMAX"]


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def log_logistic(x: Array) -> Array:
    return -softplus(-x)


@pytest.mark.parametrize("runner", ["reference", "xnnpack"])  # TFLite Micro has neither EXP nor LOG in 16 bits
@pytest.mark.parametrize("wanted", [softplus, log_logistic])
@pytest.mark.parametrize("reach", [3.0, 40.0])
def test_softplus_and_its_mirror_image(reach: float, wanted: Callable[[Array], Array], runner: str) -> None:
    """LOG interpolated 1 + exp(x) between points that lay 6 apart: a radiance field had -13 dB in 16 bits."""
    chain, shape = Chain(), (1, 4, CLASSES)
    x = chain.input(shape)
    none = {"fusedActivationFunction": "NONE"}
    if wanted is softplus:
        power = chain.op("EXP", x, shape=shape)
        inner = chain.op("ADD", power, chain.constant(np.ones(1, np.float32)), shape=shape, **none)
    else:
        inner = chain.op("LOGISTIC", x, shape=shape)
    graph, data = chain.graph(chain.op("LOG", inner, shape=shape)), scores(reach)
    statistics = observe(graph, [{x: each} for each in data])[0]
    integer = lower(graph, statistics, MinMax(), Precision(activation_bits=16), Kernels())
    (y,) = integer.outputs
    interpreter = RUNNERS[runner](integer, [y])
    # exp between points that are 24 / 512 apart errs by h^2 / 8; what it reads is off by half a step of 12 / 32767; of
    # 1 + exp(-|x|), its logarithm and exp(-12) few steps of 2^-15 are missing; the sum is rounded.
    bound = (24 / 512) ** 2 / 8 + 6 / 32767 + 4 * 2**-15 + float(integer.tensors[y].grid.scale[0])
    for sample in data:
        feed = graph_feed(integer, {x: sample})
        exact = wanted(to_real(integer, integer.inputs[0], feed[integer.inputs[0]]).astype(np.float64))
        assert np.abs(to_real(integer, y, interpreter.run(feed)[y]) - exact).max() <= bound


def test_what_others_read_of_a_softplus_stays() -> None:
    chain, shape = Chain(), (1, 4, CLASSES)
    x = chain.input(shape)
    power = chain.op("EXP", x, shape=shape)
    one = chain.constant(np.ones(1, np.float32))
    more = chain.op("ADD", power, one, shape=shape, fusedActivationFunction="NONE")
    graph = chain.graph(chain.op("LOG", more, shape=shape), power)
    statistics = observe(graph, [{x: each} for each in scores(3.0)])[0]
    integer = lower(graph, statistics, MinMax(), Precision(activation_bits=16), Kernels())
    assert [op.kind for op in integer.ops if op.kind != "QUANTIZE"] == ["EXP", "ADD", "LOG"]
