"""How the range of an activation is chosen from its statistics.

A rule is a frozen dataclass whose fields are its options. Recipes name them through `techniques.ranges`; `RULES` are
those that `PowerOfTwo` can be built on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Interval

from edgeqwt.calibration.statistics import BINS, FOLDS, Statistics
from edgeqwt.errors import RecipeError
from edgeqwt.graph.graph import Array
from edgeqwt.scales.tails import with_tails

Range = tuple[float, float]


class RangeRule(Protocol):
    """Chooses the real range that the integers of one tensor will span."""

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """The range [low, high], low <= 0 <= high.

        Args:
            statistics: of the tensor, or of all tensors that must share its scale, merged.
            levels: number of integer values, 256 at 8 bits; odd where zero must be the middle one.
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
    """The range with the smallest mean squared error over the histogram, where clipping counts more, and a margin.

    Within the range a value errs by step^2 / 12 on average, outside it by its squared
    distance to the range's end; exact zeros do not err (Shin et al. 2016; Banner et al.
    2019, eq. 5, with the observed histogram in place of a fitted density).

    Attributes:
        candidates: ends tried on each side, evenly spaced between 0 and the extreme.
        clipping: how much the squared error of a clipped value counts, where that of a rounded one counts 1. In the
            sums that follow errors of rounding cancel; values that are clipped all err the same way, and neighbours
            together.
        margins: the range is widened by that one of `MARGINS` with which ranges chosen without one fold of the samples
            err least on it. Few samples do not have the tails of many.
        tails: the range is widened further where values are so few that larger ones must be expected (see
            `scales.tails`), by this share of what their tails ask for.
    """

    candidates: Annotated[int, Interval(ge=1, le=4096)] = 128
    clipping: Annotated[float, Interval(ge=1, le=1000)] = 2.0
    margins: bool = True
    tails: Annotated[float, Interval(ge=0, le=1)] = 0.0

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """See RangeRule."""
        limits = MinMax().choose(statistics, levels)
        if (folds := statistics.folds) is None:
            return limits
        centers, counts = statistics.centers(), folds.sum(axis=0)
        low, high = self._least(counts, centers, limits, levels)
        margin = self._margin(folds, counts, centers, limits, levels) if self.margins else 1.0
        low, high = low * margin, high * margin
        if not self.tails:
            return low, high
        lowest, highest = with_tails(statistics, low, high, levels)
        return low + self.tails * (lowest - low), high + self.tails * (highest - high)

    def _least(self, counts: Array, centers: Array, limits: Range, levels: int) -> Range:
        """The best range between two extremes for a histogram."""
        low, high = limits
        if high <= low:
            return low, high
        lows, highs = _limits(low, self.candidates), _limits(high, self.candidates)
        beyond, cost = _squares_beyond(-lows, counts[::-1], -centers[::-1])
        below = _Side(lows, beyond, self.clipping * cost)
        beyond, cost = _squares_beyond(highs, counts, centers)
        above = _Side(highs, beyond, self.clipping * cost)
        return _cheapest(below, above, float(counts.sum()), levels, 2.0)

    def _margin(self, folds: Array, counts: Array, centers: Array, limits: Range, levels: int) -> float:
        """That of `MARGINS` which is best on folds that the range was not chosen on; 1 where one has no samples."""
        samples = folds[:FOLDS]
        if not samples.any(axis=1).all():
            return 1.0
        cost, half = np.zeros(len(MARGINS)), (centers[1] - centers[0]) / 2
        for fold in samples:
            others = counts - fold
            taken = centers[np.flatnonzero(others)[[0, -1]]]  # to one bin
            reach = max(limits[0], min(taken[0] - half, 0.0)), min(limits[1], max(taken[1] + half, 0.0))
            low, high = self._least(others, centers, reach, levels)
            cost += _squared_errors(fold, centers, low * MARGINS, high * MARGINS, levels, self.clipping)
        return float(MARGINS[np.argmin(cost)])


@dataclass(frozen=True)
class PerLayer:
    """One rule for most tensors, and others for what some ops compute.

    Attributes:
        default: chooses where no other one does.
        by_name: rules by the names of float tensors.
    """

    default: RangeRule
    by_name: Mapping[str, RangeRule]

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """See RangeRule; of a tensor that is not known by name."""
        return self.default.choose(statistics, levels)


