"""Weights as sub-vectors from a codebook: vector quantization whose codewords and assignments are calibrated together.

The rows of a layer's weights are cut into sub-vectors of so many terms, each of which becomes one of the codewords that
the whole layer has. A row has a scale of its own. With A the second moment of the layer's inputs, a row that is off by
e errs by e A e^T; k-means knows the diagonal of A alone, what follows knows all of it: in turn each sub-vector takes
the codeword that is best beside the row's others, and all codewords move to where the assignments want them. Neither
step can raise the loss. VQ4DiT (Deng et al. 2024) calibrates both by gradients, a softmax over a few candidates for
each sub-vector in place of the exact choice; GPTVQ (van Baalen et al. 2024) has the order of the first assignment.

Shapes: rows (rows, terms), cut (rows, pieces, length), zeros behind the last term; codes (count, length); chosen, the
codeword of each piece, (rows, pieces).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Interval

from edgeqwt.graph.graph import Array
from edgeqwt.rounding.cholesky import cholesky
from edgeqwt.rounding.least_squares import damped, fitted_scale, refitted
from edgeqwt.rounding.methods import Layer, Nearest, Rounded, own_ridge

LIMIT = 127
TOGETHER = 1 << 22  # distances in memory at a time
SOLVES = 12  # steps of conjugate gradients on the codewords
NOISE = 1e-12  # a change of the loss below this share of it is rounding noise


@dataclass(frozen=True)
class Codebook:
    """Weights from a codebook of sub-vectors per layer, `bits` / `length` bits for each weight (Deng et al. 2024).

    Codewords come from k-means, weighted by what the inputs' squares are; then they and the assignments are calibrated
    in turn by the layer's error. Codewords are int8, rows have scales as they have without: kernels see int8 weights.

    Attributes:
        length: terms of a sub-vector.
        bits: of an assignment: a codebook has 2 ** `bits` codewords.
        rounds: of calibration: assignments, then codewords.
        means: rounds of k-means.
        smallest: weights from which on a layer has a codebook; others are rounded to nearest.
        damping: added to the second moments' diagonals, as a share of their mean.
        samples: that second moments are summed over, at most.
        float_targets: aim at what the float layer computes from the float network's inputs.
        seed: of the first codewords.
    """

    length: Annotated[int, Interval(ge=1, le=16)] = 4
    bits: Annotated[int, Interval(ge=1, le=8)] = 8
    rounds: Annotated[int, Interval(ge=0, le=1000)] = 6
    means: Annotated[int, Interval(ge=1, le=1000)] = 20
    smallest: Annotated[int, Ge(1)] = 4096
    damping: Annotated[float, Interval(ge=1e-6, le=1)] = 0.01
    samples: Annotated[int, Ge(1)] = 512
    float_targets: bool = True
    seed: Annotated[int, Interval(ge=0, le=2**63 - 1)] = 0
    ridge: ClassVar[float] = 0.0
    attention: ClassVar[bool] = False

    def round(self, layer: Layer) -> Rounded:
        """Integers from a codebook, and scales; to nearest where a layer is small or has groups of channels."""
        groups, _, terms = layer.weights.shape
        if groups > 1 or layer.weights.size < self.smallest or layer.bounds is None:
            return Nearest().round(layer)
        weights = layer.weights
        if layer.pull is not None:
            weights = refitted(weights, layer.hessian, layer.pull, own_ridge(layer))
        low, high = (b[0] for b in layer.bounds)
        start = begun(weights[0], damped(layer.hessian, self.damping)[0], (low, high), self)
        found = calibrated(start, self.rounds)
        whole = in_integers(found, (low, high), self.rounds)
        integers = whole.values.reshape(len(whole.scale), -1)[:, :terms]
        return Rounded(integers[None], whole.scale[None])


@dataclass(frozen=True, eq=False)
class Fit:
    """A layer's rows, and what stands for them: `scale` times codewords.

    Attributes:
        rows: real weights, padded, shape (rows, pieces * length).
        hessian: of the inputs, padded likewise.
        scale: of each row.
        codes: codewords.
        chosen: which of them each piece has.
    """

    rows: Array
    hessian: Array
    scale: Array
    codes: Array
    chosen: Array

    @property
    def values(self) -> Array:
        """The codewords in place, shape (rows, pieces, length)."""
        return np.asarray(self.codes[self.chosen])

    @property
    def error(self) -> Array:
        """What the rows are off by."""
        return np.asarray(self.values.reshape(self.rows.shape) * self.scale[:, None] - self.rows)

    @property
    def loss(self) -> float:
        """Sum of e A e^T over rows."""
        error = self.error
        return float(((error @ self.hessian) * error).sum())


def begun(weights: Array, hessian: Array, bounds: tuple[Array, Array], rule: Codebook) -> Fit:
    """Codewords by k-means of the rows over their scales, each piece at one of them.

    Args:
        weights: real, shape (rows, terms).
        hessian: of the inputs.
        bounds: smallest and largest scale of each row.
        rule: options.
    """
    rows, length = weights.shape[0], rule.length
    more = -weights.shape[1] % length
    padded = np.pad(weights, ((0, 0), (0, more)))
    hessian = np.pad(hessian, ((0, more), (0, more)))
    size = np.sqrt(np.square(weights).mean(axis=1))
    widest = (np.abs(weights).max(axis=1) / np.where(size > 0, size, 1)).max() / LIMIT
    scale = np.clip(np.where(size > 0, size * widest, 1.0), *bounds)
    pieces = (padded / scale[:, None]).reshape(-1, length)
    counts = np.square(scale)[:, None] * np.diagonal(hessian)
    codes, _ = k_means(pieces, counts.reshape(-1, length), 2**rule.bits, rule.means, rule.seed)
    start = Fit(padded, hessian, scale, codes, np.zeros((rows, len(pieces) // rows), np.int64))
    return replace(start, chosen=in_order(start))


def k_means(vectors: Array, counts: Array, count: int, rounds: int, seed: int) -> tuple[Array, Array]:
    """Codewords (count, length) and each vector's nearest one, by Lloyd's rounds from k-means++ (Arthur 2007).

    Args:
        vectors: shape (n, length).
        counts: what the square of each error counts, likewise.
        count: of codewords; fewer different vectors leave some unused.
        rounds: of Lloyd's.
        seed: of the first codewords.
    """
    rng = np.random.default_rng(seed)
    codes: Array = np.zeros((count, vectors.shape[1]))
    far: Array = np.full(len(vectors), np.inf)
    weight = counts.sum(axis=1)
    for k in range(count):
        shares = np.cumsum(weight if k == 0 else far)
        if shares[-1] <= 0:  # every vector has its codeword
            codes[k:] = codes[0]
            break
        codes[k] = vectors[min(np.searchsorted(shares, rng.random() * shares[-1], "right"), len(vectors) - 1)]
        far = np.minimum(far, (counts * np.square(vectors - codes[k])).sum(axis=1))
    for _ in range(rounds):
        chosen = closest(vectors, counts, codes)
        total, sums = np.zeros_like(codes), np.zeros_like(codes)
        np.add.at(total, chosen, counts)
        np.add.at(sums, chosen, counts * vectors)
        codes = np.where(total > 0, sums / np.where(total > 0, total, 1), codes)
    return codes, closest(vectors, counts, codes)


def closest(vectors: Array, counts: Array, codes: Array) -> Array:
    """The codeword of least weighted squared distance of each vector."""
    found = np.empty(len(vectors), np.int64)
    step = max(1, TOGETHER // len(codes))
    for first in range(0, len(vectors), step):
        some = slice(first, first + step)
        weight = counts[some]
        found[some] = (weight @ np.square(codes).T - 2 * (weight * vectors[some]) @ codes.T).argmin(axis=1)
    return found


def in_order(fit: Fit) -> Array:
    """Assignments one piece after the other, later ones making up for what those before err: GPTQ, in sub-vectors.

    With A = L L^T the loss is the square of e L; the pieces are walked from the last one on, so that what a piece adds
    depends on those behind it alone: (e L)_p = e_p L_pp + sum over q > p of e_q L_qp.
    """
    length, real = fit.codes.shape[1], fit.rows / fit.scale[:, None]
    # Padding has no inputs: any small number makes the matrix one that can be factored.
    hessian = fit.hessian + np.diag(np.where(np.diagonal(fit.hessian) > 0, 0, np.diagonal(fit.hessian).max() * 1e-6))
    factor = cholesky(hessian[None])[0]
    errors, chosen = np.zeros_like(real), np.zeros_like(fit.chosen)
    for p in range(fit.chosen.shape[1] - 1, -1, -1):
        here, behind = slice(p * length, (p + 1) * length), slice((p + 1) * length, None)
        own = factor[here, here]
        met = errors[:, behind] @ factor[behind, here]
        wanted = real[:, here] @ own - met
        turned = fit.codes @ own
        chosen[:, p] = (np.square(turned).sum(axis=1) - 2 * wanted @ turned.T).argmin(axis=1)
        errors[:, here] = fit.codes[chosen[:, p]] - real[:, here]
    return chosen


def calibrated(fit: Fit, rounds: int) -> Fit:
    """Assignments and codewords in turn; the loss never grows."""
    for _ in range(rounds):
        fit = refitted_codes(reassigned(fit))
    return fit


def reassigned(fit: Fit) -> Fit:
    """Each piece at the codeword that is best beside the row's other pieces, one piece after the other.

    A change d of a piece changes the loss by 2 d (e A)_p + d A_pp d^T, e A being that of the whole row.
    """
    length, chosen = fit.codes.shape[1], fit.chosen.copy()
    slope, noise = (fit.error / fit.scale[:, None]) @ fit.hessian, NOISE * fit.loss
    rows = np.arange(len(chosen))
    for p in range(chosen.shape[1]):
        here = slice(p * length, (p + 1) * length)
        own = fit.hessian[here, here]
        before = fit.codes[chosen[:, p]]
        turned = fit.codes @ own
        # What c costs in place of b: 2 (c - b) s + (c - b) A (c - b), less what does not depend on c.
        cost = (turned * fit.codes).sum(axis=1) + 2 * (slope[:, here] - before @ own) @ fit.codes.T
        best = cost.argmin(axis=1)
        wins = cost[rows, chosen[:, p]] - cost[rows, best]
        best = np.where(wins * np.square(fit.scale) > noise, best, chosen[:, p])
        slope += (fit.codes[best] - before) @ fit.hessian[here]
        chosen[:, p] = best
    return replace(fit, chosen=chosen)


def refitted_codes(fit: Fit) -> Fit:
    """The codewords of least loss for the assignments as they are, by conjugate gradients from those that are there."""
    weights = np.square(fit.scale)[:, None]

    def gathered(rows: Array) -> Array:
        total = np.zeros_like(fit.codes)
        np.add.at(total, fit.chosen, (rows * weights).reshape(*fit.chosen.shape, -1))
        return total

    def applied(codes: Array) -> Array:
        return gathered(codes[fit.chosen].reshape(fit.rows.shape) @ fit.hessian)

    codes = fit.codes
    left = -gathered((fit.error / fit.scale[:, None]) @ fit.hessian)
    direction, size = left, float(np.square(left).sum())
    for _ in range(SOLVES):
        turned = applied(direction)
        power = float((direction * turned).sum())
        if power <= 0 or size <= 0:
            break
        codes = codes + size / power * direction
        left = left - size / power * turned
        before, size = size, float(np.square(left).sum())
        direction = left + size / before * direction
    return replace(fit, codes=codes)


def in_integers(fit: Fit, bounds: tuple[Array, Array], rounds: int) -> Fit:
    """Codewords of int8, the largest of them at the limit; assignments and scales that suit them.

    Args:
        fit: calibrated.
        bounds: smallest and largest scale of each row.
        rounds: of assignments and scales.
    """
    unit = np.abs(fit.codes).max() / LIMIT or 1.0
    codes = np.clip(np.rint(fit.codes / unit), -LIMIT, LIMIT)
    found = replace(fit, codes=codes, scale=np.clip(fit.scale * unit, *bounds))
    aim = fit.rows @ fit.hessian
    for _ in range(rounds):
        found = reassigned(found)
        values = found.values.reshape(fit.rows.shape)
        scale = fitted_scale(values[None], aim[None], (values @ fit.hessian)[None], found.scale[None])[0]
        found = replace(found, scale=np.clip(scale, *bounds))
    return found
