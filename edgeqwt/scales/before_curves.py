"""Ranges of what only softmax and its like read: where these curves are flat, what is cut off makes no difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.scales.ranges import Range, RangeRule, saturated

SLOPES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {"TANH": lambda x: 1 - math.tanh(x) ** 2, "LOGISTIC": lambda x: 1 - math.tanh(x / 2) ** 2}
)
"""Slopes of the curves of one variable that saturate, as shares of their largest."""
SATURATING = frozenset({"SOFTMAX", *SLOPES})
FLAT = 0.25
"""The slope down from which a curve hides what is cut off before it: at 1.3 of TANH, at 2.6 of LOGISTIC."""


@dataclass(frozen=True)
class BeforeCurves:
    """A range rule for what only curves that saturate read.

    Small values do not reach where they do: a tanh of values within 0.3 is as good as none, and clips what its range
    clips.

    Attributes:
        rule: for what others read.
        kinds: of the curves.
    """

    rule: RangeRule
    kinds: Set[str]

    def choose(self, statistics: Statistics, levels: int) -> Range:
        """See RangeRule: each end as for what others read, unless all curves are flat where the rule ends without."""
        near = saturated(self.rule).choose(statistics, levels)
        if not self.kinds or not self.kinds <= SLOPES.keys():
            return near
        far = self.rule.choose(statistics, levels)
        low, high = (far[k] if self._slope(near[k]) > FLAT else near[k] for k in range(2))
        return low, high

    def _slope(self, x: float) -> float:
        return max(SLOPES[kind](x) for kind in self.kinds)