def rule_for(rule: RangeRule, names: Iterable[str]) -> RangeRule:
    """The rule for tensors that share one scale: that of the first of them that has one of its own, else the default.

    Args:
        rule: any, `PerLayer` included.
        names: of the tensors, in the order of the graph.
    """
    if not isinstance(rule, PerLayer):
        return rule
    return next((rule.by_name[name] for name in names if name in rule.by_name), rule.default)


def default_of(rule: RangeRule) -> RangeRule:
    """The rule for what has none of its own."""
    return rule.default if isinstance(rule, PerLayer) else rule


def with_default(rule: RangeRule, default: RangeRule) -> RangeRule:
    """The rule with another default."""
    return replace(rule, default=default) if isinstance(rule, PerLayer) else default


def saturated(rule: RangeRule) -> RangeRule:
    """The rule for what only softmax and its like read: no sum follows, and tails make no difference there."""
    return replace(rule, clipping=1.0, margins=False, tails=0.0) if isinstance(rule, Mse) else rule


def marginless(rule: RangeRule) -> RangeRule:
    """The rule for what has headroom enough."""
    return replace(rule, margins=False, tails=0.0) if isinstance(rule, Mse) else rule


def tailless(rule: RangeRule) -> RangeRule:
    """The rule for what is neither read nor computed by layers."""
    return replace(rule, tails=0.0) if isinstance(rule, Mse) else rule


MARGINS = np.array([1.0, 1.03, 1.06, 1.1])
"""By how much ranges may be wider than their rule says. Wider ones follow single samples that others do not confirm."""


@dataclass(frozen=True)
class Lp:
    """The range with the smallest mean |quantization error|^p over the histogram (LAPQ).

    A small p resolves the many small values finely and clips more, a large p clips less; p = 2 is
    `Mse` with `clipping` 1 and no margins. LAPQ starts its search from these ranges (Nahshan et al. 2021,
    section 3.1: the p-norm of Q(x) - x). Within the range errors are uniform in +-step / 2, so their mean is
    (step / 2)^p / (p + 1).

    Attributes:
        p: the error's exponent.
        candidates: ends tried on each side, evenly spaced between 0 and the extreme.
    """

    p: Annotated[float, Interval(ge=1, le=16)] = 2.5
    candidates: Annotated[int, Interval(ge=1, le=1024)] = 128

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """See RangeRule."""
        low, high = MinMax().choose(statistics, levels)
        if statistics.counts is None or high <= low:
            return low, high
        lows, highs = _limits(low, self.candidates), _limits(high, self.candidates)
        taken = statistics.counts > 0
        # In shares of the reach, so that no power overflows.
        counts, centers = statistics.counts[taken], statistics.centers()[taken] / statistics.reach
        lows, highs = lows / statistics.reach, highs / statistics.reach
        below = _Side(lows, *_powers_beyond(-lows, counts, -centers, self.p))
        above = _Side(highs, *_powers_beyond(highs, counts, centers, self.p))
        found = _cheapest(below, above, float(counts.sum()), levels, self.p)
        return found[0] * statistics.reach, found[1] * statistics.reach


@dataclass(frozen=True)
class Percentile:
    """Leaves out the same small share of the values at each end (Wu et al. 2020, NVIDIA, section 5.2).

    Exact to one bin of the histogram, which is kept whole; exact zeros count as values.

    Attributes:
        percent: of the values that each end holds.
    """

    percent: Annotated[float, Interval(ge=50, le=100)] = 99.999

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """See RangeRule."""
        low, high = MinMax().choose(statistics, levels)
        if statistics.counts is None:
            return low, high
        # A share such as 0.1 % of 1000 values is one value, whatever its last binary digit.
        spare = (1 - self.percent / 100) * (statistics.zeros + int(statistics.counts.sum())) * (1 + 1e-9)
        width = 2 * statistics.reach / BINS
        half = BINS // 2
        # Values of the other sign can be left out too: then the end is zero.
        above = int(np.searchsorted(np.cumsum(statistics.counts[: half - 1 : -1]), spare, side="right"))
        below = int(np.searchsorted(np.cumsum(statistics.counts[:half]), spare, side="right"))
        return max(low, -(half - below) * width), min(high, (half - above) * width)


