"""Constants to integers and back."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Quantization
from edgeqwt.scales.weights import (
    BIAS_LIMIT,
    bias_quantization,
    quantize,
    quantize_bias,
    weight_scales,
    widened_for_bias,
)
from tests.chain import noise


@pytest.mark.parametrize(("axis", "shape"), [(0, (6, 3, 3, 4)), (3, (1, 3, 3, 6)), (0, (6, 10))])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_come_back_within_half_a_step(axis: int, shape: tuple[int, ...], bits: int) -> None:
    weights, limit = noise(*shape), 2 ** (bits - 1) - 1
    scale = weight_scales(weights, axis, bits)
    q = Quantization.per_channel(scale, axis)
    integers = quantize(weights, q, -limit, limit)
    steps = q.broadcast(weights.ndim)[0]
    # 1e-6: the scale is rounded to float32.
    assert np.all(np.abs(q.real(integers) - weights) <= steps * (0.5 + limit * 1e-6))
    others = tuple(i for i in range(weights.ndim) if i != axis)
    assert np.all(np.abs(integers).max(axis=others) == limit)  # every channel uses its whole range


def test_dead_channels_take_the_largest_scale() -> None:
    weights = noise(3, 4)
    weights[1] = 0
    scale = weight_scales(weights, 0, 8)
    assert scale[1] == max(scale[0], scale[2])
    assert np.all(weight_scales(np.zeros((2, 4), np.float32), 0, 8) == 1.0)


def test_scales_are_widened_until_the_bias_fits() -> None:
    bias = np.array([1.0, 1e9, -1e12], np.float32)
    scale = widened_for_bias(np.full(3, 1e-3), bias, 1e-2)
    assert scale[0] == 1e-3
    q = bias_quantization(np.float32(1e-2), scale)
    integers = quantize_bias(bias, q)
    assert np.abs(integers).max() <= BIAS_LIMIT * (1 + 1e-6)
    np.testing.assert_allclose(integers * q.scale.astype(float), bias, rtol=1e-6)


def test_bias_scale_is_the_float32_product() -> None:
    scale = np.array([0.1, 0.3], np.float32)
    q = bias_quantization(np.float32(0.7), scale)
    assert q.axis == 0
    np.testing.assert_array_equal(q.scale, np.float32(0.7) * scale)


def test_ties_round_to_even() -> None:
    q = Quantization.per_tensor(1.0, 0)
    np.testing.assert_array_equal(quantize(np.array([0.5, 1.5, -0.5, 200.0]), q, -128, 127), [0, 2, 0, 127])
