"""What each op means for quantization with 8-bit activations, as one table.

A row says which inputs are weights and bias, which tensors must share one
scale, which outputs have a fixed one, how the op is written in integers
(`Form`), and what the kernels that run it are known to do. Lowering, the
correction's folding, the checks and the support table in the docs all read
these rows. `opset16` has the rows of the ops that can have 16-bit activations.

Sources: TensorFlow Lite 8-bit quantization specification; operator versions from
tensorflow/lite/tools/versioning/op_version.cc; everything about kernels was measured
(tests/graph/test_opset.py measures it again) with LiteRT 2.1 and TFLite Micro of October 2026.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Array, Op


class Form(Enum):
    """How an op is written in integers."""

    DIRECT = "the same op on integer tensors"
    LINEAR = "the same op on integer activations, per-channel int8 weights and an int32 bias (int64 with int16)"
    LOOKUP = "a table of its 256 values: CAST, ADD, GATHER"
    CLAMP = "ADD of zero with the activation fused"
    RECIPROCAL = "a table where the numerator is one constant, else a product with such a table (edgeqwt.prepare)"
    COMPARE = "the same op on int32 copies of the integers"
    CONVERT = "CAST or QUANTIZE between integer types, or a table"
    REWRITTEN = "other ops, before lowering (edgeqwt.prepare)"
    INTEGER = "unchanged: it works on integers already"


ALL = (-1,)

# A result is rounded to the nearest step: 0.5, and a little for the multiplier's own rounding. The reference
# kernels round after the multiplication and again after the shift: when they shift by one bit, 0.25 more.
# Some round a third time, or hold a multiplier in few bits.
ROUNDED, ROUNDED_TWICE, ROUNDED_THRICE = 0.51, 0.76, 1.01


@dataclass(frozen=True)
class OpRule:
    """One row.

    Attributes:
        kind: the builtin operator.
        form: how it is written in integers when it touches float tensors.
        data, weight, bias: input slots of a linear op.
        channel_axis: the axis of the weights that holds output channels.
        same_scale: input slots whose tensors must have the scale of every output, and so of each
            other; `ALL` for every float input.
        symmetric: input slots whose tensors must have zero point 0.
        fixed_output: (scale, zero point) that the kernels demand of the output.
        elementwise: whether the op is a function of one input's elements, so that a table can stand in for it.
        ratio: of the input scales; divided by the output scale it must stay below `largest_ratio`.
        largest_ratio: beyond it a kernel overflows, refuses the whole model, or aborts the process.
        smallest_input: smallest input scale that the kernels take.
        right_scales: smallest and largest input scale at which every kernel is right; beyond, a table
            stands in for an elementwise op at 8 bits, and the 8-bit form for any op at 16.
        largest_count: elements that it may reduce to one.
        longest_row: elements along the last axis that its 8-bit kernels can sum; longer ones need 16 bits.
        version: operator version of the integer form.
        options: options that the integer form must have.
        bound: largest error of the integer kernels against the exact result of the same
            dequantized inputs, in steps of the output scale.
        tflm: whether the TFLite Micro interpreter has the integer form.
        micro: by how many steps TFLite Micro may differ from LiteRT's reference kernels.
        note: what a user should know; sentences for the support table.
    """

    kind: str
    form: Form = Form.DIRECT
    data: int = 0
    weight: int | None = None
    bias: int | None = None
    channel_axis: int = 0
    same_scale: tuple[int, ...] = ()
    symmetric: tuple[int, ...] = ()
    fixed_output: tuple[float, int] | None = None
    elementwise: bool = False
    ratio: Callable[[Sequence[float]], float] = max
    largest_ratio: float = float("inf")
    smallest_input: float = 0.0
    right_scales: tuple[float, float] = (0.0, float("inf"))
    largest_count: float = float("inf")
    longest_row: float = float("inf")
    version: int = 2
    options: Mapping[str, Any] = MappingProxyType({})
    bound: float = ROUNDED_TWICE
    tflm: bool = True
    micro: int = 0
    note: str = ""

    @property
    def linear(self) -> bool:
        """Whether a gain and an offset can be folded into the op."""
        return self.form is Form.LINEAR

    def tied_inputs(self, op: Op) -> tuple[int, ...]:
        """The op's input slots that must have its outputs' scale."""
        return tuple(range(len(op.inputs))) if self.same_scale == ALL else self.same_scale


F = Form


def linear(
    kind: str, *, data: int = 0, bias: int = 2, axis: int = 0, version: int = 3, micro: int = 0, note: str = ""
) -> OpRule:
    """A row of a linear op; XNNPACK refuses requantization multipliers of 256 and more."""
    return OpRule(
        kind,
        F.LINEAR,
        data=data,
        weight=1,
        bias=bias,
        channel_axis=axis,
        version=version,
        largest_ratio=255.0,
        micro=micro,
        note=note,
    )


def moving(kind: str, slots: tuple[int, ...] = (0,), version: int = 2, tflm: bool = True, note: str = "") -> OpRule:
    """A row of an op that only moves or picks values: one scale, no error."""
    return OpRule(kind, same_scale=slots, version=version, bound=0.0, tflm=tflm, note=note)


def compared(kind: str) -> OpRule:
    """A row of a comparison."""
    return OpRule(kind, F.COMPARE, same_scale=ALL, version=1, bound=0.0, note=COMPARED)


def integer(kind: str, tflm: bool = True) -> OpRule:
    """A row of an op that has no float tensors to begin with."""
    return OpRule(kind, F.INTEGER, version=1, bound=0.0, tflm=tflm)


def table(kind: str, note: str = "") -> OpRule:
    """A row of a function of one variable that the runtimes do not all have on int8."""
    return OpRule(kind, F.LOOKUP, elementwise=True, version=1, bound=ROUNDED, note=note)


def clamped(kind: str) -> OpRule:
    """A row of a RELU; its limits are ADD's."""
    return OpRule(kind, F.CLAMP, largest_ratio=200.0, note="Fused into the op before it where that is possible.")