@dataclass(frozen=True)
class Kl:
    """The range whose integers tell most about the values: the least Kullback-Leibler divergence.

    TensorRT's entropy calibration (Migacz 2017, GTC S7310): P is the histogram cut off at the range,
    with what lies beyond in its last bins; Q is the part within the range, merged into the
    quantizer's cells and spread evenly over the bins of each cell that hold values. TensorRT's range
    is symmetric; here both ends shrink by the same share first, then each alone around the best.
    As there, no range is tried that has fewer bins than levels: with a bin to itself every value would
    seem well represented. Exact zeros are left out: one integer is theirs alone whatever the range.

    Attributes:
        candidates: ends tried in each of the three searches, evenly spaced between 0 and the extreme.
    """

    candidates: Annotated[int, Interval(ge=1, le=4096)] = 128

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """See RangeRule."""
        low, high = MinMax().choose(statistics, levels)
        if statistics.counts is None or high <= low or not statistics.counts.any():
            return low, high
        taken = statistics.counts > 0
        counts, centers = statistics.counts[taken].astype(np.float64), statistics.centers()[taken]
        width = 2 * statistics.reach / BINS

        def best(first: Range, candidates: list[Range]) -> Range:
            tried = [limits for limits in candidates if limits[1] - limits[0] >= levels * width]
            return min([first, *tried], key=lambda limits: _divergence(counts, centers, width, limits, levels))

        # Widest first: it wins ties.
        lows, highs = _limits(low, self.candidates)[::-1].tolist(), _limits(high, self.candidates)[::-1].tolist()
        if low == 0 or high == 0:
            return best((low, high), [(a, b) for a in lows for b in highs])
        found = best((low, high), list(zip(lows, highs, strict=True)))
        found = best(found, [(found[0], b) for b in highs])
        return best(found, [(a, found[1]) for a in lows])


@dataclass(frozen=True)
class PowerOfTwo:
    """Scales that are powers of two, so that shifts can stand in for multipliers (HPTQ, Habi et al. 2021).

    Of the two powers around the scale of another rule's range the one with the smaller squared error
    over the histogram is taken (HPTQ, section 3.2), where HPTQ knows symmetric and unsigned
    quantizers; with a zero point the range is a window of `levels` steps around that rule's.
    The range may therefore be wider than the extremes.

    Attributes:
        inner: the other rule's name; it has its default options.

    Raises:
        RecipeError: there is no such rule.
    """

    inner: str = "mse"

    def __post_init__(self) -> None:
        others = [name for name, rule in RULES.items() if rule is not PowerOfTwo]
        if self.inner not in others:
            raise RecipeError(f"power_of_two: there is no inner rule {self.inner!r}", f"Choose {', '.join(others)}.")

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """See RangeRule."""
        low, high = RULES[self.inner]().choose(statistics, levels)
        reach = max(-low, high)
        span = 2 * reach if levels % 2 else high - low
        if span < np.finfo(np.float32).tiny * 1e6:
            low, span = 0.0, 1.0
        power = math.log2(span / (levels - 1))
        windows = [_window(low, 2.0**k, levels) for k in sorted({math.floor(power), math.ceil(power)}, reverse=True)]
        return min(windows, key=lambda limits: squared_error(statistics, limits, levels))


def squared_error(statistics: Statistics, limits: Range, levels: int) -> float:
    """Summed squared quantization error over the histogram, as `Mse` counts it with `clipping` 1."""
    if (counts := statistics.counts) is None:
        return 0.0
    low, high = (np.array([end]) for end in limits)
    return float(_squared_errors(counts, statistics.centers(), low, high, levels, 1.0)[0])


def _squared_errors(counts: Array, centers: Array, lows: Array, highs: Array, levels: int, clipping: float) -> Array:
    """Summed squared quantization error over a histogram for each pair of ends, as `Mse` has it."""
    below, short = _squares_beyond(-lows, counts[::-1], -centers[::-1])
    above, over = _squares_beyond(highs, counts, centers)
    inside = float(counts.sum()) - below - above
    return np.asarray(inside * ((highs - lows) / (levels - 1)) ** 2 / 12 + clipping * (short + over))


