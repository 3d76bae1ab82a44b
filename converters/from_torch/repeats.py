"""Modules that draw random numbers, which no file can: the function that draws, and its line."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode, resolve_name

from edgeqwt.converters.source import EXPORT_TOLERANCE
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array
from edgeqwt.loading import user_line

Run = Callable[[], Mapping[str, Array]]


def refuse_draws(what: str, run: Run, first: Mapping[str, Array], second: Mapping[str, Array]) -> None:
    """Refuses a module whose outputs differ from call to call because it draws random numbers.

    Args:
        what: how messages name it.
        run: calls it, on one and the same sample.
        first: what it gave.
        second: what it gave after that.

    Raises:
        InputError: naming the function that draws, and its line.
    """
    if all(_same(first[name], value) for name, value in second.items()):
        return
    before, watching = _drawn(), _Watching()
    with watching:
        run()
    if watching.found is not None or _drawn() != before:
        raise InputError(
            f"{what}: forward gives other values each time: {watching.found or 'it'} draws random numbers",
            "A model that is built must not: write F.dropout(x, training=self.training), return the mean in place of a "
            "sample unless self.training, or make the random numbers an input of forward.",
        )


class _Watching(TorchFunctionMode):
    """Finds the first function that changes the state of a generator of random numbers, and the line that calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: str | None = None

    def __torch_function__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        before = _drawn()
        result = func(*args, **(kwargs or {}))
        if self.found is None and _drawn() != before:
            line = user_line()
            self.found = str(resolve_name(func) or getattr(func, "__name__", func)) + (f" ({line})" if line else "")
        return result


def _drawn() -> tuple[object, ...]:
    """States of the generators that modules draw from."""
    _, keys, *rest = np.random.get_state()
    return torch.random.get_rng_state().numpy().tobytes(), np.asarray(keys).tobytes(), *rest, random.getstate()


def _same(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    a, b = one.astype(np.float64), other.astype(np.float64)
    largest = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    return np.allclose(a, b, rtol=0, atol=EXPORT_TOLERANCE * largest, equal_nan=True)
