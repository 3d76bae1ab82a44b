"""Custom ops of well-known models that compute what a built-in op computes, written as that."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Op, Tensor

TRANSPOSE_CONV_BIAS = "Convolution2DTransposeBias"
"""MediaPipe's (mediapipe/util/tflite/operations/transpose_conv_bias.cc): TRANSPOSE_CONV with a bias, and an output of
the size that TensorFlow gives it. Its options are TfLiteTransposeConvParams: padding, width and height of the stride.
"""
PADDINGS = {1: "SAME", 2: "VALID"}
PARAMS = struct.Struct("<3i")


def as_builtin(ops: tuple[Op, ...], tensors: tuple[Tensor, ...]) -> tuple[tuple[Op, ...], tuple[Tensor, ...]]:
    """Ops and tensors, such custom ops among them as built-in ones."""
    if not any(op.custom_code == TRANSPOSE_CONV_BIAS for op in ops):
        return ops, tensors
    made, grown = list[Op](), list(tensors)
    for op in ops:
        params = op.extra.get("customOptions") or b""
        padding, width, height = PARAMS.unpack(params) if len(params) == PARAMS.size else (0, 0, 0)
        if op.custom_code != TRANSPOSE_CONV_BIAS or padding not in PADDINGS or len(op.inputs) != 3:
            made.append(op)
            continue
        x, weights, bias = op.inputs
        shape = np.array(tensors[op.outputs[0]].shape, np.int32)
        grown.append(Tensor(f"{tensors[op.outputs[0]].name}/shape", shape.shape, "int32", shape))
        options = {
            "padding": PADDINGS[padding],
            "strideW": width,
            "strideH": height,
            "fusedActivationFunction": "NONE",
        }
        inputs = (len(grown) - 1, weights, x, bias)
        made.append(
            replace(op, kind="TRANSPOSE_CONV", inputs=inputs, options=options, version=3, custom_code="", extra={})
        )
    return tuple(made), tuple(grown)
