"""The op table's rows for 16-bit activations: what differs from 8 bits, for every op that has such a form.

Activations are int16 with zero point 0, weights int8 per channel, biases int64. An op without a
row here stays at 8 bits in any graph: its int16 kernels are missing, wrong, or may stop (DIV).

Sources: TensorFlow Lite 16x8 quantization specification; operator versions from
tensorflow/lite/tools/versioning/op_version.cc; everything about kernels was measured
(tests/graph/test_opset16.py measures it again) with LiteRT 2.1 and TFLite Micro of October 2026.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import ROUNDED, ROUNDED_TWICE, ROUNDS, RULES, Form, OpRule

BITS: Mapping[str, int] = MappingProxyType({"int8": 8, "int16": 16})
"""The types of activations, and their widths."""

DTYPE: Mapping[int, str] = MappingProxyType({bits: dtype for dtype, bits in BITS.items()})

# 64-bit accumulators are scaled by a multiplier of 16 bits, which is off by 2^-15 at most: one step of the largest.
COARSE = ROUNDED + 1.0
LINEAR: Mapping[str, Any] = MappingProxyType({"bound": COARSE, "largest_ratio": 127.0})  # multiplied by < 2^7
# Twice the larger input scale, over 2^15 output scales, must be below 1. Inputs are rounded to 2^-14 of the larger one
# before: at the largest ratio half a step of the output, so that each is off by a quarter.
SUMMED: Mapping[str, Any] = MappingProxyType(
    {"bound": ROUNDED + 2 * 0.25, "largest_ratio": 2.0**13, "options": MappingProxyType({"potScaleInt16": False})}
)
BETWEEN_POINTS = "Interpolates between 513 points: exact where the function is flat, off where it is steep."


def wide(kind: str, version: int, *, note: str = "", **changes: Any) -> OpRule:
    """The 8-bit row with what is different at 16; scale limits of 8-bit kernels do not carry over."""
    lifted: dict[str, Any] = {
        "symmetric": (),
        "largest_ratio": math.inf,
        "smallest_input": 0.0,
        "longest_row": math.inf,
        "micro": 0,
    }
    return replace(RULES[kind], version=version, note=note, **{**lifted, "right_scales": (0.0, math.inf), **changes})


def interpolated(kind: str, version: int, bound: float, micro: int = 0, tflm: bool = False) -> OpRule:
    """A row of a function that the int16 kernels interpolate; the bound is for the tested curves."""
    return wide(kind, version, form=Form.DIRECT, bound=bound, micro=micro, tflm=tflm, note=BETWEEN_POINTS)


_ROWS = (
    wide("CONV_2D", 4, **LINEAR),
    wide("DEPTHWISE_CONV_2D", 5, **LINEAR),
    wide("TRANSPOSE_CONV", 3, **LINEAR),
    wide("FULLY_CONNECTED", 7, micro=1, note="TFLite Micro differs by one step now and then.", **LINEAR),
    wide("BATCH_MATMUL", 3, ratio=math.prod, **LINEAR),
    wide("ADD", 3, **SUMMED),
    wide("SUB", 5, **SUMMED),
    # A product of two int16 values leaves an int32 one bit to shift by.
    wide("MUL", 4, largest_ratio=1.0, micro=1, note=ROUNDS),
    wide("MAXIMUM", 4),
    wide("MINIMUM", 4),
    wide(
        "MEAN",
        3,
        largest_count=2.0**16,
        largest_ratio=2.0**14,
        note="Of at most 65536 elements: the kernels' sums have 32 bits.",
    ),
    wide("SUM", 1, micro=1, note="Written as MEAN and MUL."),
    wide("REDUCE_MAX", 3, tflm=False),
    wide("REDUCE_MIN", 3, tflm=False),
    wide("REDUCE_PROD", 1, bound=12.0, micro=6, note="Written as products of halves."),
    wide("CUMSUM", 1, bound=COARSE, micro=1, note="Written as FULLY_CONNECTED."),
    wide("AVERAGE_POOL_2D", 3),
    wide("MAX_POOL_2D", 3),
    wide("ARG_MAX", 1, form=Form.COMPARE, tflm=False, note="On int32 copies."),
    wide("ARG_MIN", 1, form=Form.COMPARE, tflm=False, note="On int32 copies."),
    # Beyond a scale of 5 the scaling of these kernels' inputs overflows.
    wide(
        "SOFTMAX",
        3,
        fixed_output=(2.0**-15, 0),
        right_scales=(0.0, 4.0),
        bound=20.0,
        micro=1,
        note="Differences beyond 10 count as 10: two steps of error per class, at worst.",
    ),
    wide(
        "LOG_SOFTMAX",
        2,
        fixed_output=None,
        bound=250.0,
        micro=1,
        note="x - mean(x - LOG_SOFTMAX(x)), the inner one at 8 bits: its rounding by 1/32 averages out over classes. "
        "That one ends at -16: where values lie further apart, it is read at the largest.",
    ),
    wide("LOGISTIC", 3, fixed_output=(2.0**-15, 0), right_scales=(2.0**-30, 4.0), bound=9.0),
    wide("TANH", 3, fixed_output=(2.0**-15, 0), right_scales=(2.0**-30, 4.0), bound=18.0),
    wide("RELU", 3, **SUMMED),
    wide("RELU6", 3, **SUMMED),
    wide("RELU_N1_TO_1", 3, **SUMMED),
    wide("LEAKY_RELU", 2, bound=ROUNDED_TWICE, micro=1, note=ROUNDS),
    wide("ABS", 3),
    interpolated("GELU", 2, bound=280.0),
    interpolated("EXP", 2, bound=175.0),
    interpolated("LOG", 2, bound=1720.0),
    interpolated("RSQRT", 3, bound=300.0, micro=300, tflm=True),
    wide("SQRT", 1, form=Form.DIRECT, bound=1.0, tflm=False),
    wide("SQUARE", 1, micro=1, note="Written as MUL."),
    wide("NEG", 1, micro=1, note="Written as MUL by -1."),
    wide("RELU_0_TO_1", 1, micro=1, bound=1.01, note="Written as RELU6 of 6 x, over 6."),
    wide("RESHAPE", 1),
    wide("SQUEEZE", 1),
    wide("EXPAND_DIMS", 1),
    wide("TRANSPOSE", 5),
    wide("CONCATENATION", 3),
    wide("PACK", 3),
    wide("UNPACK", 4),
    wide("SPLIT", 4),
    wide("SPLIT_V", 2),
    wide("SLICE", 4),
    wide("STRIDED_SLICE", 2),
    wide("GATHER", 4, tflm=False),
    wide("GATHER_ND", 3, tflm=False),
    wide("TOPK_V2", 2, tflm=False),
    wide("REVERSE_V2", 1, note="Written as STRIDED_SLICE."),
    wide("DYNAMIC_UPDATE_SLICE", 1, note="Written as CONCATENATION."),
    wide("EMBEDDING_LOOKUP", 1, tflm=False, note="Written as GATHER."),
    wide("PAD", 3),
    wide("PADV2", 3),
    wide("MIRROR_PAD", 3, tflm=False),
    wide("RESIZE_BILINEAR", 4, bound=130.0, tflm=False, note="Positions have 10 bits."),
    wide("RESIZE_NEAREST_NEIGHBOR", 4),
    wide("DEPTH_TO_SPACE", 1, note="Written as RESHAPE and TRANSPOSE."),
    wide("SPACE_TO_BATCH_ND", 4, tflm=False),
    wide("BATCH_TO_SPACE_ND", 4, tflm=False),
    wide("BROADCAST_TO", 3),
    wide("SELECT", 1, note="Written as SELECT_V2."),
    wide("SELECT_V2", 1),
    wide("FILL", 3, tflm=False),
    *(wide(kind, 1) for kind in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")),
    wide("CAST", 1, note="To float, at scale 1, and to bool; to integers through 8 bits."),
    wide("QUANTIZE", 1),
)

RULES16: Mapping[str, OpRule] = MappingProxyType({row.kind: row for row in _ROWS})


def rule_at(kind: str, bits: int) -> OpRule:
    """The row of an op with activations of 8 or 16 bits; the op must have one."""
    return (RULES16 if bits == 16 else RULES)[kind]


def bits_of(graph: Graph, op: Op) -> int:
    """The width at which an op of an integer graph works: 16 where any of its activations is int16, else 8."""
    return max((BITS.get(graph.tensors[t].dtype, 8) for t in (*op.inputs, *op.outputs) if t >= 0), default=8)


def stays_float(graph: Graph, op: Op) -> bool:
    """Whether an op of an integer graph computes in float32; what converts to and from floats does not."""
    if op.kind in ("QUANTIZE", "DEQUANTIZE"):
        return False
    return any(graph.tensors[t].is_float and not graph.tensors[t].is_constant for t in op.tensors if t >= 0)
