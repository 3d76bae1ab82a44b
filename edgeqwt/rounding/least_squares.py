"""The mathematics of rounding rules: weights whose layer's output errs least, given their inputs' second moments.

Arrays have a leading axis for the layer's groups of channels: weights (groups, channels, terms), scales
(groups, channels), second moments (groups, terms, terms). With A a second moment, the error of a channel whose
weights are off by e is e A e^T; `loss` is that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeqwt.graph.graph import Array
from edgeqwt.rounding.cholesky import cholesky, solved

# (real weights, scale of each channel, limit, where integers must be zero) -> integers within +-limit, as float64,
# and the loss of each channel.
Method = Callable[[Array, Array, int, Array | None], tuple[Array, Array]]

# A step that lowers a loss by less than this share of the error's size is rounding noise.
NOISE = 1e-9
BLOCK = 64  # terms whose errors are spread within the block one at a time, and over other ones together
TOGETHER = 1 << 16  # weights whose steps are looked for at a time: about what a core's cache holds


def damped(hessian: Array, share: float) -> Array:
    """The second moment with a share of its mean diagonal added to the diagonal, so that it can be inverted.

    It keeps inputs that calibration hardly saw from soaking up the error. Where nothing was seen, the identity:
    all weights count alike.
    """
    found = hessian.copy()
    diagonal = np.einsum("gtt->gt", found)
    diagonal += ridge_of(diagonal.mean(axis=1), share)[:, None]
    return found


def ridge_of(mean: Array, share: float) -> Array:
    """A share of the second moments' mean diagonals, shape (groups,), or 1 where nothing was seen."""
    return np.where(mean > 0, share * mean, 1.0)


def refitted(weights: Array, hessian: Array, pull: Array, share: float) -> Array:
    """Real weights that make up for errors of the layer's inputs: ERQ's Aqer (Zhong et al. 2024, section 4.1).

    Minimizes ||W' X - W Y||^2 + l ||W' - W||^2 over W', where X are the inputs that the layer gets and Y those
    that it would get from the float network. The derivative is zero where W' (X X^T + l) = W Y X^T + l W, so

        W' = W + W (Y - X) X^T (X X^T + l)^-1.

    Args:
        weights: W.
        hessian: X X^T.
        pull: W (Y - X) X^T, of the weights' shape.
        share: l as a share of the mean diagonal of X X^T.
    """
    held = damped(hessian, share)
    return weights + solved(cholesky(held, into=held), pull)


def nearest(weights: Array, scale: Array, limit: int) -> Array:
    """Each weight to the nearest integer within the limit, as float64."""
    integers: Array = np.clip(np.rint(weights / scale[..., None]), -limit, limit)
    return integers


def one_by_one(hessian: Array) -> Method:
    """Rounds one term at a time and spreads its error over those still real: GPTQ (Frantar et al. 2022, algorithm 1).

    With A = L L^T the loss is the square of e L, e being what the weights are off by. Terms that are rounded first
    stand last in A, so that what a term adds to the loss depends on those before it alone:

        (e L)_k = e_k L_kk + sum over j > k of e_j L_jk,

    which the integer makes as small as it can be. The paper inverts A first, for the same integers.

    Args:
        hessian: damped.
    """
    # Terms of large inputs first: their errors can then still be made up for (the paper's "act order").
    order = largest_first(hessian)[:, ::-1]
    moments = permuted(hessian, order)
    factor = cholesky(moments, into=moments)

    def method(weights: Array, scale: Array, limit: int, zeros: Array | None = None) -> tuple[Array, Array]:
        # Terms before channels, so that a term's channels lie side by side.
        real = _in_order(weights, order)
        pruned = None if zeros is None else _in_order(zeros, order)
        integers, errors, total = np.empty_like(real), np.empty_like(real), np.zeros_like(scale)
        for last in range(real.shape[1], 0, -BLOCK):
            first = max(last - BLOCK, 0)
            met = factor[:, last:, first:last].swapaxes(-1, -2) @ errors[:, last:]  # all that later terms left
            own = np.ascontiguousarray(factor[:, first:last, first:last].swapaxes(-1, -2))
            for k in range(last - 1, first - 1, -1):
                i = k - first
                left = met[:, i] + (own[:, None, i, i + 1 :] @ errors[:, k + 1 : last])[:, 0]
                value = real[:, k] + left / own[:, i, i, None]
                rounded = np.clip(np.rint(value / scale), -limit, limit)
                if pruned is not None:
                    rounded[pruned[:, k]] = 0
                integers[:, k], stored = rounded, rounded * scale
                errors[:, k] = real[:, k] - stored
                total += np.square((value - stored) * own[:, i, i, None])
        return _restored(integers.swapaxes(-1, -2), order), total

    return method


