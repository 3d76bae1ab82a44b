"""Moments -> gain and offset per output channel (CWAC), accepted on held-out samples.

QwT-v2, "Channel-wise affine compensation": y is approximated by g * q + o with
    g = cov(q, y) / var(q),    o = mean(y) - g * mean(q),
the least-squares line of each channel. Bias correction is the case g = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        margin: smallest relative drop of the held-out squared error that counts as help;
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
    """

    gain: Array
    offset: Array
    refused: Mapping[str, int]

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return bool(np.all(self.gain == 1) and np.all(self.offset == 0))


Realized = Callable[[Array, Array], tuple[Array, Array]]

DEGENERATE = "output does not vary on the calibration data"
OUT_OF_BOUNDS = "gain out of bounds"
NO_HELP = "does not help on held-out samples"


def solve(
    fit: Moments,
    held_out: Moments,
    options: Options,
    can_gain: bool = True,
    can_offset: bool = True,
    realized: Realized = lambda gain, offset: (gain, offset),
) -> Correction:
    """The correction of one layer.

    Per channel the candidates are nothing, the offset alone, and the gain, with the offset
    where one is allowed; the one with the smallest squared error on the held-out samples is
    taken, where it beats the simpler ones by the margins in `options`.

    Args:
        fit: moments that the candidates are computed from.
        held_out: moments of other samples, which decide.
        options: what may be fitted, and the margins.
        can_gain: whether the layer has headroom for a gain.
        can_offset: whether it has headroom for an offset.
        realized: what the file can hold of gains and offsets.
    """
    use_gain, use_offset = options.gain and can_gain, options.offset and can_offset
    ones, zeros = np.ones_like(fit.q), np.zeros_like(fit.q)
    mean_q, mean_y = fit.q / fit.n, fit.y / fit.n
    lines, handicaps = [(ones, zeros)], [1 - options.margin]
    refused: dict[str, int] = {}
    if use_offset:
        lines.append((ones, mean_y - mean_q))
        handicaps.append(1.0)
    if use_gain:
        gain, refused = _gain(fit, options.gain_limit, use_offset)
        lines.append((gain, mean_y - gain * mean_q if use_offset else zeros))
        handicaps.append(1 + options.gain_margin)
    lines = [lines[0], *(realized(g, o) for g, o in lines[1:])]
    errors = np.stack([h * held_out.error(g, o) for h, (g, o) in zip(handicaps, lines, strict=True)])
    errors[1:][~np.isfinite(errors[1:])] = np.inf
    best = errors.argmin(axis=0)
    channel = np.arange(len(best))
    gains, offsets = (np.stack(parts) for parts in zip(*lines, strict=True))
    refused[NO_HELP] = int((best == 0).sum())
    return Correction(gains[best, channel], offsets[best, channel], {k: v for k, v in refused.items() if v})


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
