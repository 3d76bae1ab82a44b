"""Outputs of bytes that are numbers, through whole builds of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.samples import InputSpec
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.interface.real_outputs import with_real_outputs
from edgeqwt.runtime.runners import RUNNERS, xnnpack
from edgeqwt.widths.ports import Port
from tests.chain import CONV, NONE, Chain, noise

SHAPE = (1, 8, 8, 3)


def painter(how: str = "", dtype: str = "uint8") -> Graph:
    """A convolution that paints dark pictures of bytes; or what is no number: places of the largest, a mask."""
    chain = Chain()
    x = chain.input(SHAPE, "image")
    y = chain.op("CONV_2D", x, chain.constant(noise(3, 3, 3, 3)), chain.constant(noise(3)), shape=SHAPE, **CONV)
    if how == "places":
        y = chain.op("ARG_MAX", y, chain.constant(np.int32(3)), shape=(1, 8, 8), dtype="int32", outputType="INT32")
        y = chain.op("CAST", y, shape=(1, 8, 8), inDataType="INT32", outDataType="FLOAT32")
        return chain.graph(cast(chain, y, (1, 8, 8), dtype))
    if how == "mask":
        y = chain.op("GREATER", y, chain.constant([0.0]), shape=SHAPE, dtype="bool")
        y = chain.op("CAST", y, shape=SHAPE, inDataType="BOOL", outDataType="FLOAT32")
        return chain.graph(cast(chain, chain.op("MUL", y, chain.constant([255.0]), shape=SHAPE, **NONE), SHAPE, dtype))
    if how == "beyond":  # of a pixel of -1 CAST makes 255
        return chain.graph(cast(chain, chain.op("MUL", y, chain.constant([9.0]), shape=SHAPE, **NONE), SHAPE, dtype))
    y = chain.op("LOGISTIC", y, shape=SHAPE)
    y = chain.op("MUL", y, chain.constant([100.0]), shape=SHAPE, **NONE)
    if how == "rounded":
        y = chain.op("ROUND", y, shape=SHAPE)
    if how == "moved":
        y = cast(chain, y, SHAPE, dtype, name="before")
        return chain.graph(chain.op("RESHAPE", y, shape=(1, 192), dtype=dtype, name="picture", newShape=(1, 192)))
    return chain.graph(cast(chain, y, SHAPE, dtype))


def cast(chain: Chain, y: int, shape: tuple[int, ...], dtype: str, name: str = "picture") -> int:
    return chain.op("CAST", y, shape=shape, dtype=dtype, name=name, inDataType="FLOAT32", outDataType=dtype.upper())


def model(graph: Graph) -> ConvertedModel:
    ends = [(graph.inputs, "float32"), (graph.outputs, graph.tensors[graph.outputs[0]].dtype)]
    inputs, outputs = (
        tuple(Binding(InputSpec(graph.tensors[t].name, graph.tensors[t].shape, dtype), t) for t in tensors)
        for tensors, dtype in ends
    )
    return ConvertedModel(graph, inputs, outputs, lambda sample: {})


@pytest.mark.parametrize(
    ("how", "dtype", "last"),
    [("", "uint8", "FLOOR"), ("rounded", "int8", "FLOOR"), ("moved", "uint8", "RESHAPE"), ("", "int16", "FLOOR")],
)
def test_numbers_become_real(how: str, dtype: str, last: str) -> None:
    found, ports = with_real_outputs(model(painter(how, dtype)))
    assert found.graph.ops[-1].kind == last
    assert not any(op.kind == "CAST" for op in found.graph.ops)
    assert all(found.graph.tensors[t].is_float for t in found.graph.outputs)
    span = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-32768, 32767)}[dtype]
    assert ports == {"picture": Port(dtype, span)}


@pytest.mark.parametrize(("how", "dtype"), [("places", "uint8"), ("mask", "uint8"), ("", "int32"), ("beyond", "uint8")])
def test_places_masks_large_integers_and_what_begins_again_stay(how: str, dtype: str) -> None:
    given = model(painter(how, dtype))
    assert with_real_outputs(given) == (given, {})


@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
@pytest.mark.parametrize("how", ["", "rounded", "moved"])
def test_the_bytes_are_the_source_s(tmp_path: Path, how: str, precision: str) -> None:
    graph, images = painter(how), np.random.default_rng(3).normal(size=(48, 8, 8, 3)).astype(np.float32)
    flatbuffer.write(graph, tmp_path / "net.tflite")
    np.savez(tmp_path / "samples.npz", image=images[:32])
    result = edgeqwt.build(
        tmp_path / "net.tflite", calibration=tmp_path / "samples.npz", recipe="fast", precision=precision
    )
    tensor = result.graph.tensors[result.graph.outputs[0]]
    assert tensor.dtype == "uint8"
    assert tensor.quantization is not None  # the pictures reach 100, and the bytes are what they were
    assert (float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point[0])) == (1.0, 0)
    (quality,) = result.quality[result.choice.name].outputs
    assert quality.closeness.varying_db is not None
    assert quality.closeness.varying_db > 25
    source, file = xnnpack(graph), RUNNERS["reference"](result.graph)  # the reference kernels have no float ROUND
    scale = result.graph.tensors[result.graph.inputs[0]].quantization
    assert scale is not None
    for image in images[32:, None]:
        wanted = source.run({graph.inputs[0]: image})[graph.outputs[0]].astype(int)
        fed = np.round(image / scale.scale[0]) + int(scale.zero_point[0])
        limits = np.iinfo(result.graph.tensors[result.graph.inputs[0]].dtype)
        fed = fed.clip(limits.min, limits.max).astype(limits.dtype)
        found = file.run({result.graph.inputs[0]: fed})[result.graph.outputs[0]].astype(int)
        # Rounding of inputs, weights and the curve's table: some steps of 100 at most.
        assert np.abs(found.reshape(wanted.shape) - wanted).max() <= 8
