"""A linear op as a matrix product: its input as rows of patches, its weights as columns.

For every linear op, output = patches @ matrix(weights).T, per group of channels. Rounding rules
that look at the inputs' second moments need no more than this.
"""

from __future__ import annotations

import math

import numpy as np

from edgeqwt.graph.graph import Array, Op
from edgeqwt.graph.padding import same_padding

# Kinds whose patches are understood here; the others are rounded to nearest.
PATCHED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})


def terms_of(kind: str, shape: tuple[int, ...]) -> int:
    """How many products one output is the sum of, given the weights' shape in the file."""
    return math.prod(shape[1:3] if kind == "DEPTHWISE_CONV_2D" else shape[1:])


def patches(op: Op, x: Array, weights_shape: tuple[int, ...], every: int = 1, outside: int = 0) -> Array:
    """The input values that each output position is a product of.

    Args:
        op: CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED.
        x: input, shape (samples, height, width, channels), or (samples, ..., features).
        weights_shape: as in the file: (out, kh, kw, in / groups), (1, kh, kw, out), (out, in).
        every: take every so many output positions of a convolution, along height and width.
        outside: what stands for real zero in `x`, for padding.

    Returns:
        Shape (groups, positions, terms); terms run over (kh, kw, in / groups), as in `matrix`.
        A depthwise convolution has one group per output channel.
    """
    if op.kind == "FULLY_CONNECTED":
        return x.reshape(1, -1, weights_shape[-1])
    kernel = (weights_shape[1], weights_shape[2])
    windows = _windows(op, x, kernel, every, outside)  # (positions, kh, kw, channels)
    positions, channels = len(windows), windows.shape[-1]
    if op.kind == "DEPTHWISE_CONV_2D":
        multiplier = weights_shape[3] // channels
        one = windows.reshape(positions, -1, channels).transpose(2, 0, 1)
        return np.repeat(one, multiplier, axis=0) if multiplier > 1 else np.ascontiguousarray(one)
    if channels == weights_shape[3]:
        return windows.reshape(1, positions, -1)
    grouped = windows.reshape(positions, *kernel, -1, weights_shape[3]).transpose(3, 0, 1, 2, 4)
    return np.ascontiguousarray(grouped).reshape(len(grouped), positions, -1)


def matrix(kind: str, weights: Array, groups: int) -> Array:
    """Weights as (groups, out / groups, terms), a copy."""
    if kind == "DEPTHWISE_CONV_2D":
        return np.ascontiguousarray(weights[0].transpose(2, 0, 1)).reshape(groups, 1, -1)
    return weights.reshape(groups, weights.shape[0] // groups, -1).copy()


def from_matrix(kind: str, values: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `matrix`."""
    if kind == "DEPTHWISE_CONV_2D":
        return np.ascontiguousarray(values.reshape(shape[3], shape[1], shape[2]).transpose(1, 2, 0))[None]
    return np.ascontiguousarray(values.reshape(shape))


def _windows(op: Op, x: Array, kernel: tuple[int, int], every: int, outside: int) -> Array:
    """Patches of a convolution, shape (positions, kh, kw, channels); padding is real zero."""
    stride = (int(op.options["strideH"]), int(op.options["strideW"]))
    if kernel == (1, 1):  # no padding
        return x[:, :: stride[0] * every, :: stride[1] * every].reshape(-1, 1, 1, x.shape[3])
    dilation = (int(op.options.get("dilationHFactor", 1)), int(op.options.get("dilationWFactor", 1)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padded = np.pad(x, [(0, 0), *same_padding(op, x.shape[1:3], kernel), (0, 0)], constant_values=outside)
    view: Array = np.lib.stride_tricks.sliding_window_view(padded, tuple(reach), axis=(1, 2))  # type: ignore[call-overload]
    rows, columns = stride[0] * every, stride[1] * every
    taken: Array = view[:, ::rows, ::columns, :, :: dilation[0], :: dilation[1]]
    # Channels last, as they lie in memory: copying runs of them is several times faster.
    return taken.transpose(0, 1, 2, 4, 5, 3).reshape(-1, *kernel, x.shape[3])
