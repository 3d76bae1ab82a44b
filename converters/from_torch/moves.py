"""Functions of torch that move, divide and join tensors, as those that its ONNX exporter writes without sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)


def moving_forms() -> Mapping[str, Callable[..., Any]]:
    """By name; see `forms.Form`."""
    return {
        "movedim": _moved,
        "moveaxis": _moved,
        "unfold": _windows,
        "hstack": lambda parts: _joined(parts, torch.atleast_1d, 1),
        "column_stack": lambda parts: _joined(parts, lambda x: x.reshape(-1, 1) if x.ndim < 2 else x, 1),
        "vstack": lambda parts: _joined(parts, torch.atleast_2d, 0),
        "row_stack": lambda parts: _joined(parts, torch.atleast_2d, 0),
        "dstack": lambda parts: _joined(parts, torch.atleast_3d, 2),
        "tensor_split": _divided,
        "hsplit": lambda x, parts: _divided(x, parts, 0 if x.ndim == 1 else 1),
        "vsplit": lambda x, parts: _divided(x, parts, 0),
        "dsplit": lambda x, parts: _divided(x, parts, 2),
        "searchsorted": _searched,
        "index_add": _added,
    }


def _moved(x: torch.Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> torch.Tensor:
    """Axes counted from the end, which the exporter hands on as they are, from the beginning."""
    taken, places = (
        [axis % x.ndim for axis in ((axes,) if isinstance(axes, int) else axes)] for axes in (source, destination)
    )
    others = iter(axis for axis in range(x.ndim) if axis not in taken)
    order = dict(zip(places, taken, strict=True))
    return x.permute([order[axis] if axis in order else next(others) for axis in range(x.ndim)])


def _windows(x: torch.Tensor, dimension: int, size: int, step: int) -> Any:
    """An axis counted from the end, which the exporter puts the windows before, from the beginning."""
    return NotImplemented if dimension >= 0 else x.unfold(dimension % x.ndim, size, step)


def _joined(parts: Sequence[torch.Tensor], widened: Callable[[torch.Tensor], Any], axis: int) -> torch.Tensor:
    wide = [widened(part) for part in parts]
    return torch.cat(wide, min(axis, wide[0].ndim - 1))


def _divided(x: torch.Tensor, parts: Any, dim: int = 0) -> Any:
    """Parts of nearly one size, the first ones larger by one; or between given positions."""
    size, given = int(x.shape[dim]), parts.tolist() if isinstance(parts, torch.Tensor) else parts
    if isinstance(given, int):
        least, more = divmod(size, given)
        ends = [i * least + min(i, more) for i in range(given + 1)]
    else:
        ends = [0, *(min(max(e + size if e < 0 else e, 0), size) for e in map(int, given)), size]
    return tuple(x.narrow(dim, a, max(b - a, 0)) for a, b in pairwise(ends))


def _searched(
    bounds: torch.Tensor,
    x: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """In one row of bounds."""
    if bounds.ndim != 1 or sorter is not None or not isinstance(x, torch.Tensor):
        return NotImplemented
    return torch.bucketize(x, bounds, out_int32=out_int32, right=right or side == "right")


def _added(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, *, alpha: float = 1) -> torch.Tensor:
    """A product with the matrix that has a one where a row of the source is added."""
    rows = F.one_hot(index.long(), int(x.shape[dim])).to(x.dtype)
    last = x.ndim - 1
    summed = (_moved(source, dim, last) @ rows) * alpha
    return x + _moved(summed, last, dim)
