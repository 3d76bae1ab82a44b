"""Second moments of what a layer reads, as rounding rules need them, summed over samples and positions.

Inputs x are in steps of their scale, zero point 0: integers below 2^8 at 8 bits. Products of them are integers below
2^16, of which float32 sums 256 exactly. Sums of 1024 stay below 2^26, where float32 has steps of 4: 768 additions that
err by 2 at most are 2^-15 of the largest sum at worst, and damping adds 2^-7 of it. Float32 products take half the time
of float64; sums of these are float64, and adding them up would take a third of all time if they were of 256 rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array
from edgeqwt.runtime.parallel import THREADS, ordered

WIDE = 2048  # terms from which on moments of each fold would take too much memory
ROWS = 2048  # kept of each fold instead, about
SUMMED = 1024  # rows whose products are summed in the inputs' own type
BLOCKS = 4  # of a moment's columns, which threads share
THREADED = 1024  # terms from which on they do
FOLDS = 2  # of the samples, for what is chosen by cross-validation

Pair = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Rows:
    """What a layer reads on some samples.

    Attributes:
        x: shape (groups, rows, terms), in steps.
        missing: W (y - x) of the inputs y that it would have in the float network, shape (groups, rows, channels);
            None where nobody asked for it.
        weights: how much each row counts, shape (groups, rows, 1); None: all alike.
    """

    x: Array
    missing: Array | None
    weights: Array | None = None


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over all rows.

    Attributes:
        hessian: of x x^T, float64, shape (groups, terms, terms).
        pull: of W (y - x) x^T, float64, shape (groups, channels, terms); None without y.
        folds: hessian and pull of every other chunk of samples; none without y, and of wide layers.
        rows: of wide layers, some of each fold's rows x, and of W (y - x), times the square roots of their weights.
    """

    hessian: Array
    pull: Array | None
    folds: tuple[Pair, ...] = ()
    rows: tuple[Pair, ...] = ()


def moments[W](workers: list[W], rows: Callable[[W, int], Rows], chunk: int, count: int) -> Moments:
    """The moments of a layer's inputs.

    Args:
        workers: one per thread.
        rows: of the chunk that begins with a sample.
        chunk: samples in one, the last one excepted.
        count: samples in all.
    """
    sums: list[list[Array]] = []
    kept: list[list[Pair]] = [[] for _ in range(FOLDS)]
    every, wide = 0, False

    def summed(worker: W, first: int) -> tuple[Rows, list[Array] | None]:
        found = rows(worker, first)
        if found.x.shape[-1] >= THREADED:  # threads share the columns of one chunk's products: memory for one is enough
            return found, None
        parts = _zeros(found)
        _add(parts, found)
        return found, parts

    for k, (found, parts) in enumerate(ordered(workers, summed, range(0, count, chunk), window=1)):
        wide = found.x.shape[-1] >= WIDE
        if len(sums) < (1 if wide else FOLDS):
            sums.append(_zeros(found))
        into = sums[k % len(sums)]
        if parts is None:
            _add(into, found)
        else:
            for total, part in zip(into, parts, strict=True):
                total += part
        if wide and found.missing is not None:
            every = every or max(1, math.ceil(found.x.shape[1] * math.ceil(count / chunk) / (FOLDS * ROWS)))
            root = 1.0 if found.weights is None else np.sqrt(found.weights[:, ::every])
            some = found.x[:, ::every] * root, found.missing[:, ::every] * root
            kept[k % FOLDS].append((some[0].astype(np.float32), some[1].astype(np.float32)))
    hessians = [_mirrored(parts[0]) for parts in sums]
    hessian, *rest = (sum(parts[1:], parts[0]) for parts in zip(*sums, strict=True))
    pulls = tuple(zip(hessians, (parts[1] for parts in sums), strict=True)) if rest and len(sums) > 1 else ()
    pieces = tuple((np.concatenate([x for x, _ in p], 1), np.concatenate([e for _, e in p], 1)) for p in kept if p)
    return Moments(hessian, rest[0] if rest else None, pulls, pieces)


def _zeros(found: Rows) -> list[Array]:
    """Of the hessian's shape, and of the pull's where there is one."""
    groups, _, terms = found.x.shape
    rows = [terms] if found.missing is None else [terms, found.missing.shape[-1]]
    return [np.zeros((groups, n, terms)) for n in rows]


def _add(sums: Sequence[Array], found: Rows) -> None:
    """Adds the rows' products; of the hessian only what lies on and below its diagonal, by blocks of columns."""
    terms = found.x.shape[-1]
    width = math.ceil(terms / (BLOCKS if terms >= THREADED else 1))
    counted = found.x if found.weights is None else found.x * found.weights.astype(found.x.dtype)

    def block(_: None, first: int) -> None:
        for start in range(0, counted.shape[1], SUMMED):
            here, columns = slice(start, start + SUMMED), slice(first, first + width)
            right = counted[:, here, columns]
            sums[0][:, first:, columns] += found.x[:, here, first:].swapaxes(-1, -2) @ right
            if found.missing is not None:
                sums[1][:, :, columns] += found.missing[:, here].swapaxes(-1, -2) @ right

    for _ in ordered([None] * (THREADS if width < terms else 1), block, range(0, terms, width)):
        pass


def _mirrored(lower: Array) -> Array:
    """The symmetric matrix of which all below the diagonal is there; in place."""
    width = math.ceil(lower.shape[-1] / BLOCKS)
    for first in range(0, lower.shape[-1], width):
        here, after = slice(first, first + width), slice(first + width, None)
        lower[:, here, after] = lower[:, after, here].swapaxes(-1, -2)
    return lower
