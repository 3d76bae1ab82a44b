"""The graph side of a linear compensation layer: what it is written as, where it can stand, what it costs.

    x ──► linear op, no activation ──► y' ──┐
    └───► 1x1 CONV_2D (FULLY_CONNECTED) ──► c ──► ADD, the op's activation ──► y

All int8. The op keeps weights, bias and its input; y keeps its scale, so nothing else in the graph changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.compensation.fold import quantization
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Quantization, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import ACTIVATION_LIMITS, RULES
from edgeqwt.lowering.wide_forms import adding
from edgeqwt.scales.weights import bias_quantization, quantize, quantize_bias, weight_scales, widened_for_bias

NO_SUCH_KIND = "a compensation layer stands beside CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED"
NOT_INT8 = "a compensation layer stands beside int8 ops"
OTHER_SIZE = "the output has not the size of a 1x1 convolution of the input"
ACTIVATION = "ADD cannot apply the op's activation"
RATIO = "the scales' ratio is one that the kernels refuse"


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """c = matrix @ x + offset at every position, in real units.

    Attributes:
        matrix: float64, shape (output channels, input channels).
        offset: float64, shape (output channels,).
    """

    matrix: Array
    offset: Array


@dataclass(frozen=True)
class Cost:
    """What a layer adds: ops, bytes of weights and bias, multiply-accumulates per inference."""

    ops: int
    bytes: int
    macs: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.ops + other.ops, self.bytes + other.bytes, self.macs + other.macs)


def obstacle(graph: Graph, op: Op) -> str:
    """Why no layer can stand beside a linear op; empty where one can."""
    s = slots(op)
    x, y = graph.tensors[s.data].shape, graph.tensors[s.output].shape
    if {graph.tensors[t].dtype for t in (s.data, s.output)} != {"int8"}:
        return NOT_INT8
    if op.activation not in ACTIVATION_LIMITS:
        return ACTIVATION
    if op.kind == "FULLY_CONNECTED":
        features = graph.tensors[s.weight].shape[1]
        return "" if x == (*y[:-1], features) else OTHER_SIZE
    if op.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return NO_SUCH_KIND
    reached = tuple(-(-n // s) for n, s in zip(x[1:3], stride(op), strict=True))
    return "" if reached == y[1:3] else OTHER_SIZE


def stride(op: Op) -> tuple[int, int]:
    """Along height and width."""
    return int(op.options["strideH"]), int(op.options["strideW"])


def rows(op: Op, x: Array) -> Array:
    """The inputs that the layer sees at each output position, shape (samples, positions, channels).

    A strided convolution's layer has the same stride: it sees every so many positions.

    Args:
        op: without `obstacle`.
        x: the op's inputs, shape (samples, 1, ..., channels).
    """
    if op.kind != "FULLY_CONNECTED":
        down, right = stride(op)
        x = x.reshape(len(x), *x.shape[-3:])[:, ::down, ::right]
    return x.reshape(len(x), -1, x.shape[-1])


def added(graph: Graph, i: int, layer: LinearLayer, before: Quantization, correction: Quantization) -> Graph | None:
    """The graph with a layer beside op i; tensor indices stay valid.

    Args:
        graph: integer.
        i: an op without `obstacle`.
        layer: what to add to its output before the activation.
        before: int8 parameters of y', the op's output before the activation.
        correction: int8 parameters of c.

    Returns:
        None where kernels would refuse the scales.
    """
    op, s = graph.ops[i], slots(graph.ops[i])
    x, y = quantization(graph, s.data), quantization(graph, s.output)
    scale = widened_for_bias(weight_scales(layer.matrix, 0, 8), layer.offset, float(x.scale[0])).astype(np.float32)
    multipliers = float(x.scale[0]) * np.array(
        [scale.max() / correction.scale[0], quantization(graph, s.weight).scale.max() / before.scale[0]]
    )
    sums = max(float(before.scale[0]), float(correction.scale[0])) / float(y.scale[0])
    if multipliers.max() >= RULES[op.kind].largest_ratio or sums >= RULES["ADD"].largest_ratio:
        return None
    editor, out = Editor(graph), graph.tensors[s.output]
    inner = editor.add_tensor(Tensor(f"{out.name}/uncompensated", out.shape, "int8", None, before))
    c = editor.add_tensor(Tensor(f"{out.name}/compensation", out.shape, "int8", None, correction))
    parameters = [editor.add_tensor(t) for t in _constants(op, out.name, layer, scale, x)]
    for k, other in enumerate(graph.ops):
        if k != i:
            editor.add_op(other)
            continue
        editor.add_op(replace(op.with_options(fusedActivationFunction="NONE"), outputs=(inner,)))
        editor.add_op(_beside(op, (s.data, *parameters), c))
        editor.add_op(adding(8, inner, c, s.output, op.activation))
    return replace(graph, tensors=tuple(editor.tensors), ops=tuple(editor.ops))


def cost(graph: Graph, op: Op) -> Cost:
    """Of a layer beside an op."""
    s = slots(op)
    inputs, outputs = graph.tensors[s.data].shape[-1], graph.tensors[s.output].shape
    return Cost(ops=2, bytes=(inputs + 4) * outputs[-1], macs=inputs * math.prod(outputs))


def _beside(op: Op, inputs: tuple[int, ...], output: int) -> Op:
    """The layer's own op."""
    if op.kind == "FULLY_CONNECTED":
        return replace(op.with_options(fusedActivationFunction="NONE"), inputs=inputs, outputs=(output,))
    down, right = stride(op)
    options = {
        "padding": "VALID",
        "strideH": down,
        "strideW": right,
        "dilationHFactor": 1,
        "dilationWFactor": 1,
        "fusedActivationFunction": "NONE",
    }
    return Op("CONV_2D", inputs, (output,), options, version=RULES["CONV_2D"].version)


def _constants(op: Op, name: str, layer: LinearLayer, scale: Array, x: Quantization) -> tuple[Tensor, Tensor]:
    """Weights and bias of the layer's op."""
    wq, bq = Quantization.per_channel(scale, 0), bias_quantization(x.scale[0], scale)
    weights = quantize(layer.matrix, wq, -127, 127)
    if op.kind != "FULLY_CONNECTED":
        weights = weights[:, None, None, :]
    bias = quantize_bias(layer.offset, bq)
    return (
        Tensor(f"{name}/compensation_weights", weights.shape, "int8", weights, wq),
        Tensor(f"{name}/compensation_bias", bias.shape, "int32", bias, bq),
    )
