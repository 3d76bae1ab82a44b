"""How strongly refitted weights are held where they are, by cross-validation over two or more folds of the samples.

For each ridge the change D = P (A + l)^-1 of the weights is wanted, P being a fold's pull and A its second moment. All
ridges have it from one Krylov space: Lanczos (1950) gives V with V A V^T = T, tridiagonal, whose first row is P's, and
then D is |P| times the first row of (T + l)^-1 times V, for every l. Some tens of products with A take the place of a
factorization per ridge, and a few random mixtures of the channels that of all: the expectation of a mixture's squared
error is that of all channels, and all ridges meet the same mixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from edgeqwt.graph.graph import Array
from edgeqwt.rounding.cholesky import cholesky, solved
from edgeqwt.rounding.least_squares import damped, ridge_of
from edgeqwt.runtime.parallel import THREADS, ordered

STEPS = 32  # products with a second moment: on layers of real networks, more change no choice
MIXTURES = 16  # of channels
ENDED = 1e-6  # share of the largest length below which a direction is rounding: the space is complete
SMALL = 256  # terms up to which every channel's equations are solved exactly


def best_ridge(folds: Sequence[tuple[Array, Array]], shares: Sequence[float]) -> float:
    """The share with which weights refitted on one fold of the samples err least on the others.

    Args:
        folds: each fold's hessian and pull, as `least_squares.refitted` takes them; two or more.
        shares: to choose from; the last of equally good ones is taken.
    """
    exact = folds[0][0].shape[-1] <= SMALL
    mixed = np.eye(folds[0][1].shape[1]) if exact else _mixtures(folds[0][1].shape[1])
    folds = [(hessian, mixed @ pull) for hessian, pull in folds]

    def changes(hessian: Array, pull: Array) -> list[Array]:
        if exact:
            return [solved(cholesky(damped(hessian, share)), pull) for share in shares]
        mean = np.trace(hessian, axis1=-2, axis2=-1) / hessian.shape[-1]
        return _krylov(lambda q: q @ hessian, pull, [ridge_of(mean, share) for share in shares])

    def errors(_: None, k: int) -> Array:
        """Of each share, fitted on fold k, on the others: ||D X - W (Y - X)||^2 without what all have in common."""
        found = np.zeros(len(shares))
        made = changes(*folds[k])
        for other, aim in (fold for j, fold in enumerate(folds) if j != k):
            found += [float(((change @ other - 2 * aim) * change).sum()) for change in made]
        return found

    return _least(shares, ordered([None] * min(THREADS, len(folds)), errors, range(len(folds))))


def best_ridge_of_rows(folds: Sequence[tuple[Array, Array]], shares: Sequence[float]) -> float:
    """The same from rows of inputs instead of moments, where these are too large to have one for each fold.

    Args:
        folds: each fold's rows X that the layer gets, shape (groups, rows, terms), and those of (Y - X) W^T,
            (groups, rows, channels).
        shares: to choose from; the last of equally good ones is taken.
    """
    mixed = _mixtures(folds[0][1].shape[-1]).T
    folds = [(x, e @ mixed.astype(e.dtype)) for x, e in folds]

    def errors(_: None, k: int) -> Array:
        x, e = folds[k]
        mean = np.square(x).sum(axis=(1, 2), dtype=np.float64) / x.shape[-1]
        ridges, found = [ridge_of(mean, share) for share in shares], np.zeros(len(shares))
        made = _krylov(lambda q: (q @ x.swapaxes(-1, -2)) @ x, e.swapaxes(-1, -2) @ x, ridges)
        for other, aim in (fold for j, fold in enumerate(folds) if j != k):
            off = [other @ change.swapaxes(-1, -2).astype(other.dtype) - aim for change in made]
            found += [float(np.square(o).sum(dtype=np.float64)) for o in off]
        return found

    return _least(shares, ordered([None] * min(THREADS, len(folds)), errors, range(len(folds))))


def _least(shares: Sequence[float], errors: Iterable[Array]) -> float:
    total = np.sum([*errors], axis=0)
    return shares[len(shares) - 1 - int(np.argmin(total[::-1]))]


def _mixtures(channels: int) -> Array:
    """Random signs, shape (mixtures, channels); of few channels each by itself."""
    if channels <= MIXTURES:
        return np.eye(channels)
    signs: Array = np.random.default_rng(0).choice([-1.0, 1.0], (MIXTURES, channels)) / np.sqrt(MIXTURES)
    return signs


def _krylov(apply: Callable[[Array], Array], pull: Array, ridges: Sequence[Array]) -> list[Array]:
    """pull @ inverse(A + l) for each ridge l, given products with A; pull of shape (groups, rows, terms)."""
    steps = min(STEPS, pull.shape[-1])
    size = np.linalg.norm(pull, axis=-1, keepdims=True).astype(np.float64)
    space = np.zeros((*pull.shape[:2], steps, pull.shape[-1]), pull.dtype)
    tridiagonal = np.zeros((*pull.shape[:2], steps, steps))
    vector = np.divide(pull, size, out=np.zeros_like(pull), where=size > 0, casting="same_kind")
    for i in range(steps):
        space[:, :, i] = vector
        moved = apply(vector)
        tridiagonal[:, :, i, i] = (moved * vector).sum(axis=-1)
        known = space[:, :, : i + 1]
        moved -= ((known @ moved[..., None]).swapaxes(-1, -2) @ known)[:, :, 0]  # orthogonal to all before
        length = np.linalg.norm(moved, axis=-1)
        ended = length <= ENDED * np.abs(tridiagonal[:, :, 0, 0])
        length = np.where(ended, 0.0, length)
        if i + 1 < steps:
            tridiagonal[:, :, i, i + 1] = tridiagonal[:, :, i + 1, i] = length
        vector = np.where(ended[..., None], 0, moved / np.where(ended, 1, length)[..., None]).astype(pull.dtype)
    values, vectors = np.linalg.eigh(tridiagonal)
    first = vectors[:, :, 0]
    found = []
    for ridge in ridges:
        weights = (vectors @ (first / (values + ridge[:, None, None]))[..., None]).swapaxes(-1, -2)
        found.append(size * (weights.astype(pull.dtype) @ space)[:, :, 0])
    return found
