"""What each op means for quantization, as one table.

A row says which inputs are weights and bias, which tensors must share one
scale, which outputs have a fixed one, how the op is written in integers
(`Form`), and what the kernels that run it are known to do. Lowering, the
correction's folding, the checks and the support table in the docs all read
these rows; nothing else in the code tests an op's kind to decide how it quantizes.

Sources: TensorFlow Lite 8-bit quantization specification; the kernels named in
the rows; operator versions from tensorflow/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np

from edgeqwt.graph.graph import Array, Op


class Form(Enum):
    """How an op is written in integers."""

    DIRECT = "the same op on int8 tensors"
    LINEAR = "the same op on int8 activations, per-channel int8 weights and an int32 bias"
    LOOKUP = "a table of its 256 values, read with CAST, ADD and GATHER"
    GUARDED = "the same op, its divisor kept away from zero by MAXIMUM or MINIMUM"
    INTEGER = "unchanged: it works on integers already"


@dataclass(frozen=True)
class OpRule:
    """One row.

    Attributes:
        kind: the builtin operator.
        form: how it is written in integers.
        data, weight, bias: input slots of a linear op.
        channel_axis: the axis of the weights that holds output channels.
        same_scale: input slots whose tensors must have the scale of every output;
            `ALL` for every float input.
        fixed_output: (scale, zero point) that the int8 kernels demand of the output.
        version: operator version of the int8 form.
        function: for LOOKUP, the float function of one variable.
        bound: largest error of the int8 kernels against the exact result of the same
            dequantized inputs, in steps of the output scale.
        tflm: whether the TFLite Micro interpreter has the int8 form.
        note: what a user should know; a sentence for the support table.
    """

    kind: str
    form: Form = Form.DIRECT
    data: int = 0
    weight: int | None = None
    bias: int | None = None
    channel_axis: int = 0
    same_scale: tuple[int, ...] = ()
    fixed_output: tuple[float, int] | None = None
    version: int = 2
    function: Callable[[Array], Array] | None = None
    bound: float = 1.0
    tflm: bool = True
    note: str = ""

    @property
    def linear(self) -> bool:
        """Whether the op is a place where gain and offset can be folded in."""
        return self.form is Form.LINEAR

    def tied_inputs(self, op: Op) -> tuple[int, ...]:
        """The op's input slots that must have its outputs' scale."""
        return tuple(range(len(op.inputs))) if self.same_scale == ALL else self.same_scale


ALL = (-1,)
F = Form

_ROWS = (
    # linear ops: the places of compensation
    OpRule("CONV_2D", F.LINEAR, weight=1, bias=2, channel_axis=0, version=3),
    OpRule("DEPTHWISE_CONV_2D", F.LINEAR, weight=1, bias=2, channel_axis=3, version=3),
    OpRule("TRANSPOSE_CONV", F.LINEAR, data=2, weight=1, bias=3, channel_axis=0, version=3),
    OpRule("FULLY_CONNECTED", F.LINEAR, weight=1, bias=2, channel_axis=0, version=4),
    # arithmetic on two tensors
    OpRule("BATCH_MATMUL", version=2, note="Per tensor on both sides; no bias to fold an offset into."),
    OpRule("ADD"),
    OpRule("SUB"),
    OpRule("MUL"),
    OpRule("DIV", F.GUARDED, tflm=True, note="The divisor must not change sign on calibration data."),
    OpRule("SQUARED_DIFFERENCE"),
    OpRule("MAXIMUM", same_scale=ALL),
    OpRule("MINIMUM", same_scale=ALL),
    # reductions and pooling
    OpRule("MEAN"),
    OpRule("SUM"),
    OpRule("REDUCE_MAX", same_scale=(0,)),
    OpRule("REDUCE_MIN", same_scale=(0,)),
    OpRule("AVERAGE_POOL_2D", same_scale=(0,)),
    OpRule("MAX_POOL_2D", same_scale=(0,)),
    OpRule("ARG_MAX"),
    OpRule("ARG_MIN"),
    # activations
    OpRule("SOFTMAX", fixed_output=(1 / 256, -128)),
    OpRule("LOG_SOFTMAX", fixed_output=(16 / 256, 127)),
    OpRule("LOGISTIC", fixed_output=(1 / 256, -128)),
    OpRule("TANH", fixed_output=(1 / 128, 0)),
    OpRule("L2_NORMALIZATION", fixed_output=(1 / 128, 0)),
    OpRule("HARD_SWISH", version=1),
    OpRule("GELU", tflm=False),
    OpRule("RELU"),
    OpRule("RELU6"),
    OpRule("RELU_0_TO_1", version=1, tflm=False),
    OpRule("RELU_N1_TO_1", version=1, tflm=False),
    OpRule("LEAKY_RELU"),
    OpRule("PRELU", version=1),
    OpRule("ELU", version=1),
    OpRule("ABS"),
    # functions of one variable without an int8 kernel everywhere
    OpRule("EXP", F.LOOKUP, function=np.exp),
    OpRule("LOG", F.LOOKUP, function=np.log),
    OpRule("SQRT", F.LOOKUP, function=np.sqrt),
    OpRule("RSQRT", F.LOOKUP, function=lambda x: 1 / np.sqrt(x)),
    OpRule("SIN", F.LOOKUP, function=np.sin),
    OpRule("COS", F.LOOKUP, function=np.cos),
    OpRule("SQUARE", F.LOOKUP, function=np.square),
    OpRule("NEG", F.LOOKUP, function=np.negative),
    OpRule("FLOOR", F.LOOKUP, function=np.floor),
    OpRule("CEIL", F.LOOKUP, function=np.ceil),
    OpRule("ROUND", F.LOOKUP, function=np.round),
    OpRule("SIGN", F.LOOKUP, function=np.sign),
    # moving values about: one scale for all
    OpRule("RESHAPE", same_scale=(0,), version=1),
    OpRule("SQUEEZE", same_scale=(0,), version=1),
    OpRule("EXPAND_DIMS", same_scale=(0,), version=1),
    OpRule("TRANSPOSE", same_scale=(0,)),
    OpRule("CONCATENATION", same_scale=ALL),
    OpRule("PACK", same_scale=ALL),
    OpRule("UNPACK", same_scale=(0,)),
    OpRule("SPLIT", same_scale=(1,)),
    OpRule("SPLIT_V", same_scale=(0,)),
    OpRule("SLICE", same_scale=(0,)),
    OpRule("STRIDED_SLICE", same_scale=(0,)),
    OpRule("GATHER", same_scale=(0,)),
    OpRule("GATHER_ND", same_scale=(0,)),
    OpRule("EMBEDDING_LOOKUP", same_scale=(1,), note="Written as GATHER."),
    OpRule("PAD", same_scale=(0,)),
    OpRule("PADV2", same_scale=(0, 2)),
    OpRule("MIRROR_PAD", same_scale=(0,)),
    OpRule("RESIZE_BILINEAR", same_scale=(0,)),
    OpRule("RESIZE_NEAREST_NEIGHBOR", same_scale=(0,)),
    OpRule("SPACE_TO_DEPTH", same_scale=(0,)),
    OpRule("DEPTH_TO_SPACE", same_scale=(0,)),
    OpRule("SPACE_TO_BATCH_ND", same_scale=(0,)),
    OpRule("BATCH_TO_SPACE_ND", same_scale=(0,)),
    OpRule("TILE", same_scale=(0,), version=1, tflm=False),
    OpRule("BROADCAST_TO", same_scale=(0,)),
    OpRule("SELECT", same_scale=(1, 2), tflm=False),
    OpRule("SELECT_V2", same_scale=(1, 2), version=1),
    # comparisons, conversions
    OpRule("EQUAL"),
    OpRule("NOT_EQUAL"),
    OpRule("GREATER"),
    OpRule("GREATER_EQUAL"),
    OpRule("LESS"),
    OpRule("LESS_EQUAL"),
    OpRule("CAST", version=1, note="From integers at scale 1; to integers as a table."),
    OpRule("QUANTIZE", version=1),
    OpRule("DEQUANTIZE", version=2),
    # index arithmetic, on integers only
    OpRule("SHAPE", F.INTEGER, version=1),
    OpRule("LOGICAL_AND", F.INTEGER, version=1),
    OpRule("LOGICAL_OR", F.INTEGER, version=1),
    OpRule("LOGICAL_NOT", F.INTEGER, version=1),
    OpRule("FILL", same_scale=(1,), version=1),
)

RULES: Mapping[str, OpRule] = MappingProxyType({row.kind: row for row in _ROWS})

# Limits of a fused activation in real values; None means unlimited.
ACTIVATION_LIMITS: Mapping[str, tuple[float | None, float | None]] = MappingProxyType(
    {
        "NONE": (None, None),
        "RELU": (0.0, None),
        "RELU6": (0.0, 6.0),
        "RELU_N1_TO_1": (-1.0, 1.0),
    }
)


def activate(values: Array, activation: str) -> Array:
    """A fused activation applied to real values."""
    low, high = ACTIVATION_LIMITS[activation]
    return np.clip(values, low, high) if (low, high) != (None, None) else values
