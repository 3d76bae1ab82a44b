"""Deformable convolutions, against their definition and, where it is installed, torchvision's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeqwt.graph.graph import Array

torch = pytest.importorskip("torch")

Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int], int, int, bool]
"""Window, stride, padding, dilation, groups, offset groups, whether there is a mask."""

TOLERANCE = 1e-5  # sums of at most 40 products of float32 below 4, in another order
GEOMETRIES: list[Geometry] = [
    ((3, 3), (1, 1), (1, 1), (1, 1), 1, 1, True),
    ((3, 3), (2, 2), (1, 1), (1, 1), 1, 1, False),
    ((3, 2), (2, 1), (1, 2), (2, 1), 2, 4, True),
    ((1, 1), (1, 1), (0, 0), (1, 1), 4, 2, True),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_the_definition(geometry: Geometry) -> None:
    from edgeqwt.converters.from_torch.deform import deformed

    arrays = drawn(geometry)
    _, stride, padding, dilation, *others = geometry
    found = deformed(*map(torch.from_numpy, arrays), *stride, *padding, *dilation, *others)
    np.testing.assert_allclose(found.numpy(), defined(*arrays, geometry), atol=TOLERANCE)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_stands_for_torchvisions_op(geometry: Geometry) -> None:
    from edgeqwt.converters.from_torch.forms import spelled_out

    vision: Any = pytest.importorskip("torchvision")
    x, weight, offset, mask, bias = map(torch.from_numpy, drawn(geometry))
    given = (x, offset, weight, bias, *geometry[1:4], mask if geometry[-1] else None)
    wanted = vision.ops.deform_conv2d(*given)
    with spelled_out():
        found = vision.ops.deform_conv2d(*given)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=TOLERANCE)


def drawn(geometry: Geometry) -> tuple[Array, Array, Array, Array, Array]:
    """Maps of 8 channels, weights, offsets of up to some pixels, masks, biases."""
    window, stride, padding, dilation, groups, offset_groups, masked = geometry
    rng, size, places = np.random.default_rng(3), (7, 6), window[0] * window[1]
    reach = [(n - 1) * d + 1 for n, d in zip(window, dilation, strict=True)]
    rows, columns = ((size[k] + 2 * padding[k] - reach[k]) // stride[k] + 1 for k in range(2))
    return (
        rng.uniform(-1, 1, (2, 8, *size)).astype(np.float32),
        rng.uniform(-1, 1, (4, 8 // groups, *window)).astype(np.float32),
        rng.normal(0, 1.5, (2, 2 * offset_groups * places, rows, columns)).astype(np.float32),
        rng.uniform(0, 1, (2, offset_groups * places, rows, columns) if masked else (2, 1, 1, 1)).astype(np.float32),
        rng.normal(size=4).astype(np.float32),
    )


def defined(x: Array, weight: Array, offset: Array, mask: Array, bias: Array, geometry: Geometry) -> Array:
    """Sums of weights and of what lies between pixels, one by one; outside of the map are zeros."""
    (down, across), stride, padding, dilation, groups, offset_groups, masked = geometry
    batch, channels = x.shape[:2]
    rows, columns = offset.shape[2:]
    filters, each = weight.shape[:2]
    found = np.zeros((batch, filters, rows, columns)) + bias.reshape(1, -1, 1, 1)
    for b, f, r, c, e, i, j in np.ndindex(batch, filters, rows, columns, each, down, across):
        channel = f // (filters // groups) * each + e
        place = channel // (channels // offset_groups) * down * across + i * across + j
        y = r * stride[0] - padding[0] + i * dilation[0] + offset[b, 2 * place, r, c]
        at = c * stride[1] - padding[1] + j * dilation[1] + offset[b, 2 * place + 1, r, c]
        factor = mask[b, place, r, c] if masked else 1.0
        found[b, f, r, c] += weight[f, e, i, j] * factor * between(x[b, channel], float(y), float(at))
    return found


def between(values: Array, y: float, x: float) -> float:
    """The bilinear value at a place of a map."""
    total = 0.0
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < values.shape[0] and 0 <= column < values.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * float(values[row, column])
    return total
