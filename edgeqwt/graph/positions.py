"""Some positions of an activation in place of all: neighbours say nearly the same, and large maps have thousands."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeqwt.graph.graph import Array


def every(shape: Sequence[int], wanted: int) -> int:
    """Every how many positions to take one, so that they are about as many as wanted, and never fewer.

    No divisor of a row's length: positions of all columns are taken, and of all phases of a map that was enlarged.

    Args:
        shape: of an activation, channels last.
        wanted: positions.
    """
    step = max(1, math.prod(shape[:-1]) // max(1, wanted))
    return next(n for n in range(step, 0, -1) if n == 1 or math.gcd(n, shape[-2]) == 1)


def some(values: Array, step: int, first: int = 0) -> Array:
    """One in so many positions of some values (..., channels), from one on; shape (positions, channels)."""
    return values.reshape(-1, values.shape[-1])[first::step]


def thinned(values: Array, most: int) -> Array:
    """An activation as it is, or of one that has more than so many values about so many, those of some positions.

    The same ones for all activations of one shape; shape (positions, channels).
    """
    if values.ndim < 2 or values.size <= most:
        return values
    return some(values, every(values.shape, most // values.shape[-1]))