def _window(low: float, scale: float, levels: int) -> Range:
    """`levels` steps of some scale around zero, as close to a low end as zero on the grid allows."""
    below = (levels - 1) // 2 if levels % 2 else min(max(round(-low / scale), 0), levels - 1)
    return -below * scale, (levels - 1 - below) * scale


def _limits(extreme: float, candidates: int) -> Array:
    """Ends to try, from the smallest to the extreme; zero alone where no value has that sign."""
    return extreme * np.arange(1, candidates + 1) / candidates if extreme else np.zeros(1)


@dataclass(frozen=True, eq=False)
class _Side:
    """Candidates for one end of a range.

    Attributes:
        limits: real values.
        beyond: how many values lie beyond each.
        cost: their summed distance to it, to the power p.
    """

    limits: Array
    beyond: Array
    cost: Array


def _cheapest(below: _Side, above: _Side, count: float, levels: int, p: float) -> Range:
    """The pair of ends with the least summed |error|^p; `count` is the number of all values."""
    step = (above.limits[None, :] - below.limits[:, None]) / (levels - 1)
    inside = count - below.beyond[:, None] - above.beyond[None, :]
    cost = inside * (step / 2) ** p / (p + 1) + below.cost[:, None] + above.cost[None, :]
    i, j = np.unravel_index(np.argmin(cost), cost.shape)
    return float(below.limits[i]), float(above.limits[j])


def _squares_beyond(limits: Array, counts: Array, centers: Array) -> tuple[Array, Array]:
    """For each end >= 0: how many values lie above it, and their summed squared distance to it; bins around zero."""
    counts, centers = counts[len(counts) // 2 :], centers[len(centers) // 2 :]
    if not counts.any():
        return np.zeros(len(limits)), np.zeros(len(limits))
    # Suffix sums of 1, v and v^2 give sum((v - end)^2) for any end in constant time.
    n = np.cumsum(counts[::-1])[::-1]
    s = np.cumsum((counts * centers)[::-1])[::-1]
    q = np.cumsum((counts * centers**2)[::-1])[::-1]
    first = np.searchsorted(centers, limits)
    padded = [np.append(a, 0.0)[first] for a in (n, s, q)]
    return padded[0], padded[2] - 2 * limits * padded[1] + limits**2 * padded[0]


def _powers_beyond(limits: Array, counts: Array, centers: Array, p: float) -> tuple[Array, Array]:
    """For each end >= 0: how many values lie above it, and their summed distance to it to the power p."""
    distance = np.maximum(centers[None, :] - limits[:, None], 0.0)
    return (distance > 0) @ counts.astype(np.float64), distance**p @ counts.astype(np.float64)


def _divergence(counts: Array, centers: Array, width: float, limits: Range, levels: int) -> float:
    """KL(P || Q) of a range, for the bins that hold values; inf where Q has no value where P has some."""
    low, high = limits
    step = (high - low) / (levels - 1)
    # Bins that the range reaches into: the extremes lie somewhere in theirs.
    within = (centers > low - width / 2) & (centers <= high + width / 2)
    if not within.any():
        return math.inf
    q = counts[within]
    p = q.copy()
    p[0] += counts[centers <= low - width / 2].sum()
    p[-1] += counts[centers > high + width / 2].sum()
    # Cells in order: the bins are, so equal cells are neighbours.
    cells = np.rint(centers[within] / step)
    starts = np.flatnonzero(np.diff(cells, prepend=np.nan) != 0)
    sizes = np.diff(starts, append=len(cells))
    spread = np.repeat(np.add.reduceat(q, starts) / sizes, sizes)
    p, spread = p / p.sum(), spread / spread.sum()
    # Rounded, so that ranges that lose nothing are equal.
    return round(float((p * np.log(p / spread)).sum()), 12)


RULES: Mapping[str, type[RangeRule]] = MappingProxyType(
    {"minmax": MinMax, "mse": Mse, "percentile": Percentile, "kl": Kl, "lp": Lp, "power_of_two": PowerOfTwo}
)
