"""`max_unpool2d` behind `max_pool2d`, as SegNet and ENet have them, in ops that integers have.

Indices into a flattened map, which torch scatters by, become places within windows that lie side by side: each value is
written where its window's place is, and zero beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

PLACES = "places_within_windows"  # attribute of indices: which of a window's pixels was the largest, row by row


def unpool_forms() -> Mapping[Any, Callable[..., Any]]:
    """By function; see `forms.Form`."""
    return {F.max_pool2d_with_indices: _pooled, F.max_unpool2d: _unpooled}


def _pooled(
    x: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> Any:
    """The largest of square windows side by side, and their indices, with the places within windows beside them."""
    size = _square(kernel_size, stride, padding)
    if size is None or ceil_mode or dilation not in (1, (1, 1)):
        return NotImplemented
    found = F.max_pool2d(x, size)
    batch, channels, rows, columns = (int(n) for n in found.shape)
    apart = F.pixel_unshuffle(x[..., : rows * size, : columns * size], size)
    places = apart.reshape(batch, channels, size * size, rows, columns).argmax(2)
    row = torch.arange(rows).reshape(-1, 1) * size + places // size
    indices = row * int(x.shape[-1]) + torch.arange(columns) * size + places % size
    setattr(indices, PLACES, places)
    return found, indices


def _unpooled(
    x: torch.Tensor,
    indices: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Any:
    """Each value where its window's largest was, zero elsewhere."""
    places, size = getattr(indices, PLACES, None), _square(kernel_size, stride, padding)
    if places is None or size is None or x.ndim != 4:
        return NotImplemented
    parts = torch.stack([torch.where(places == k, x, torch.zeros_like(x)) for k in range(size * size)], 2)
    wide = F.pixel_shuffle(parts.flatten(1, 2), size)
    if output_size is None:
        return wide
    more = [int(n) - int(m) for n, m in zip(output_size[-2:], wide.shape[-2:], strict=True)]
    return F.pad(wide, (0, more[1], 0, more[0]))


def _square(kernel_size: Any, stride: Any, padding: Any) -> int | None:
    """Rows of square windows that lie side by side; None where they do not."""
    sizes = {
        n for given in (kernel_size, stride or kernel_size) for n in ([given] if isinstance(given, int) else given)
    }
    return int(sizes.pop()) if len(sizes) == 1 and padding in (0, (0, 0)) else None
