"""Symmetric systems by Cholesky's factor, in blocks that are products of matrices.

LAPACK's routines, called on one thread, take two to three times as long as the same work as products; and products can
be shared by threads. How they are cut does not depend on the number of threads, so neither does the result.
"""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Array
from edgeqwt.runtime.parallel import THREADS, ordered

BLOCK = 256  # columns that are factored at a time
SHARED = 1024  # size from which on threads share a block's products
PARTS = 4  # of its rows


def cholesky(symmetric: Array, *, into: Array | None = None) -> Array:
    """L, lower triangular, with L L^T the matrices, which must be positive definite; shape (groups, n, n).

    Args:
        symmetric: the matrices; what is above their diagonals is not read.
        into: where L goes, the matrices themselves for instance, of which large ones take much memory.
    """
    size = symmetric.shape[-1]
    if size <= BLOCK:
        return np.asarray(np.linalg.cholesky(symmetric))
    lower = np.empty_like(symmetric) if into is None else into
    for first in range(0, size, BLOCK):
        here, after = slice(first, first + BLOCK), slice(first + BLOCK, None)
        left = lower[:, here, :first].swapaxes(-1, -2)
        block = np.linalg.cholesky(symmetric[:, here, here] - lower[:, here, :first] @ left)
        lower[:, here, here] = block
        lower[:, here, after] = 0
        below = _rows(symmetric[:, after, here], lower[:, after, :first], left, size - first)
        lower[:, after, here] = below @ np.linalg.inv(block).swapaxes(-1, -2)
    return lower


def _rows(values: Array, left: Array, right: Array, size: int) -> Array:
    """values - left @ right, some rows per thread."""
    if size < SHARED or not right.shape[-2]:
        return np.asarray(values - left @ right)
    height = -(-values.shape[1] // PARTS)

    def part(_: None, first: int) -> Array:
        rows = slice(first, first + height)
        return np.asarray(values[:, rows] - left[:, rows] @ right)

    found = ordered([None] * min(THREADS, PARTS), part, range(0, values.shape[1], height))
    return np.concatenate([values[:, :0], *found], axis=1)


def solved(lower: Array, values: Array) -> Array:
    """values @ inverse(L L^T), given L; values of shape (groups, rows, n)."""
    size, found = lower.shape[-1], np.array(values, lower.dtype)
    starts = range(0, size, BLOCK)
    inverses = [np.linalg.inv(lower[:, k : k + BLOCK, k : k + BLOCK]) for k in starts]
    height = found.shape[1] if size < SHARED else max(1, -(-found.shape[1] // PARTS))

    def part(_: None, row: int) -> None:
        mine = found[:, row : row + height]
        for first, inverse in zip(starts, inverses, strict=True):  # found L^T = values
            here = slice(first, first + BLOCK)
            pulled = mine[:, :, :first] @ lower[:, here, :first].swapaxes(-1, -2)
            mine[:, :, here] = (mine[:, :, here] - pulled) @ inverse.swapaxes(-1, -2)
        for first, inverse in zip(reversed(starts), reversed(inverses), strict=True):  # found L = what came out
            here, after = slice(first, first + BLOCK), slice(first + BLOCK, None)
            mine[:, :, here] = (mine[:, :, here] - mine[:, :, after] @ lower[:, after, here]) @ inverse

    rows = range(0, found.shape[1], max(1, height))
    for _ in ordered([None] * min(THREADS, max(1, len(rows))), part, rows):
        pass
    return found