def rewritten(kind: str, note: str, bound: float = ROUNDED_TWICE, micro: int = 0) -> OpRule:
    """A row of an op that `prepare` writes with other ops."""
    return OpRule(kind, F.REWRITTEN, version=1, bound=bound, micro=micro, note=note)


COMPARED = "The int8 kernels abort at scales of 1 and more and go blind below 1/256: int32 is exact."
# Levels of products, each rounded at its own scale: so much for the tested factors.
PRODUCT = 8.0
POSITIONS = (
    "Positions have 10 bits: the last of n lines is off by n/2048 of a pixel, unless the factor is 2, 4, 8, ...; "
    "XNNPACK is exact."
)
ONE_VARIABLE = "Where one of both inputs is one number."
UNREAD = "Where SAME's kernels end before the image, XNNPACK gives the bias alone: VALID, or a SLICE first, instead."
ROUNDS = "TFLite Micro rounds exact ties differently."

_ROWS = (
    # linear ops: compensation folds into them
    linear("CONV_2D", note=UNREAD),
    linear("DEPTHWISE_CONV_2D", axis=3, note=UNREAD),
    linear("TRANSPOSE_CONV", data=2, bias=3),
    linear("FULLY_CONNECTED", version=4, micro=1, note="TFLite Micro differs by one step now and then."),
    # arithmetic on two tensors
    OpRule(
        "BATCH_MATMUL",
        symmetric=(1,),
        note="The right side has zero point 0: XNNPACK takes it for 0 anyway. If constant and 2-D: FULLY_CONNECTED.",
    ),
    # XNNPACK computes nonsense from a ratio of 256 on; the reference kernels abort from 2^19 on.
    OpRule("ADD", largest_ratio=200.0),
    OpRule("SUB", largest_ratio=200.0),
    OpRule("MUL", ratio=math.prod, largest_ratio=200.0, version=3, micro=1, note=ROUNDS),
    # LiteRT's int8 DIV refuses divisors whose integer is 0 (not whose value is), and all runtimes shift
    # by more than 31 bits, into nonsense, where a numerator of one or two steps meets a large divisor.
    OpRule(
        "DIV",
        F.RECIPROCAL,
        version=1,
        bound=3.0,
        micro=1,
        note="By a constant: MUL. x / y: MUL of x by a table of 1 / y, the more exact the less 1 / y varies. "
        "The int8 kernels of DIV are not used: they give wrong results for small numerators.",
    ),
    # The kernels scale by (2 max(s1, s2))^2 / (2^14 s) and check that it is below 1.
    OpRule("SQUARED_DIFFERENCE", ratio=lambda s: max(s) ** 2, largest_ratio=2.0**11),
    moving("MAXIMUM", ALL),
    moving("MINIMUM", ALL),
    # reductions and pooling
    # The reference kernels shift sums left in 32 bits: 256 times the ratio must stay below 2^31, or they wrap around.
    OpRule("MEAN", largest_ratio=2.0**22),
    rewritten("SUM", "Written as MEAN and MUL: LiteRT's reference kernel saturates.", micro=1),
    moving("REDUCE_MAX"),
    moving("REDUCE_MIN"),
    rewritten("REDUCE_PROD", "Of at most 64 elements: written as products of halves.", bound=PRODUCT),
    rewritten("CUMSUM", "Of at most 1024 elements: a product with a triangle of ones.", micro=1),
    OpRule("AVERAGE_POOL_2D", same_scale=(0,), note="A whole map's average is written as MEAN, at its own scale."),
    OpRule("MAX_POOL_2D", same_scale=(0,), bound=ROUNDED, note="Exact but for the ends of a fused activation."),
    OpRule("ARG_MAX", bound=0.0),
    OpRule("ARG_MIN", bound=0.0),
    # activations
    # The reference kernels shift by 23 + log2(sum of exponentials), and abort beyond 31: a sum of 512, as that of
    # 512 equal logits. Behind such a sum, a step of 1/256 leaves nothing of most values anyway.
    OpRule(
        "SOFTMAX",
        bound=ROUNDED,
        fixed_output=(1 / 256, -128),
        smallest_input=2.0**-24,
        longest_row=511,
        note="Attention over more than 511 elements has 16 bits: where these are alike, kernels end the process.",
    ),
    OpRule(
        "LOG_SOFTMAX",
        bound=ROUNDED,
        fixed_output=(16 / 256, 127),
        smallest_input=2.0**-24,
        note="Wrong in the reference kernels and TFLite Micro where exponentials, the largest being 1, sum up to 4096: "
        "of as many classes or more that are nearly alike.",
    ),
    # TFLite Micro's kernels jump at zero when a step is a large part of the curve.
    *(
        OpRule(
            kind,
            bound=ROUNDED,
            fixed_output=fixed,
            elementwise=True,
            right_scales=(2.0**-24, 2.0),
            micro=1,
            note="TFLite Micro differs by one step now and then.",
        )
        for kind, fixed in (("LOGISTIC", (1 / 256, -128)), ("TANH", (1 / 128, 0)))
    ),
    OpRule("L2_NORMALIZATION", bound=ROUNDED, fixed_output=(1 / 128, 0), note="Has no epsilon."),
    # The kernels check that the exponent of s_x / (128 s_y) is not positive.
    OpRule(
        "HARD_SWISH",
        bound=ROUNDED_THRICE,
        elementwise=True,
        largest_ratio=100.0,
        right_scales=(0.0, 2.0**20),
        version=1,
    ),
    OpRule("GELU", bound=ROUNDED, elementwise=True, tflm=False, note="A table where the target has no such op."),
    clamped("RELU"),
    clamped("RELU6"),
    clamped("RELU_N1_TO_1"),
    # XNNPACK's multipliers have 8 bits behind the point: 255 steps are off by half of one, before rounding.
    OpRule("LEAKY_RELU", bound=ROUNDED_THRICE, elementwise=True, version=1, micro=1, note=ROUNDS),
    OpRule("PRELU", version=1, micro=1, note=ROUNDS),
    OpRule("ABS", elementwise=True, micro=1, note=ROUNDS),
    rewritten("RELU_0_TO_1", "Written as RELU6 of 6 x, over 6."),
    table("ELU"),
    table("EXP"),
    table("LOG", note="At zero and below, the smallest value of the output."),
    table("SQRT"),
    table("RSQRT"),
    table("POW", ONE_VARIABLE),
    table("ATAN2", ONE_VARIABLE),
    table("SIN"),
    table("COS"),
    table("FLOOR"),
    table("CEIL"),
    table("ROUND"),
    table("SIGN"),
    rewritten("SQUARE", "Written as MUL.", micro=1),
    rewritten("NEG", "Written as MUL by -1.", micro=1),
    # moving values about: one scale for all
    moving("RESHAPE", version=1),
    moving("SQUEEZE", version=1),
    moving("EXPAND_DIMS", version=1),
    moving("TRANSPOSE"),
    moving("CONCATENATION", ALL),
    moving("PACK", ALL),
    moving("UNPACK"),
    moving("SPLIT", (1,)),
    moving("SPLIT_V"),
    moving("SLICE"),
    moving("STRIDED_SLICE"),
    moving("GATHER"),
    moving("GATHER_ND", version=1),
    moving("TOPK_V2", version=2, tflm=False, note="Values and positions; equal integers keep their order."),
    rewritten("REVERSE_V2", "Written as STRIDED_SLICE with steps of -1.", bound=0.0),
    rewritten("DYNAMIC_UPDATE_SLICE", "At a constant position: written as CONCATENATION.", bound=0.0),
    rewritten("ONE_HOT", "Of 1 and 0: written as EQUAL.", bound=0.0),
    rewritten("EMBEDDING_LOOKUP", "Written as GATHER.", bound=0.0),
    moving("PAD"),
    moving("PADV2", (0, 2)),
    moving("MIRROR_PAD"),
    OpRule("RESIZE_BILINEAR", same_scale=(0,), note=POSITIONS),
    moving("RESIZE_NEAREST_NEIGHBOR"),
    moving("SPACE_TO_DEPTH"),
    rewritten("DEPTH_TO_SPACE", "Written as RESHAPE and TRANSPOSE: LiteRT has no reference kernel.", bound=0.0),
    moving("SPACE_TO_BATCH_ND", note="Padding becomes a PAD of its own: TFLite Micro pads with a wrong value."),
    moving("BATCH_TO_SPACE_ND"),
    moving("TILE", version=1, tflm=False),
    moving("BROADCAST_TO", version=3),
    rewritten("SELECT", "Written as SELECT_V2.", bound=0.0),
    moving("SELECT_V2", (1, 2), version=1),
    moving("FILL", (1,), version=3),
    # comparisons, conversions
    compared("EQUAL"),
    compared("NOT_EQUAL"),
    compared("GREATER"),
    compared("GREATER_EQUAL"),
    compared("LESS"),
    compared("LESS_EQUAL"),
    OpRule(
        "CAST",
        F.CONVERT,
        fixed_output=(1.0, 0),
        version=3,
        bound=0.0,
        note="To float at scale 1: values beyond -128..127 have 16 bits. TFLite Micro has no int64 output.",
    ),
    OpRule("QUANTIZE", F.CONVERT, version=1, bound=0.5 + ROUNDED_TWICE, note="The float op rounds as well."),
    OpRule("DEQUANTIZE", F.CONVERT, version=1),
    # index arithmetic, on integers only
    integer("SHAPE"),
    integer("LOGICAL_AND"),
    integer("LOGICAL_OR"),
    integer("LOGICAL_NOT"),
    integer("REDUCE_ALL"),
    rewritten("REDUCE_ANY", "Written as REDUCE_ALL.", bound=0.0),
    integer("FLOOR_DIV", tflm=False),
    integer("FLOOR_MOD", tflm=False),
    integer("RANGE", tflm=False),
)

RESHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
"""Ops that keep the values and their order."""
CUTS, SPLITS, JOINS = ("SLICE", "STRIDED_SLICE"), ("SPLIT", "SPLIT_V", "UNPACK"), ("CONCATENATION", "PACK")
MOVES = (*RESHAPES, "TRANSPOSE", *CUTS)
"""Ops with one tensor of values, of which they keep all or some."""
RULES: Mapping[str, OpRule] = MappingProxyType({row.kind: row for row in _ROWS})

# Limits of a fused activation in real values; None means unlimited.
ACTIVATION_LIMITS: Mapping[str, tuple[float | None, float | None]] = MappingProxyType(
    {"NONE": (None, None), "RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
)


def activate(values: Array, activation: str) -> Array:
    """A fused activation applied to real values."""
    low, high = ACTIVATION_LIMITS[activation]
    return np.clip(values, low, high) if (low, high) != (None, None) else values
