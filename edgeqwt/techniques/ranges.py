"""How the ranges of activations are chosen: rules that later techniques, and lowering, ask."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.passes.technique import RANGES, Technique, Works
from edgeqwt.scales import ranges

if TYPE_CHECKING:
    from edgeqwt.passes.context import Context
    from edgeqwt.passes.state import Account, State


class RangeTechnique(Technique):
    """A range rule (`scales.ranges.RangeRule`) that a recipe can name; subclasses have its `choose`."""

    works = Works.FLOAT
    role = RANGES
    for_trained = True

    @abstractmethod
    def choose(self, statistics: Statistics, levels: int) -> ranges.Range:
        """See RangeRule."""

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """From here on ranges are chosen by this rule, but for those of layers that have one of their own."""
        from edgeqwt.passes.state import Account

        return replace(state, ranges=ranges.with_default(state.ranges, self)), Account()


@dataclass(frozen=True)
class MinMaxRanges(ranges.MinMax, RangeTechnique):
    """The extremes that calibration saw: nothing is clipped."""

    name = "minmax_ranges"


@dataclass(frozen=True)
class MseRanges(ranges.Mse, RangeTechnique):
    __doc__ = ranges.Mse.__doc__
    name = "mse_ranges"
    paper = "Shin et al. 2016; Banner et al. 2019, eq. 5"
    measured = "ResNet-20 alone: w8a8 +0.3 dB, w4a8 0.0 dB; left out of `balanced`: -0.7, -0.6 dB (docs/recipes.md)"


@dataclass(frozen=True)
class PercentileRanges(ranges.Percentile, RangeTechnique):
    __doc__ = ranges.Percentile.__doc__
    name = "percentile_ranges"
    paper = "Wu et al. 2020, section 5.2"


@dataclass(frozen=True)
class KlRanges(ranges.Kl, RangeTechnique):
    __doc__ = ranges.Kl.__doc__
    name = "kl_ranges"
    paper = "Migacz 2017 (TensorRT)"


@dataclass(frozen=True)
class LpRanges(ranges.Lp, RangeTechnique):
    __doc__ = ranges.Lp.__doc__
    name = "lp_ranges"
    paper = "LAPQ (Nahshan et al. 2021), section 3.1"


@dataclass(frozen=True)
class PowerOfTwoRanges(ranges.PowerOfTwo, RangeTechnique):
    __doc__ = ranges.PowerOfTwo.__doc__
    name = "power_of_two_ranges"
    paper = "HPTQ (Habi et al. 2021), section 3.2"
