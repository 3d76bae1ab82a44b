"""Moments -> gain and offset per output channel (CWAC), confirmed on samples that they were not fitted on.

QwT-v2, "Channel-wise affine compensation": y is approximated by g * q + o with
    g = cov(q, y) / var(q),    o = mean(y) - g * mean(q),
the least-squares line of each channel. Bias correction is the case g = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from edgeqwt.compensation.moments import Moments
from edgeqwt.graph.graph import Array


@dataclass(frozen=True)
class Options:
    """What the fit may do.

    Attributes:
        gain: fit a gain; otherwise the offset alone.
        offset: fit an offset; otherwise the gain alone.
        gain_limit: gains outside [1 / gain_limit, gain_limit] in magnitude are refused:
            a channel that needs one is broken, not biased.
        margin: smallest relative drop of the squared error on other samples that counts as help;
            below it a difference between two halves of the data is chance.
        gain_margin: smallest relative drop that a gain must add to what the offset alone
            achieves. q is noisy, and least squares on a noisy regressor gives slopes that are
            too small; a small gain pays at its own layer, and attenuates the next.
        constants: also correct constants by which channels are multiplied, or which are added to them: LayerNorm's
            gamma and beta.
        rewrite_scales: also rewrite output scales where it pays.
        rewrite_outputs: among them the scales of the model's own outputs. Programs that read
            scale and zero point from the file follow by themselves; those that hold copies must be changed.
    """

    gain: bool = True
    offset: bool = True
    gain_limit: Annotated[float, Ge(1)] = 4.0
    margin: Annotated[float, Interval(ge=0, le=1)] = 1e-3
    gain_margin: Annotated[float, Interval(ge=0, le=1)] = 0.05
    constants: bool = True
    rewrite_scales: bool = True
    rewrite_outputs: bool = False


@dataclass(frozen=True, eq=False)
class Correction:
    """Gain and offset of every output channel, in real units of the layer's output.

    Attributes:
        gain, offset: float64, shape (channels,); 1 and 0 where a channel is left alone.
        refused: reason -> number of channels that were left alone, or got less, because of it.
        confirmed: both as fitted without each fold, of the folds that have samples.
    """

    gain: Array
    offset: Array
    refused: Mapping[str, int]
    confirmed: tuple[tuple[Array, Array], ...] = ()

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return bool(np.all(self.gain == 1) and np.all(self.offset == 0))


Realized = Callable[[Array, Array], tuple[Array, Array]]

DEGENERATE = "output does not vary on the calibration data"
OUT_OF_BOUNDS = "gain out of bounds"
NO_HELP = "does not help on samples that it was not fitted on"
UNUSED = "nothing that it computes counts at the outputs"


def solve(
    folds: Sequence[Moments],
    options: Options,
    can_gain: bool = True,
    can_offset: bool = True,
    realized: Realized = lambda gain, offset: (gain, offset),
) -> Correction:
    """The correction of one layer.

    Per channel the candidates are nothing, the offset alone, and the gain, with the offset where one is allowed. Each
    is fitted without one fold at a time and judged on that fold; the one with the smallest squared error over all folds
    is taken, where it beats the simpler ones by the margins in `options`, and fitted on all of them. The samples of the
    gate, which judges the whole file, choose nothing here: of thousands of channels those would be taken that suit
    those by chance.

    Args:
        folds: moments of disjoint samples; those of no samples do not count, and a single one confirms itself.
        options: what may be fitted, and the margins.
        can_gain: whether the layer has headroom for a gain.
        can_offset: whether it has headroom for an offset.
        realized: what the file can hold of gains and offsets.
    """
    parts = [fold for fold in folds if fold.n > 0]
    if not parts:
        channels = folds[0].q.shape[-1]
        return Correction(np.ones(channels), np.zeros(channels), {UNUSED: channels})
    use_gain, use_offset = options.gain and can_gain, options.offset and can_offset
    handicaps = [1 - options.margin] + [1.0] * use_offset + [1 + options.gain_margin] * use_gain

    def lines(fit: Moments) -> tuple[list[tuple[Array, Array]], dict[str, int]]:
        found, refused = _lines(fit, use_gain, use_offset, options.gain_limit)
        return [found[0], *(realized(g, o) for g, o in found[1:])], refused

    without = [lines(_sum([p for j, p in enumerate(parts) if j != k] or parts))[0] for k in range(len(parts))]
    errors = np.sum([[p.error(g, o) for g, o in found] for p, found in zip(parts, without, strict=True)], axis=0)
    errors *= np.array(handicaps)[:, None]
    errors[1:][~np.isfinite(errors[1:])] = np.inf
    best = errors.argmin(axis=0)
    taken, refused = lines(_sum(parts))
    gain, offset = _chosen(taken, best)
    refused[NO_HELP] = int((best == 0).sum())
    confirmed = tuple(_chosen(found, best) for found in without)
    return Correction(gain, offset, {k: v for k, v in refused.items() if v}, confirmed)


def _chosen(lines: Sequence[tuple[Array, Array]], best: Array) -> tuple[Array, Array]:
    gain, offset = (np.stack(values)[best, np.arange(len(best))] for values in zip(*lines, strict=True))
    return gain, offset


def _sum(parts: Sequence[Moments]) -> Moments:
    return sum(parts[1:], parts[0])


def _lines(fit: Moments, gain: bool, offset: bool, limit: float) -> tuple[list[tuple[Array, Array]], dict[str, int]]:
    """The candidates, the simplest first, and the number of channels that the gain left alone, by reason."""
    ones, zeros = np.ones_like(fit.q), np.zeros_like(fit.q)
    mean_q, mean_y = fit.q / fit.n, fit.y / fit.n
    found, refused = [(ones, zeros)], dict[str, int]()
    if offset:
        found.append((ones, mean_y - mean_q))
    if gain:
        slope, refused = _gain(fit, limit, offset)
        found.append((slope, mean_y - slope * mean_q if offset else zeros))
    return found, refused


def _gain(fit: Moments, limit: float, with_offset: bool) -> tuple[Array, dict[str, int]]:
    """Each channel's slope, 1 where it is not to be used, and how many channels that are, by reason."""
    square = fit.qq / fit.n
    spread, product = square, fit.qy / fit.n
    if with_offset:
        spread, product = spread - (fit.q / fit.n) ** 2, product - fit.q * fit.y / fit.n**2
    # The variance is a difference of two sums; below this it is their rounding error.
    constant = spread <= 1e-10 * square + np.finfo(np.float64).tiny
    slope = np.divide(product, spread, out=np.ones_like(spread), where=~constant)
    outside = (np.abs(slope) > limit) | (np.abs(slope) < 1 / limit)
    return np.where(outside, 1.0, slope), {DEGENERATE: int(constant.sum()), OUT_OF_BOUNDS: int(outside.sum())}
