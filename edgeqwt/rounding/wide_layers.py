"""Moments of layers with so many terms that matrices of terms times terms take most of a build's time and memory.

They are summed over many samples at a time, and some rows of inputs are kept, from which a ridge is chosen faster than
from the moments of each fold (`least_squares.best_ridge_of_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from edgeqwt.graph.graph import Array
from edgeqwt.runtime.parallel import THREADS, ordered

ROWS = 2048  # kept of each fold, about
SUMMED = 2048  # rows whose products are summed at a time
BLOCKS = 4  # of a product's columns, which threads share
FOLDS = 2

Sides = tuple[list[Array], Array | None]
"""Rows that the layer gets, and those that it would get from the float network where that runs too, each of shape
(groups, rows, terms), and the rows' weights, shape (groups, rows, 1), where they do not count alike."""
Kept = tuple[tuple[Array, Array], ...]


def wide_moments[W](
    workers: list[W], rows: Callable[[W, int], Sides], chunk: int, count: int
) -> tuple[list[Array], Kept]:
    """Sums of x x^T, and of y x^T where the float network runs, over all samples; and some rows x and y of each fold.

    Args:
        workers: one per thread.
        rows: of the chunk that begins with a sample.
        chunk: samples in one, the last one excepted.
        count: samples in all.

    Returns:
        The sums, float64, (groups, terms, terms), exact where rows have no weights and are as `reround` has them; and
        of each fold x and y, float32, times the square roots of their weights; none without y.
    """
    totals: list[Array] = []
    kept: list[list[list[Array]]] = [[[], []] for _ in range(FOLDS)]
    waiting: list[Sides] = []
    every = 0
    for k, (sides, weights) in enumerate(ordered(workers, rows, range(0, count, chunk))):
        waiting.append((sides, weights))
        if len(sides) > 1:
            every = every or max(1, math.ceil(sides[0].shape[1] * math.ceil(count / chunk) / (FOLDS * ROWS)))
            root = 1.0 if weights is None else np.sqrt(weights[:, ::every])
            for side, parts in zip(sides, kept[k % FOLDS], strict=True):
                parts.append((side[:, ::every] * root).astype(np.float32))
        if sum(s[0].shape[1] for s, _ in waiting) >= SUMMED:
            totals, waiting = _plus(totals, waiting), []
    totals = _plus(totals, waiting) if waiting else totals
    found = tuple((np.concatenate(x, axis=1), np.concatenate(y, axis=1)) for x, y in kept if x)
    return totals, found


def _plus(totals: list[Array], waiting: Sequence[Sides]) -> list[Array]:
    """The sums and those of more rows."""
    sides = [np.concatenate(parts, axis=1) for parts in zip(*(s for s, _ in waiting), strict=True)]
    ours = sides[0]
    given = [w for _, w in waiting if w is not None]
    if given:
        ours = ours * np.concatenate(given, axis=1)
    found = [_product(side.swapaxes(-1, -2), ours) for side in sides]
    return [t + f for t, f in zip(totals, found, strict=True)] if totals else found


def _product(left: Array, right: Array) -> Array:
    """left @ right, a block of columns per thread at a time."""
    width = math.ceil(right.shape[-1] / BLOCKS)

    def block(_: None, first: int) -> Array:
        return np.asarray(left @ right[..., first : first + width])

    return np.concatenate([*ordered([None] * THREADS, block, range(0, right.shape[-1], width))], axis=-1)
