"""Pools and moves of pixels on a map without a batch, which torch takes and its ONNX exporter does not.

`nn.MaxPool3d` on (batch, channels, height, width) is one of them: it takes channels for depth, and pools over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

Form = Callable[..., Any]


def with_batches(inner: Mapping[Any, Form]) -> dict[Any, Form]:
    """Forms that give what has no batch one of 1, and take it off again; see `forms.Form`.

    Args:
        inner: the forms of what has one, which go on with it; of other functions, too, which stay.
    """
    return {**inner, **{func: _batched(func, rank, inner.get(func)) for func, rank in _ranks().items()}}


def _ranks() -> Mapping[Any, int]:
    """How many axes, behind batch and channels, a function works on."""
    return {
        F.max_pool1d: 1,
        F.max_pool2d: 2,
        F.max_pool3d: 3,
        F.max_pool1d_with_indices: 1,
        F.max_pool2d_with_indices: 2,
        F.max_pool3d_with_indices: 3,
        F.avg_pool1d: 1,
        F.avg_pool2d: 2,
        F.avg_pool3d: 3,
        F.adaptive_avg_pool1d: 1,
        F.adaptive_avg_pool2d: 2,
        F.adaptive_avg_pool3d: 3,
        F.adaptive_max_pool1d: 1,
        F.adaptive_max_pool2d: 2,
        F.adaptive_max_pool3d: 3,
        F.pixel_shuffle: 2,
        F.pixel_unshuffle: 2,
    }


def _batched(func: Any, rank: int, inner: Form | None) -> Form:
    def form(x: torch.Tensor, *args: Any, **more: Any) -> Any:
        lacking = x.ndim == rank + 1
        if lacking:
            x = x.unsqueeze(0)
        found = NotImplemented if inner is None else inner(x, *args, **more)
        if not lacking:
            return found
        found = func(x, *args, **more) if found is NotImplemented else found
        return tuple(part.squeeze(0) for part in found) if isinstance(found, tuple) else found.squeeze(0)

    return form
