"""Files whose ops and tensors contradict each other are refused with the op and the tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise
from tests.graph import packed


def convolution() -> Graph:
    chain = Chain()
    bias = chain.constant(noise(6), "bias")
    x = chain.input((1, 8, 8, 3), "x")
    return chain.graph(chain.op("CONV_2D", x, chain.constant(noise(6, 3, 3, 3), "w"), bias, name="y", **CONV))


def depthwise() -> Graph:
    chain = Chain()
    bias = chain.constant(noise(3), "bias")
    x = chain.input((1, 8, 8, 3), "x")
    weights = chain.constant(noise(1, 3, 3, 3), "w")
    return chain.graph(chain.op("DEPTHWISE_CONV_2D", x, weights, bias, name="y", **DEPTHWISE))


def moving(kind: str, constant: Any, **options: Any) -> Callable[[], Graph]:
    def make() -> Graph:
        chain = Chain()
        x = chain.input((2, 3, 4), "x")
        return chain.graph(chain.op(kind, x, chain.constant(np.array(constant), "c"), name="y", **options))

    return make


def joined() -> Graph:
    chain = Chain()
    x = chain.input((2, 3), "x")
    return chain.graph(chain.op("CONCATENATION", x, x, name="y", axis=1, **NONE))


def constant(shape: tuple[int, ...], *values: int) -> Callable[[Any], None]:
    """Another value of the same number of bytes, or another shape, for tensor "c"."""

    def change(model: Any) -> None:
        tensor = next(t for t in model.subgraphs[0].tensors if t.name == b"c")
        tensor.shape = list(shape)
        model.buffers[tensor.buffer].data = np.frombuffer(np.array(values, np.int32).tobytes(), np.uint8)

    return change


def shaped(name: bytes, *shape: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        next(t for t in model.subgraphs[0].tensors if t.name == name).shape = list(shape)

    return change


def without(slot: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        op = model.subgraphs[0].operators[0]
        op.inputs = [-1 if s == slot else t for s, t in enumerate(op.inputs)]

    return change


def no_output(model: Any) -> None:
    model.subgraphs[0].operators[0].outputs = []
    model.subgraphs[0].outputs = []
    model.signatureDefs = None


def option(name: str, value: object) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        setattr(model.subgraphs[0].operators[0].builtinOptions, name, value)

    return change


def axis(value: int) -> Callable[[Any], None]:
    return option("axis", value)


def without_options(model: Any) -> None:
    op = model.subgraphs[0].operators[0]
    op.builtinOptions, op.builtinOptionsType = None, 0


def more(field: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        op = model.subgraphs[0].operators[0]
        setattr(op, field, [*getattr(op, field)] * 3)

    return change


def typed(kind: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        next(t for t in model.subgraphs[0].tensors if t.name == b"c").type = kind

    return change


def softmax() -> Graph:
    chain = Chain()
    return chain.graph(chain.op("SOFTMAX", chain.input((2, 3), "x"), name="y", beta=1.0))


def split() -> Graph:
    chain = Chain()
    number = chain.constant(np.array(1), "c")
    return chain.graph(chain.op("SPLIT", number, chain.input((2, 3), "x"), name="y", numSplits=1))


CASES: dict[str, tuple[Callable[[], Graph], Callable[[Any], None], str]] = {
    "weights missing": (convolution, without(1), "CONV_2D #0 -> 'y' contradicts its tensors: its input 1 is missing"),
    "no output": (convolution, no_output, "CONV_2D #0 contradicts its tensors: it has no output"),
    "rank": (convolution, shaped(b"x", 8, 8, 3), r"'x' has shape \(8, 8, 3\), its input 0 has 4 dimensions"),
    "weights' rank": (convolution, shaped(b"w", 6, 9, 3), r"'w' has shape \(6, 9, 3\), its input 1 has 4 dimensions"),
    "channels in": (convolution, shaped(b"x", 1, 8, 8, 4), r"'w' of shape \(6, 3, 3, 3\) does not fit 'x'"),
    "channels out": (convolution, shaped(b"y", 1, 8, 8, 5), r"'w' of shape \(6, 3, 3, 3\) gives 5 channels: 'y'"),
    "depthwise": (depthwise, shaped(b"y", 1, 8, 8, 5), r"'w' of shape \(1, 3, 3, 3\) gives 5 channels: 'y'"),
    "permutation": (moving("TRANSPOSE", [2, 0, 1]), constant((3,), 2, 2, 1), "'c' is no order of the axes"),
    "axes": (moving("MEAN", [1], keepDims=True), constant((1,), 3), "axis 3 in 'c' is none of 'x', which has 3"),
    "paddings": (
        moving("PAD", [[0, 0], [1, 1], [0, 0]]),
        constant((2, 3), 0, 0, 1, 1, 0, 0),
        r"'c' has shape \(2, 3\), 3 dimensions are padded by shape \(3, 2\)",
    ),
    "stride 0": (convolution, option("strideH", 0), "its option strideH is 0, it must be from 1 to 65536"),
    "dilation": (depthwise, option("dilationWFactor", 2**30), "its option dilationWFactor is 1073741824"),
    "no options": (convolution, without_options, "its option strideH is missing"),
    "softmax": (softmax, option("beta", -1.0), "its option beta is -1"),
    "softmax of nothing": (softmax, option("beta", float("nan")), "its option beta is nan"),
    "inputs": (softmax, more("inputs"), "it has 3 inputs"),
    "parts": (split, option("numSplits", 2), "it has 1 outputs for 2 parts"),
    "axes of type": (moving("MEAN", [1], keepDims=True), typed(0), "its input 1 'c' is of type float32"),
    "joined axis": (joined, axis(2), "its axis 2 is none of 'x', which has 2 dimensions"),
}


@pytest.mark.parametrize("name", CASES)
def test_contradictions_are_refused(name: str) -> None:
    make, change, message = CASES[name]
    data = flatbuffer.to_bytes(make())
    flatbuffer.from_bytes(data)
    model = packed.unpack(data)
    change(model)
    with pytest.raises(InputError, match=message) as caught:
        flatbuffer.from_bytes(packed.pack(model), "model.tflite")
    assert caught.value.message.startswith("model.tflite: ")


def test_a_shape_that_only_running_tells_is_no_contradiction() -> None:
    model = packed.unpack(flatbuffer.to_bytes(convolution()))
    shaped(b"y")(model)
    assert flatbuffer.from_bytes(packed.pack(model)).tensors[-1].shape == ()


@pytest.mark.parametrize("keep", [False, True])
def test_rows_that_the_weights_do_not_fit(keep: bool) -> None:
    """LiteRT takes 8 numbers for two rows of 4; keeping the dimensions, it makes room for one and writes both."""
    chain = Chain()
    x = chain.input((1, 8), "x")
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(5, 4), "w"), -1, name="y", keepNumDims=keep, **NONE)
    data = flatbuffer.to_bytes(chain.graph(y))
    if not keep:
        flatbuffer.from_bytes(data)
        return
    with pytest.raises(InputError, match=r"FULLY_CONNECTED #0 -> 'y' contradicts .*'w' of shape \(5, 4\) does not fit"):
        flatbuffer.from_bytes(data)
