"""Functions of torch over sorted values and over all values up to each, as ops that integers have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

LONGEST = 64  # factors of a running product


def ordered_forms() -> Mapping[str, Callable[..., Any]]:
    """By name; see `forms.Form`."""
    return {
        "median": _median,
        "sort": _sorted,
        "argsort": _places,
        "kthvalue": lambda x, k, dim=-1, keepdim=False: torch.return_types.kthvalue(
            _ranked(x, int(k) - 1, dim, keepdim)
        ),
        "cumprod": _running_product,
        "cummax": lambda x, dim: torch.return_types.cummax(_running_extreme(x, dim, largest=True)),
        "cummin": lambda x, dim: torch.return_types.cummin(_running_extreme(x, dim, largest=False)),
    }


def _median(x: torch.Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle of what is sorted, the lower one of two."""
    if dim is None:
        flat = x.reshape(-1)
        return _ranked(flat, (int(flat.shape[0]) - 1) // 2, 0, False)[0]
    return torch.return_types.median(_ranked(x, (int(x.shape[dim]) - 1) // 2, dim, keepdim))


def _sorted(x: torch.Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    """One element is in order: the lengths of a batch of one, as `pack_padded_sequence` sorts them.

    Others are the largest, or smallest, of all: the exporter does not know how many there are, and knows no `stable`.
    """
    if not x.ndim:
        return NotImplemented
    if x.shape[dim] == 1:
        return torch.return_types.sort((x, torch.zeros_like(x, dtype=torch.int64)))
    values, places = x.topk(int(x.shape[dim]), dim, largest=bool(descending))
    return torch.return_types.sort((values, places))


def _places(x: torch.Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    return _sorted(x, dim, descending)[1] if x.ndim else NotImplemented


def _ranked(x: torch.Tensor, rank: int, dim: int, keepdim: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The value of a rank from below along an axis, and its position."""
    value, place = (part.narrow(dim, rank, 1) for part in x.topk(int(x.shape[dim]), dim, largest=False))
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


def _running_product(x: torch.Tensor, dim: int, *, dtype: Any = None) -> Any:
    """Factor by factor."""
    if x.shape[dim] > LONGEST or dtype is not None:
        return NotImplemented
    parts = [x.narrow(dim, i, 1) for i in range(int(x.shape[dim]))]
    for i in range(1, len(parts)):
        parts[i] = parts[i - 1] * parts[i]
    return torch.cat(parts, dim)


def _running_extreme(x: torch.Tensor, dim: int, largest: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Each value and those before it: joined with itself one, two, four, ... places on; and the last position of it."""
    count = int(x.shape[dim])
    join = torch.maximum if largest else torch.minimum

    def run(values: torch.Tensor, join: Callable[..., torch.Tensor]) -> torch.Tensor:
        step = 1
        while step < count:
            joined = join(values.narrow(dim, step, count - step), values.narrow(dim, 0, count - step))
            values = torch.cat([values.narrow(dim, 0, step), joined], dim)
            step *= 2
        return values

    values = run(x, join)
    places = torch.arange(count, dtype=torch.float32).reshape(
        [count if a == dim % x.ndim else 1 for a in range(x.ndim)]
    )
    positions = run(torch.where(x == values, places, torch.zeros_like(places)), torch.maximum)
    return values, positions.long()
