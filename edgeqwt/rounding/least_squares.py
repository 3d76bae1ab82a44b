"""The mathematics of rounding rules: weights whose layer's output errs least, given their inputs' second moments.

Arrays have a leading axis for the layer's groups of channels: weights (groups, channels, terms), scales
(groups, channels), second moments (groups, terms, terms). With A a second moment, the error of a channel whose
weights are off by e is e A e^T; `loss` is that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeqwt.graph.graph import Array
from edgeqwt.runtime.parallel import THREADS, ordered

# (real weights, scale of each channel, limit, where integers must be zero) -> integers within +-limit, as float64.
Method = Callable[[Array, Array, int, Array | None], Array]

# A step that lowers a loss by less than this share of the error's size is rounding noise.
NOISE = 1e-9
WIDE = 2048  # terms from which on a layer's matrices are so large that detours pay
BLOCK = 64  # terms whose errors are spread within the block one at a time, and over later ones together


def damped(hessian: Array, share: float) -> Array:
    """The second moment with a share of its mean diagonal added to the diagonal, so that it can be inverted.

    It keeps inputs that calibration hardly saw from soaking up the error. Where nothing was seen, the identity:
    all weights count alike.
    """
    mean = np.trace(hessian, axis1=-2, axis2=-1) / hessian.shape[-1]
    ridge: Array = np.where(mean > 0, share * mean, 1.0)
    damping: Array = ridge[:, None, None] * np.eye(hessian.shape[-1])
    return hessian + damping


def refitted(weights: Array, hessian: Array, cross: Array, share: float) -> Array:
    """Real weights that make up for errors of the layer's inputs: ERQ's Aqer (Zhong et al. 2024, section 4.1).

    Minimizes ||W' X - W Y||^2 + l ||W' - W||^2 over W', where X are the inputs that the layer gets and Y those
    that it would get from the float network. The derivative is zero where W' (X X^T + l) = W Y X^T + l W, so

        W' = W + W (Y X^T - X X^T) (X X^T + l)^-1.

    Args:
        weights: W.
        hessian: X X^T.
        cross: Y X^T.
        share: l as a share of the mean diagonal of X X^T.
    """
    return weights + _times_inverse(weights @ (cross - hessian), damped(hessian, share))


def best_ridge(weights: Array, folds: Sequence[tuple[Array, Array]], shares: Sequence[float]) -> float:
    """The share with which weights refitted on one fold of the samples err least on the others.

    Args:
        weights: real.
        folds: each fold's hessian and cross, as `refitted` takes them; two or more.
        shares: to choose from; the last of equally good ones is taken.
    """

    def error(share: float) -> float:
        total = 0.0
        for k, (hessian, cross) in enumerate(folds):
            moved = refitted(weights, hessian, cross, share)
            for other, aim in (fold for j, fold in enumerate(folds) if j != k):
                # ||W' X - W Y||^2 without the term that all shares have in common.
                total += float(((moved @ other) * moved).sum() - 2 * ((weights @ aim) * moved).sum())
        return total

    return min(reversed(shares), key=error)


def best_ridge_of_rows(weights: Array, folds: Sequence[tuple[Array, Array]], shares: Sequence[float]) -> float:
    """What `best_ridge` chooses, from rows of inputs instead of moments: much faster where they are fewer than terms.

    With E = (Y - X) W^T, by the identity X^T X (X^T X + l)^-1 = X^T (X X^T + l)^-1 X and its like, the refitted weights
    change the outputs of other rows X' by

        X' (W' - W)^T = X' X^T (X X^T + l)^-1 E,

    so that nothing of the size of terms times terms is inverted.

    Args:
        weights: real, shape (groups, channels, terms).
        folds: each fold's rows X that the layer gets, and Y that it would get from the float network; shape
            (groups, rows, terms).
        shares: to choose from; the last of equally good ones is taken.
    """
    folds = [(x.astype(np.float64), y.astype(np.float64)) for x, y in folds]
    wanted = [(y - x) @ weights.swapaxes(-1, -2) for x, y in folds]
    terms = weights.shape[-1]

    def errors(_: None, k: int) -> Array:
        """Of each share, fitted on fold k, on the others."""
        x = folds[k][0]
        own, eye = x @ x.swapaxes(-1, -2), np.eye(x.shape[1])
        others = [j for j in range(len(folds)) if j != k]
        across = [folds[j][0] @ x.swapaxes(-1, -2) for j in others]
        mean = np.trace(own, axis1=-2, axis2=-1) / terms
        found = []
        for share in shares:
            ridge = np.where(mean > 0, share * mean, 1.0)[:, None, None]
            pull = np.linalg.solve(own + ridge * eye, wanted[k])
            found.append(sum(float(np.square(a @ pull - wanted[j]).sum()) for a, j in zip(across, others, strict=True)))
        return np.array(found)

    total = sum(ordered([None] * min(THREADS, len(folds)), errors, range(len(folds))))
    return shares[len(shares) - 1 - int(np.argmin(np.asarray(total)[::-1]))]


def nearest(weights: Array, scale: Array, limit: int) -> Array:
    """Each weight to the nearest integer within the limit, as float64."""
    integers: Array = np.clip(np.rint(weights / scale[..., None]), -limit, limit)
    return integers


def one_by_one(hessian: Array) -> Method:
    """Rounds one term at a time and spreads its error over those still real: GPTQ (Frantar et al. 2022, algorithm 1).

    Args:
        hessian: damped.
    """
    # Terms of large inputs first: their errors can then still be made up for (the paper's "act order").
    order = _largest_first(hessian)
    factor = _inverse_factor(_permuted(hessian, order))

    def method(weights: Array, scale: Array, limit: int, zeros: Array | None = None) -> Array:
        real = np.take_along_axis(weights, order[:, None, :], axis=2)
        pruned = None if zeros is None else np.take_along_axis(zeros, order[:, None, :], axis=2)
        integers, errors = np.empty_like(real), np.zeros_like(real)
        for k in range(real.shape[2]):
            first = k - k % BLOCK
            if k == first:  # all that earlier blocks spread over this one, as one product
                real[:, :, k : k + BLOCK] -= errors[:, :, :k] @ factor[:, :k, k : k + BLOCK]
            value = real[:, :, k] - (errors[:, :, first:k] @ factor[:, first:k, k, None])[..., 0]
            integers[:, :, k] = np.clip(np.rint(value / scale), -limit, limit)
            if pruned is not None:
                integers[:, :, k][pruned[:, :, k]] = 0
            errors[:, :, k] = (value - integers[:, :, k] * scale) / factor[:, k, k, None]
        return _restored(integers, order)

    return method


def half_by_half(hessian: Array) -> Method:
    """Rounds half of the terms, refits the rest, and so on: ERQ's Wqer (Zhong et al. 2024, section 4.2).

    With e the error of the half that is rounded, the rest moves by the ridge solution -e A_hr (A_rr)^-1, A being
    the damped second moment, h the half, r the rest. Before that the rounding is refined (`refined`), by exact
    changes of the loss where the paper takes a proxy's gradient.

    Args:
        hessian: damped.
    """
    order = _largest_first(hessian)
    moments = _permuted(hessian, order)

    def method(weights: Array, scale: Array, limit: int, zeros: Array | None = None) -> Array:
        real = np.take_along_axis(weights, order[:, None, :], axis=2)
        pruned = None if zeros is None else np.take_along_axis(zeros, order[:, None, :], axis=2)
        integers, first = np.empty_like(real), 0
        while first < real.shape[2]:
            middle = first + (real.shape[2] - first + 1) // 2
            half, rest = slice(first, middle), slice(middle, None)
            still = None if pruned is None else pruned[:, :, half]
            rounded = nearest(real[:, :, half], scale, limit)
            if still is not None:
                rounded[still] = 0
            rounded = refined(real[:, :, half], scale, rounded, moments[:, half, half], limit, still)
            pull = (rounded * scale[..., None] - real[:, :, half]) @ moments[:, half, rest]
            real[:, :, rest] -= _times_inverse(pull, moments[:, rest, rest])
            integers[:, :, half], first = rounded, middle
        return _restored(integers, order)

    return method


def refined(
    weights: Array, scale: Array, integers: Array, hessian: Array, limit: int, zeros: Array | None = None
) -> Array:
    """Integers that no single step of one of them improves: each channel takes its best step, and again.

    A step d of term j changes the loss by 2 d (e A)_j + d^2 A_jj; the loss never grows. Integers that must be zero
    take no step.
    """
    shape = integers.shape
    group = np.repeat(np.arange(shape[0]), shape[1])
    integers = integers.reshape(-1, shape[2]).copy()
    step = np.broadcast_to(scale, shape[:2]).reshape(-1, 1)
    error = integers * step - weights.reshape(integers.shape)
    slope = (error.reshape(shape) @ hessian).reshape(integers.shape)
    square = step**2 * np.diagonal(hessian, axis1=-2, axis2=-1)[group]
    if zeros is not None:
        square = np.where(zeros.reshape(square.shape), np.inf, square)
    rows = np.arange(len(integers))  # channels that still improve
    while len(rows):
        pull = 2 * step[rows] * slope[rows]
        up = np.where(integers[rows] < limit, square[rows] + pull, np.inf)
        down = np.where(integers[rows] > -limit, square[rows] - pull, np.inf)
        best = np.minimum(up, down).argmin(axis=1)
        here = np.arange(len(rows)), best
        sign = np.where(up[here] <= down[here], 1.0, -1.0)
        noise = NOISE * np.abs(np.einsum("ct,ct->c", error[rows], slope[rows]))
        helps = np.minimum(up[here], down[here]) < -noise
        rows, best, sign = rows[helps], best[helps], sign[helps]
        moved = sign * step[rows, 0]
        integers[rows, best] += sign
        error[rows, best] += moved
        slope[rows] += moved[:, None] * hessian[group[rows], best]
    return integers.reshape(shape)


def fitted_scale(weights: Array, integers: Array, hessian: Array, otherwise: Array) -> Array:
    """The scale of each channel at which its integers q have the smallest loss: w A q^T / q A q^T.

    It is `otherwise`, shape (groups, channels), where that is not a positive number.
    """
    moved = integers @ hessian
    power, product = (moved * integers).sum(axis=2), (moved * weights).sum(axis=2)
    usable = (power > 0) & (product > 0)
    scale: Array = np.where(usable, product / np.where(usable, power, 1.0), otherwise)
    return scale


def loss(weights: Array, scale: Array, integers: Array, hessian: Array) -> Array:
    """Squared change of each channel's output, shape (groups, channels)."""
    error = integers * scale[..., None] - weights
    total: Array = ((error @ hessian) * error).sum(axis=2)
    return total


