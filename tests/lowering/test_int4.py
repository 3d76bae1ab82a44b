"""int4 storage: half the bytes, the same integers out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.int4 import takes_int4, with_dense_pointwise, with_packed_weights
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import parse
from tests.chain import CONV, DEPTHWISE, Chain, noise, samples
from tests.one_op import lowered as made_integer


@pytest.fixture(scope="module", params=["image_classification", "visual_wake_words"])
def lowered(request: pytest.FixtureRequest, mlperf_tiny: Path) -> tuple[Graph, list[dict[int, Array]]]:
    """A network with 4-bit weights stored in int8, and inputs for it."""
    graph = prepare(flatbuffer.read(mlperf_tiny / f"{request.param}_float32.tflite")).graph
    rng, shape = np.random.default_rng(0), graph.tensors[graph.inputs[0]].shape
    samples = [{graph.inputs[0]: rng.uniform(0, 1, shape).astype(np.float32)} for _ in range(3)]
    statistics, _ = observe(graph, samples)
    integer = lower(graph, statistics, MinMax(), Precision(4))
    return integer, [graph_feed(integer, {integer.inputs[0]: s[graph.inputs[0]]}) for s in samples]


@pytest.mark.parametrize("runtime", ["reference", "tflm"])
def test_same_outputs(lowered: tuple[Graph, list[dict[int, Array]]], runtime: str) -> None:
    graph, feeds = lowered
    packed = with_packed_weights(graph)
    runners = [RUNNERS[runtime](g, [op.outputs[0] for op in g.ops]) for g in (graph, packed)]
    for feed in feeds:
        expected, found = (runner.run(feed) for runner in runners)
        assert all(np.array_equal(expected[t], found[t]) for t in expected)


def test_convolutions_take_half_the_bytes(lowered: tuple[Graph, list[dict[int, Array]]]) -> None:
    graph = lowered[0]
    packed = with_packed_weights(graph)
    saved = sum(t.size - (t.size + 1) // 2 for t in packed.tensors if t.dtype == "int4")
    assert saved > 0
    # Buffers are aligned to 16 bytes, so that each packed one may save up to 15 bytes less, or more.
    count = sum(t.dtype == "int4" for t in packed.tensors)
    assert len(flatbuffer.to_bytes(graph)) - len(flatbuffer.to_bytes(packed)) == pytest.approx(saved, abs=16 * count)


def test_fully_connected_and_wide_weights_stay_int8(lowered: tuple[Graph, list[dict[int, Array]]]) -> None:
    packed = with_packed_weights(lowered[0])
    dtypes = {op.kind: packed.tensors[op.inputs[1]].dtype for op in packed.ops if len(op.inputs) > 2}
    assert dtypes["CONV_2D"] == "int4"
    assert dtypes["FULLY_CONNECTED"] == "int8"


def test_eight_bit_weights_stay(mlperf_tiny: Path) -> None:
    graph = flatbuffer.read(mlperf_tiny / "image_classification_int8.tflite")
    assert flatbuffer.to_bytes(with_packed_weights(graph)) == flatbuffer.to_bytes(graph)


@pytest.mark.parametrize(
    ("tflm", "runtimes"), [(True, ("reference", "xnnpack", "tflm")), (False, ("reference", "xnnpack"))]
)
def test_beside_16_bit_activations_litert_alone_takes_int4_and_in_convolutions(
    tflm: bool, runtimes: tuple[str, ...]
) -> None:
    chain = Chain()
    x = chain.op(
        "CONV_2D", chain.input((1, 6, 6, 4)), chain.constant(noise(8, 3, 3, 4)), chain.constant(noise(8)), **CONV
    )
    x = chain.op("DEPTHWISE_CONV_2D", x, chain.constant(noise(1, 3, 3, 8)), chain.constant(noise(8)), **DEPTHWISE)
    found = made_integer(chain.graph(x), samples(chain.graph(x)), precision=parse("w4a16"))
    packed = with_packed_weights(found.graph, tflm=tflm)
    dtypes = {op.kind: packed.tensors[op.inputs[1]].dtype for op in packed.ops}
    assert dtypes == {"CONV_2D": "int8" if tflm else "int4", "DEPTHWISE_CONV_2D": "int8"}
    for runtime in runtimes:
        for feed in found.inputs:
            expected, got = (RUNNERS[runtime](g).run(feed)[g.outputs[0]] for g in (found.graph, packed))
            np.testing.assert_array_equal(expected, got)


def _pointwise_net() -> Graph:
    """3×3 and 1×1 convolutions, a depthwise one, a dense layer; inputs of the last convolution are odd in number."""
    chain = Chain()
    x = chain.op(
        "CONV_2D", chain.input((1, 6, 6, 4)), chain.constant(noise(8, 3, 3, 4)), chain.constant(noise(8)), **CONV
    )
    x = chain.op("CONV_2D", x, chain.constant(noise(128, 1, 1, 8)), chain.constant(noise(128)), **CONV)
    x = chain.op("DEPTHWISE_CONV_2D", x, chain.constant(noise(1, 3, 3, 128)), chain.constant(noise(128)), **DEPTHWISE)
    x = chain.op("CONV_2D", x, chain.constant(noise(255, 1, 1, 128)), chain.constant(noise(255)), **CONV)
    x = chain.op("CONV_2D", x, chain.constant(noise(256, 1, 1, 255)), chain.constant(noise(256)), **CONV)
    x = chain.op("FULLY_CONNECTED", x, chain.constant(noise(256, 256)), chain.constant(noise(256)), keepNumDims=True)
    return chain.graph(x)


def test_litert_runs_pointwise_and_dense_layers_on_int4() -> None:
    graph = _pointwise_net()
    found = made_integer(graph, samples(graph), precision=Precision(4))
    dense = with_dense_pointwise(found.graph)
    assert [op.kind for op in dense.ops] == [
        "CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_2D", "FULLY_CONNECTED"
    ]  # fmt: skip
    packed = with_packed_weights(dense, tflm=False)
    # The first convolution and the depthwise one have less than 1 % of the weights; the last but one has 255 inputs.
    assert [packed.tensors[op.inputs[1]].dtype for op in packed.ops] == [
        "int8", "int4", "int8", "int4", "int4", "int4"
    ]  # fmt: skip
    last = packed.ops[4]  # a convolution: XNNPACK leaves it to a kernel that rounds otherwise
    dense_packed = packed.with_ops({4: replace(last, version=3)}).with_tensors(
        {last.inputs[1]: replace(packed.tensors[last.inputs[1]], dtype="int8")}
    )
    for feed in found.inputs:
        for runtime, graphs, steps in (
            ("xnnpack", (found.graph, dense_packed), 0),
            ("reference", (dense, packed), 0),
            # A sum is rounded once more or less in each of three layers.
            ("reference", (found.graph, packed), 6),
        ):
            before, after = (RUNNERS[runtime](g).run(feed)[g.outputs[0]].astype(np.int16) for g in graphs)
            assert np.abs(before - after).max() <= steps


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("shape", [(1, 16), (1, 15), (2, 16), (1, 1, 1, 16), (1, 3, 3, 16)])
def test_xnnpack_runs_what_is_packed(shape: tuple[int, ...], bits: int) -> None:
    """XNNPACK takes the only scale of a layer of one output for one per tensor, and refused every such w4a8 file."""
    chain, weights = Chain(), noise(*shape)
    data = chain.input((1, shape[-1]) if len(shape) == 2 else (1, 5, 5, shape[-1]))
    kind, options = ("FULLY_CONNECTED", {}) if len(shape) == 2 else ("CONV_2D", CONV)
    graph = chain.graph(chain.op(kind, data, chain.constant(weights), chain.constant(noise(shape[0])), **options))
    found = made_integer(graph, samples(graph), precision=Precision(4, bits))
    packed = with_packed_weights(with_dense_pointwise(found.graph), tflm=False)
    for feed in found.inputs:
        expected, got = (RUNNERS["xnnpack"](g).run(feed)[g.outputs[0]] for g in (found.graph, packed))
        assert np.abs(expected.astype(int) - got.astype(int)).max() <= 1


def test_what_kernels_take() -> None:
    assert takes_int4("FULLY_CONNECTED", (3, 4), 8, tflm=False)
    assert takes_int4("FULLY_CONNECTED", (3, 4), 16, tflm=False)
    assert not takes_int4("FULLY_CONNECTED", (4, 3), 8, tflm=False)
    assert not takes_int4("FULLY_CONNECTED", (1, 4), 8, tflm=False)
    assert takes_int4("FULLY_CONNECTED", (1, 4), 16, tflm=False)
    assert not takes_int4("FULLY_CONNECTED", (3, 4), 8, tflm=True)
    assert not takes_int4("TRANSPOSE_CONV", (3, 1, 1, 4), 8, tflm=False)


def test_strided_and_eight_bit_convolutions_stay() -> None:
    chain = Chain()
    strided = {**CONV, "strideH": 2, "strideW": 2}
    x = chain.op(
        "CONV_2D", chain.input((1, 6, 6, 4)), chain.constant(noise(8, 1, 1, 4)), chain.constant(noise(8)), **strided
    )
    graph = chain.graph(x)
    found = made_integer(graph, samples(graph), precision=Precision(4)).graph
    assert with_dense_pointwise(found) is found
    eight = made_integer(_pointwise_net(), samples(_pointwise_net())).graph
    assert with_dense_pointwise(eight) is eight
