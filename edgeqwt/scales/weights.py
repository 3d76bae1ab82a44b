"""Constants to integers: per-channel symmetric weights, int32 or int64 biases, per-tensor operands."""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Array, Quantization

# Half of int32, so that the accumulator keeps as much headroom as the bias takes. Beside 16-bit activations it is
# int64, but beyond this the multiplier of a channel that is little more than its bias falls below the kernels' 2^-31.
BIAS_LIMIT = 2**30
BIAS_DTYPE = {8: "int32", 16: "int64"}  # by the width of the activations


def weight_scales(weights: Array, axis: int, bits: int) -> Array:
    """Min-max scale of each output channel, float64, shape (channels,).

    Integers are symmetric in +-(2^(bits-1) - 1). A channel that is all zeros takes the
    largest scale of the others (its integers are zeros whatever the scale).
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scale: Array = np.abs(weights.astype(np.float64)).max(axis=others) / (2 ** (bits - 1) - 1)
    largest = scale.max(initial=0.0) or 1.0
    # Below this the float32 scale, or its product with the input's, would lose precision as a subnormal.
    return np.where(scale < 1e-30, largest, scale)


def widened_for_bias(scale: Array, bias: Array | None, input_scale: float) -> Array:
    """Weight scales enlarged where the bias, at input_scale * scale, would be too large an integer."""
    if bias is None:
        return scale
    return np.maximum(scale, np.abs(bias.astype(np.float64)) / (input_scale * BIAS_LIMIT))


def quantize(values: Array, q: Quantization, low: int, high: int, dtype: type[np.generic] = np.int8) -> Array:
    """round(values / scale) + zero_point, clipped to [low, high]; ties round to even."""
    scale, zero_point = q.broadcast(values.ndim)
    return np.clip(np.rint(values.astype(np.float64) / scale) + zero_point, low, high).astype(dtype)


def bias_quantization(input_scale: np.float32, weight_scale: Array) -> Quantization:
    """The scale that the kernels imply for a bias: the float32 product, per channel on axis 0."""
    # Computed in float32 as LiteRT checks it (kernel_util.cc: GetQuantizedConvolutionMultipler).
    return Quantization.per_channel(np.float32(input_scale) * weight_scale.astype(np.float32), 0)


def quantize_bias(bias: Array, q: Quantization, dtype: str = "int32") -> Array:
    """round(bias / scale) as int32 or int64."""
    limit = 2**31 - 1
    return np.clip(np.rint(bias.astype(np.float64) / q.scale.astype(np.float64)), -limit, limit).astype(dtype)
