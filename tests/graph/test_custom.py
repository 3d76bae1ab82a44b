"""Custom ops that are built-in ones in all but name."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph.flatbuffer import to_bytes
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.reader import graph_from_bytes
from edgeqwt.runtime.runners import xnnpack
from tests.chain import NONE, Chain, noise


def upsampled(padding: str) -> Graph:
    """TRANSPOSE_CONV with other strides along each axis."""
    chain = Chain()
    x = chain.input((1, 4, 5, 3), "x")
    weights, bias = chain.constant(noise(2, 3, 3, 3)), chain.constant(noise(2, seed=1))
    shape = {"SAME": (1, 8, 15, 2), "VALID": (1, 9, 15, 2)}[padding]
    options = {"padding": padding, "strideW": 3, "strideH": 2, **NONE}
    sizes = chain.constant(list(shape))
    return chain.graph(chain.op("TRANSPOSE_CONV", sizes, weights, x, bias, shape=shape, version=3, name="y", **options))


def as_mediapipe_has_it(graph: Graph, params: bytes) -> bytes:
    (op,) = graph.ops
    _, weights, x, bias = op.inputs
    extra = {"customOptions": params}
    custom = replace(
        op,
        kind="CUSTOM",
        custom_code="Convolution2DTransposeBias",
        inputs=(x, weights, bias),
        options={},
        version=1,
        extra=extra,
    )
    return to_bytes(replace(graph, ops=(custom,)))


@pytest.mark.parametrize(("padding", "number"), [("SAME", 1), ("VALID", 2)])
def test_mediapipes_transposed_convolution_is_the_built_in_one(padding: str, number: int) -> None:
    graph, sample = upsampled(padding), noise(1, 4, 5, 3, seed=7)
    found, _ = graph_from_bytes(as_mediapipe_has_it(graph, struct.pack("<3i", number, 3, 2)), "net.tflite")
    assert [op.kind for op in found.ops] == ["TRANSPOSE_CONV"]
    wanted, made = (xnnpack(g).run({g.inputs[0]: sample})[g.outputs[0]] for g in (graph, found))
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("params", [b"", struct.pack("<3i", 0, 2, 2), bytes(16)])
def test_options_that_nobody_knows_leave_the_custom_op(params: bytes) -> None:
    found, _ = graph_from_bytes(as_mediapipe_has_it(upsampled("SAME"), params), "net.tflite")
    assert [op.custom_code for op in found.ops] == ["Convolution2DTransposeBias"]