def _times_inverse(values: Array, symmetric: Array) -> Array:
    """values @ inverse(symmetric)."""
    product: Array = np.linalg.solve(symmetric, values.swapaxes(-1, -2)).swapaxes(-1, -2)
    return product


def _inverse_factor(hessian: Array) -> Array:
    """U, upper triangular, with U^T U the inverse: GPTQ's Cholesky form, without inverting first."""
    backwards = np.linalg.cholesky(hessian[:, ::-1, ::-1])[:, ::-1, ::-1]  # upper, times its transpose the Hessian
    # In order in memory: BLAS takes no matrix that runs backwards, and numpy's own loops take ten times as long.
    return _upper_inverse(np.ascontiguousarray(backwards))


def _upper_inverse(upper: Array) -> Array:
    """The inverse of upper triangular matrices; of large ones in halves, a sixth of the work of an inverse."""
    size = upper.shape[-1]
    if size < WIDE:
        return np.asarray(np.linalg.inv(upper))
    half, inverse = size // 2, np.zeros_like(upper)
    first, last = (_upper_inverse(part) for part in (upper[:, :half, :half], upper[:, half:, half:]))
    inverse[:, :half, :half], inverse[:, half:, half:] = first, last
    inverse[:, :half, half:] = -first @ (upper[:, :half, half:] @ last)
    return inverse


def _largest_first(hessian: Array) -> Array:
    return np.argsort(-np.diagonal(hessian, axis1=-2, axis2=-1), axis=-1, kind="stable")


def _permuted(hessian: Array, order: Array) -> Array:
    rows = np.take_along_axis(hessian, order[:, :, None], axis=1)
    return np.take_along_axis(rows, order[:, None, :], axis=2)


def _restored(values: Array, order: Array) -> Array:
    """Undoes the reordering of the terms."""
    restored = np.empty_like(values)
    np.put_along_axis(restored, order[:, None, :], values, axis=2)
    return restored
