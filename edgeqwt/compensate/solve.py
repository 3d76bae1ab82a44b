"""Moments -> gain and offset per output channel (CWAC), accepted on held-out samples.

QwT-v2, "Channel-wise affine compensation": y is approximated by g * y_q + o with
    g = cov(y_q, y) / var(y_q),    o = mean(y) - g * mean(y_q),
the least-squares line of each channel. Bias correction is the case g = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeqwt.compensate.moments import Moments
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
            achieves. y_q is noisy, and least squares on a noisy regressor gives slopes that are
            too small; a small gain pays at its own layer, and attenuates the next.
        rewrite_scales: also rewrite output scales where it pays.
    """

    gain: bool = True
    offset: bool = True
    gain_limit: float = 4.0
    margin: float = 1e-3
    gain_margin: float = 0.05
    rewrite_scales: bool = True


@dataclass(frozen=True, eq=False)
class Correction:
    """Gain and offset of every output channel, in real units of the layer's output.

    Attributes:
        gain, offset: float64, shape (channels,); 1 and 0 where a channel is left alone.
        refused: reason -> number of channels that were left alone, or got less, because of it.
    """

    gain: Array
    offset: Array
    refused: dict[str, int]

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return bool(np.all(self.gain == 1) and np.all(self.offset == 0))


DEGENERATE = "output does not vary on the calibration data"
OUT_OF_BOUNDS = "gain out of bounds"
NO_HELP = "no gain on held-out samples"


def solve(
    fit: Moments, held_out: Moments, options: Options, can_gain: bool = True, can_offset: bool = True
) -> Correction:
    """The correction of one layer.

    Per channel the candidates are nothing, the offset alone, the gain alone and both;
    the one with the smallest squared error on the held-out samples is taken, if it beats
    nothing by `options.margin`.

    Args:
        fit: moments that the candidates are computed from.
        held_out: moments of other samples, which decide.
        can_gain, can_offset: what the layer has room for.
    """
    ones, zeros = np.ones_like(fit.q), np.zeros_like(fit.q)
    n = max(fit.n, 1)
    mean_q, mean_y = fit.q / n, fit.y / n
    variance = fit.qq / n - mean_q**2
    covariance = fit.qy / n - mean_q * mean_y
    # The variance is a difference of two sums; below this it is their rounding error.
    constant = variance <= 1e-10 * (fit.qq / n) + np.finfo(np.float64).tiny
    slope = np.divide(covariance, variance, out=ones.copy(), where=~constant)
    through_zero = np.divide(fit.qy, fit.qq, out=ones.copy(), where=~constant)
    bad = (np.abs(slope) > options.gain_limit) | (np.abs(slope) < 1 / options.gain_limit)
    usable = options.gain and can_gain
    candidates = [(ones, zeros)]
    if options.offset and can_offset:
        candidates.append((ones, mean_y - mean_q))
        if usable:
            gain = np.where(constant | bad, 1.0, slope)
            candidates.append((gain, mean_y - gain * mean_q))
    elif usable:
        outside = (np.abs(through_zero) > options.gain_limit) | (np.abs(through_zero) < 1 / options.gain_limit)
        candidates.append((np.where(constant | outside, 1.0, through_zero), zeros))
    errors = np.stack([held_out.error(g, o) for g, o in candidates])
    errors[0] *= 1 - options.margin
    errors[2:] *= 1 + options.gain_margin
    best = errors.argmin(axis=0)
    refused = {
        DEGENERATE: int(constant.sum()) if usable else 0,
        OUT_OF_BOUNDS: int((bad & ~constant).sum()) if usable else 0,
        NO_HELP: int((best == 0).sum()),
    }
    gains, offsets = (np.stack(parts) for parts in zip(*candidates, strict=True))
    channel = np.arange(len(best))
    return Correction(gains[best, channel], offsets[best, channel], {k: v for k, v in refused.items() if v})
