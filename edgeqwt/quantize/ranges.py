"""How the range of an activation is chosen from its statistics.

A rule is a frozen dataclass whose fields are its options; `RULES` lists them by
the name that recipes use. To add one, write the class and add its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Array

Range = tuple[float, float]


class RangeRule(Protocol):
    """Chooses the real range that the integers of one tensor will span."""

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """The range [low, high], low <= 0 <= high.

        Args:
            statistics: of the tensor, or of all tensors that must share its scale, merged.
            levels: number of integer values, 256 at 8 bits.
        """
        ...


@dataclass(frozen=True)
class MinMax:
    """The extremes that calibration saw: nothing is clipped."""

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """See RangeRule."""
        return min(statistics.low, 0.0), max(statistics.high, 0.0)


@dataclass(frozen=True)
class Mse:
    """The range with the smallest mean squared quantization error over the histogram.

    Within the range a value errs by step^2 / 12 on average, outside it by its squared
    distance to the range's end; exact zeros do not err (Shin et al. 2016; Banner et al.
    2019, eq. 5, with the observed histogram in place of a fitted density).

    Attributes:
        candidates: ends tried on each side, evenly spaced between 0 and the extreme.
    """

    candidates: int = 128

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """See RangeRule."""
        low, high = MinMax().choose(statistics, levels)
        if statistics.counts is None or high <= low:
            return low, high
        fraction = np.arange(1, self.candidates + 1) / self.candidates
        lows = low * fraction if low < 0 else np.zeros(1)
        highs = high * fraction if high > 0 else np.zeros(1)
        counts, centers = statistics.counts, statistics.centers()
        below = _clip_cost(-lows, counts[::-1], -centers[::-1])
        above = _clip_cost(highs, counts, centers)
        step = (highs[None, :] - lows[:, None]) / (levels - 1)
        inside = counts.sum() - below[0][:, None] - above[0][None, :]
        cost = inside * step**2 / 12 + below[1][:, None] + above[1][None, :]
        i, j = np.unravel_index(np.argmin(cost), cost.shape)
        return float(lows[i]), float(highs[j])


def _clip_cost(ends: Array, counts: Array, centers: Array) -> tuple[Array, Array]:
    """For each end >= 0: how many values lie above it, and their summed squared distance to it."""
    # Suffix sums of 1, v and v^2 give sum((v - end)^2) for any end in constant time.
    n = np.cumsum(counts[::-1])[::-1]
    s = np.cumsum((counts * centers)[::-1])[::-1]
    q = np.cumsum((counts * centers**2)[::-1])[::-1]
    first = np.searchsorted(centers, ends)
    padded = [np.append(a, 0.0)[first] for a in (n, s, q)]
    return padded[0], padded[2] - 2 * ends * padded[1] + ends**2 * padded[0]


RULES: Mapping[str, type[RangeRule]] = MappingProxyType({"minmax": MinMax, "mse": Mse})
