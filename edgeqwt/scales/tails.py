"""How far values reach that few samples have not shown.

The largest of some hundred values is exceeded soon. A range that ends there clips the next unusual sample, and where
that is an output of few elements, the error of this one sample may be most of the error of all. The excess of a value
over a high threshold is close to exponential for the usual distributions (Pickands 1975, with shape 0; Balkema and
de Haan 1974), so the mean excess of the largest values over the smallest of them tells what lies beyond any end:
of w values above the threshold u, whose mean excess is b, those beyond r are expected to err by
2 b^2 w exp(-(r - u) / b) in sum. Of many values nothing is extrapolated: they have tails of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeqwt.calibration.statistics import FOLDS, Statistics
from edgeqwt.graph.graph import Array

LARGEST = 20  # values that the tail on their side is estimated from
SHARE = 0.25  # of all values at most
FEWEST = 3
FEW = 8192  # values of a tensor: of more the observed ones tell enough, and outliers of single channels tell nothing
CERTAIN = 2.0
"""The largest values of four folds of an exponential tail differ by less than the mean excess over so much in one of a
hundred cases."""
FURTHER = np.linspace(0.0, 10.0, 41)
"""Ends that are tried, beyond the one that the observed values ask for, in units of the mean excess."""


@dataclass(frozen=True)
class _Tail:
    """The largest values, or the largest of their negatives.

    Attributes:
        threshold: the smallest of them.
        excess: by how much they exceed it on average.
        weight: how much they count together.
    """

    threshold: float
    excess: float
    weight: float

    def beyond(self, ends: Array) -> Array:
        """The summed squared distance to each end, >= 0, of what is expected beyond it."""
        if self.excess <= 0:
            return np.zeros(ends.shape)
        far = np.maximum(ends - self.threshold, 0.0)
        found: Array = 2 * self.excess**2 * self.weight * np.exp(-far / self.excess)
        return found


def with_tails(statistics: Statistics, low: float, high: float, levels: int) -> tuple[float, float]:
    """The range, wider where what is expected beyond it costs more than coarser steps do.

    Args:
        statistics: of the tensor.
        low: where the range begins that its observed values ask for, at most 0.
        high: where it ends, at least 0.
        levels: number of integer values.
    """
    if (counts := statistics.counts) is None or not 0 < statistics.seen <= FEW or not counts.any():
        return low, high
    centers, each = statistics.centers(), float(counts.sum()) / statistics.seen
    ends = _ends_of_folds(statistics, centers)
    lows, below = _further(-low, counts[::-1], -centers[::-1], each, -ends[:, 0])
    highs, above = _further(high, counts, centers, each, ends[:, 1])
    step = (highs[None, :] + lows[:, None]) / (levels - 1)
    cost = float(counts.sum()) * step**2 / 12 + below[:, None] + above[None, :]
    i, j = np.unravel_index(np.argmin(cost), cost.shape)
    return -float(lows[i]), float(highs[j])


def _ends_of_folds(statistics: Statistics, centers: Array) -> Array:
    """The smallest and the largest value of each fold of the samples, shape (folds that have values, 2)."""
    assert statistics.folds is not None
    found = [np.flatnonzero(fold)[[0, -1]] for fold in statistics.folds[:FOLDS] if fold.any()]
    return centers[np.array(found, np.intp).reshape(-1, 2)]


def _further(end: float, counts: Array, centers: Array, each: float, largest: Array) -> tuple[Array, Array]:
    """Ends to try on the side of the large values, and what is expected beyond each."""
    tail = _tail(counts, centers, each, largest)
    if end <= 0 or tail is None:  # where nothing is of that sign, nothing may be
        return np.array([end]), np.zeros(1)
    ends = end + FURTHER * tail.excess
    return ends, tail.beyond(ends)


def _tail(counts: Array, centers: Array, each: float, largest: Array) -> _Tail | None:
    """The tail of the large values of a histogram in which a value counts `each` on average; None of few.

    Where the largest values of folds of the samples differ by less than the mean excess, the large values are those of
    some channels, which have them on every sample: then the folds tell how far the next sample may reach.
    """
    wanted = min(LARGEST, SHARE * float(counts.sum()) / each)
    if wanted < FEWEST or len(largest) == 1:  # one sample tells nothing of others
        return None
    above = np.cumsum(counts[::-1])[::-1]
    first = int(np.flatnonzero(above >= wanted * each)[-1])
    weight, threshold = float(above[first]), float(centers[first])
    excess = float((counts[first:] * (centers[first:] - threshold)).sum()) / weight
    spread = float(np.ptp(largest)) if len(largest) > 1 else np.inf
    if CERTAIN * spread < excess:
        return _Tail(float(largest.min()), spread, len(largest) * each)
    return _Tail(threshold, excess, weight)
