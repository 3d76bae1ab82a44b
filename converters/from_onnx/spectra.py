"""Fourier transforms of ONNX models, STFT and DFT, as products with sines and cosines (STFT-17, DFT-17 and 20).

onnx2tf stores a transform's matrix for every frame, or knows no op for it. And onnxruntime 1.26 computes transforms
whose length is no power of 2 by Bluestein's algorithm in float32: its result of 400 samples errs fifty times as much
as plain sums do, which the logarithm of a quiet band makes larger than all that rounding explains.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from edgeqwt.calibration.samples import Sample
from edgeqwt.converters.from_onnx.nodes import Editing, Shape, Values, attributes
from edgeqwt.converters.from_onnx.source import OnnxRunner
from edgeqwt.graph.graph import Array
from edgeqwt.prepare.spectra import turns

AXIS_AS_INPUT = 20  # the opset from which on DFT reads its axis
CLOSE = 2**-10  # of the largest value: a wrong transform differs by the size of what it computes
LARGEST = 1 << 24  # elements of a matrix that is worth storing


def stft(editing: Editing, node: onnx.NodeProto) -> bool:
    """STFT as one convolution whose kernels are the sines and cosines, stored once: (B, L) to (B, frames, F, 2)."""
    shape, size = editing.values.shapes.get(node.input[0], ()), length(editing.values, node)
    window, step = (_constant(editing.values, node, i) for i in (2, 1))
    samples = shape[1] if len(shape) > 1 else 0
    if step is None or not size or (len(shape) == 3 and shape[2] != 1) or samples < size:
        return False
    if window is None and any(node.input[2:3]):
        return False  # a window that is computed from inputs
    hop = int(step.reshape(()))
    bins = size // 2 + 1 if attributes(node).get("onesided", 1) else size
    kernels = _waves(size, bins, size) * (1.0 if window is None else window.astype(np.float64))
    frames, batch = (samples - size) // hop + 1, shape[0]
    weights = kernels.reshape(2 * bins, 1, 1, size).astype(np.float32)
    signal = editing.reshaped(node.input[0], (batch, 1, 1, samples))
    made = editing.add(
        "Conv", [signal, editing.array(weights)], (batch, 2 * bins, 1, frames), kernel_shape=[1, size], strides=[1, hop]
    )
    rows = editing.reshaped(made, (batch, 2 * bins, frames))
    turned = editing.add("Transpose", [rows], (batch, frames, 2 * bins), perm=(0, 2, 1))
    editing.reshaped(turned, (batch, frames, bins, 2), node.output[0])
    return True


def dft(editing: Editing, node: onnx.NodeProto) -> bool:
    """DFT along one axis of real or complex values (..., 1 or 2), or its inverse, as a product with a matrix."""
    shape, given = editing.values.shapes.get(node.input[0], ()), attributes(node)
    size, axis = length(editing.values, node), _axis(editing.values, node)
    inverse, onesided = given.get("inverse", 0), given.get("onesided", 0)
    if not size or axis is None or len(shape) < 2 or shape[-1] not in (1, 2) or (inverse and onesided):
        return False
    axis, bins = axis % len(shape), size // 2 + 1 if onesided else size
    if axis == len(shape) - 1 or 2 * bins * shape[axis] * shape[-1] > LARGEST:
        return False
    matrix = _matrix(shape[axis], shape[-1], size, bins, bool(inverse))
    order = [*(a for a in range(len(shape) - 1) if a != axis), axis, len(shape) - 1]
    back = [order.index(a) for a in range(len(shape))]
    first: Shape = tuple(shape[a] for a in order[:-2])
    x = node.input[0]
    if order != sorted(order):
        x = editing.add("Transpose", [x], tuple(shape[a] for a in order), perm=order)
    rows = editing.reshaped(x, (math.prod(first), shape[axis] * shape[-1]))
    product = editing.add("MatMul", [rows, editing.array(matrix)], (math.prod(first), 2 * bins))
    if order == sorted(order):
        editing.reshaped(product, (*first, bins, 2), node.output[0])
    else:
        editing.add("Transpose", [editing.reshaped(product, (*first, bins, 2))], output=node.output[0], perm=back)
    return True


def length(values: Values, node: onnx.NodeProto) -> int:
    """Of how many values a transform is; 0 where nobody knows."""
    if node.op_type == "STFT":
        known, window = _constant(values, node, 3), _constant(values, node, 2)
        return int(known.reshape(())) if known is not None else 0 if window is None else window.size
    known, shape, axis = _constant(values, node, 1), values.shapes.get(node.input[0], ()), _axis(values, node)
    if any(node.input[1:2]) or axis is None or not -len(shape) <= axis < len(shape):
        return 0 if known is None else int(known.reshape(()))
    return shape[axis]


def in_sums(model: onnx.ModelProto, sample: Sample) -> onnx.ModelProto:
    """The model with the transforms that onnxruntime computes with large errors written as sums; itself without such.

    Args:
        model: with static shapes.
        sample: on which both must agree but for these errors; else the model stays what it is.
    """
    if not any(node.op_type in RULES and not node.domain for node in model.graph.node):
        return model
    values = Values(model)
    editing, changed = Editing(values), False
    for node in model.graph.node:
        editing.at(node)
        size = length(values, node) if node.op_type in RULES and not node.domain else 0
        if size & (size - 1) and editing.replaced(RULES[node.op_type], node):
            changed = True
        else:
            editing.nodes.append(node)
    if not changed:
        return model
    made = editing.finish()
    pairs = zip(OnnxRunner(model).run(sample).values(), OnnxRunner(made).run(sample).values(), strict=True)
    return made if all(map(_agree, *zip(*pairs, strict=True))) else model


# -- details ---------------------------------------------------------------------------


def _agree(one: Array, other: Array) -> bool:
    largest = float(np.abs(one).max(initial=0))
    return one.shape == other.shape and bool(np.abs(other.astype(np.float64) - one).max(initial=0) <= CLOSE * largest)


def _constant(values: Values, node: onnx.NodeProto, slot: int) -> Array | None:
    return values.constant(node.input[slot]) if slot < len(node.input) and node.input[slot] else None


def _axis(values: Values, node: onnx.NodeProto) -> int | None:
    if values.opset < AXIS_AS_INPUT:
        return int(attributes(node).get("axis", 1))
    if not any(node.input[2:3]):
        return -2
    known = _constant(values, node, 2)
    return None if known is None else int(known.reshape(()))


def _waves(count: int, bins: int, size: int) -> Array:
    """cos and -sin of each bin for so many values, (bins, 2, count), float64."""
    angles = turns(bins, count, size)
    return np.stack([np.cos(angles), -np.sin(angles)], 1)


def _matrix(count: int, parts: int, size: int, bins: int, inverse: bool) -> Array:
    """What (count, parts) values are multiplied with to give (bins, 2): values beyond the transform's size count 0."""
    waves = _waves(count, bins, size) * (np.arange(count) < size)
    if inverse:
        waves = waves * np.array([1.0, -1.0])[:, None] / size
    real = waves.transpose(2, 0, 1)  # of a real part, (count, bins, 2)
    both = np.stack([real, np.stack([-real[..., 1], real[..., 0]], -1)], 1)
    return both[:, :parts].reshape(count * parts, 2 * bins).astype(np.float32)


RULES = {"STFT": stft, "DFT": dft}