def half_by_half(hessian: Array) -> Method:
    """Rounds half of the terms, refits the rest, and so on: ERQ's Wqer (Zhong et al. 2024, section 4.2).

    With e the error of the half that is rounded, the rest moves by the ridge solution -e A_hr (A_rr)^-1, A being
    the damped second moment, h the half, r the rest. Before that the rounding is refined (`refined`), by exact
    changes of the loss where the paper takes a proxy's gradient.

    Args:
        hessian: damped.
    """
    order = largest_first(hessian)
    moments = permuted(hessian, order)

    def method(weights: Array, scale: Array, limit: int, zeros: Array | None = None) -> tuple[Array, Array]:
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
            if middle < real.shape[2]:
                real[:, :, rest] -= solved(cholesky(moments[:, rest, rest]), pull)
            integers[:, :, half], first = rounded, middle
        found = _restored(integers, order)
        return found, loss(weights, scale, found, hessian)

    return method


def refined(
    weights: Array, scale: Array, integers: Array, hessian: Array, limit: int, zeros: Array | None = None
) -> Array:
    """Integers that no single step of one of them improves: each channel takes its best step, and again.

    A step d of term j changes the loss by 2 d (e A)_j + d^2 A_jj; the loss never grows. Integers that must be zero
    take no step.
    """
    found = integers.copy()
    stepped(weights, weights @ hessian, scale, found, found @ hessian, hessian, limit, zeros)
    return found


def stepped(
    weights: Array, aim: Array, scale: Array, integers: Array, moved: Array, hessian: Array, limit: int,
    zeros: Array | None = None,
) -> None:  # fmt: skip
    """Takes the steps of `refined` in place.

    Args:
        weights: W, real.
        aim: W A.
        scale: of each channel.
        integers: Q; they change.
        moved: Q A, which changes with them.
        hessian: A.
        limit: of the integers.
        zeros: where they stay zero.
    """
    groups, channels, terms = integers.shape
    count = max(1, TOGETHER // terms)
    diagonal = np.diagonal(hessian, axis1=-2, axis2=-1)
    for g in range(groups):
        step = np.broadcast_to(scale, (groups, channels))[g][:, None]
        for first in range(0, channels, count):
            some = slice(first, first + count)
            mine, half = (step[some], integers[g, some], moved[g, some]), step[some] / 2 * diagonal[g]
            if zeros is not None:
                half[zeros[g, some]] = np.inf
            _step_rows(*mine, mine[0] * mine[2] - aim[g, some], weights[g, some], half, hessian[g], limit)


def _step_rows(
    step: Array, integers: Array, moved: Array, slope: Array, weights: Array, half: Array, hessian: Array, limit: int
) -> None:
    """The steps of some channels of one group; slope is e A, half what half a step adds to it."""
    noise = NOISE * np.abs(((step * integers - weights) * slope).sum(axis=1))
    rows = np.arange(len(integers))  # channels that still improve
    while len(rows):
        # Down the slope a step wins 2 step (|slope| - half); up the slope it never does.
        wins = np.abs(slope[rows]) - half[rows]
        wins[-np.sign(slope[rows]) * integers[rows] >= limit] = -np.inf
        best = wins.argmax(axis=1)
        helps = 2 * step[rows, 0] * wins[np.arange(len(rows)), best] > noise[rows]
        rows, best = rows[helps], best[helps]
        sign = -np.sign(slope[rows, best])
        integers[rows, best] += sign
        change = sign[:, None] * hessian[best]
        moved[rows] += change
        slope[rows] += step[rows] * change


def fitted_scale(
    integers: Array, aim: Array, moved: Array, otherwise: Array, total: Callable[[Array], Array] = lambda values: values
) -> Array:
    """The scale of each channel at which its integers q have the smallest loss: w A q^T / q A q^T.

    Args:
        integers: Q.
        aim: W A of the real weights W.
        moved: Q A.
        otherwise: what it is where that is not a positive number, shape (groups, channels).
        total: adds up over groups that share scales.
    """
    power, product = total((moved * integers).sum(axis=2)), total((aim * integers).sum(axis=2))
    usable = (power > 0) & (product > 0)
    scale: Array = np.where(usable, product / np.where(usable, power, 1.0), otherwise)
    return scale


def loss(weights: Array, scale: Array, integers: Array, hessian: Array) -> Array:
    """Squared change of each channel's output, shape (groups, channels)."""
    error = integers * scale[..., None] - weights
    total: Array = ((error @ hessian) * error).sum(axis=2)
    return total


def largest_first(hessian: Array) -> Array:
    """The terms of each group by their diagonal elements, the largest first; shape (groups, terms)."""
    return np.argsort(-np.diagonal(hessian, axis1=-2, axis2=-1), axis=-1, kind="stable")


def permuted(hessian: Array, order: Array) -> Array:
    """Each group's matrix with its rows and columns in another order."""
    found = [h[np.ix_(o, o)] for h, o in zip(hessian, order, strict=True)]
    return np.stack(found) if len(found) > 1 else found[0][None]


def _in_order(values: Array, order: Array) -> Array:
    """(groups, terms, channels), terms reordered."""
    return np.take_along_axis(values.swapaxes(-1, -2), order[:, :, None], axis=1)


def _restored(values: Array, order: Array) -> Array:
    """Undoes the reordering of the terms."""
    restored = np.empty_like(values)
    np.put_along_axis(restored, order[:, None, :], values, axis=2)
    return restored
