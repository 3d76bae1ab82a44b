"""Data sets as torch and Hugging Face know them: rows by index, each one sample without a batch dimension."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np


def table_rows(values: Any) -> Callable[[], Iterator[Any]] | None:
    """What starts a pass over a data set's rows, batch dimension added; None where the object is no data set."""
    torch = sys.modules.get("torch")  # a data set of torch's cannot come from a torch that was never imported
    if torch is not None and isinstance(values, torch.utils.data.Dataset):
        rows = _by_index(values) if hasattr(values, "__getitem__") and hasattr(values, "__len__") else values
        return lambda: map(_batched, rows if not callable(rows) else rows())
    if hasattr(values, "column_names") and hasattr(values, "features"):  # a table of the package `datasets`
        return lambda: (_batched(_numbers(row)) for row in values)
    return None


def _by_index(values: Any) -> Callable[[], Iterator[Any]]:
    """Not by iteration: many data sets raise nothing past their end, and iteration would not stop."""
    return lambda: (values[i] for i in range(len(values)))


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its texts, which no model takes."""
    return {name: value for name, value in row.items() if value is not None and not isinstance(value, str | bytes)}


def _batched(row: Any) -> Any:
    """A row, nested as it is, with a batch dimension in front of each of its arrays and numbers."""
    if isinstance(row, Mapping):
        return {name: _with_batch(value) for name, value in row.items()}
    if isinstance(row, list | tuple):
        return tuple(_batched(item) for item in row)
    return _with_batch(row)


def _with_batch(value: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return value[None]
    return np.asarray(value)[None]
