"""Ranges of tensors of few values reach as far as their tails say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Interval

from edgeqwt.passes.context import Context
from edgeqwt.passes.state import NOTHING, Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.scales.ranges import Mse, default_of, with_default

ENOUGH = 100
"""Held-out samples whose loss counts as it is."""
MOST = 5.0  # dB
SHARES = 0.75, 0.35
"""Of the way to where tails say, in the order in which they are tried. The whole way is best for heavy tails, half of
it for classifiers, whose classes tie where steps are coarse."""


@dataclass(frozen=True)
class RangeTails(Technique):
    """Wider ranges where calibration has so few values that larger ones must be expected, unless that clearly loses.

    The tail of the largest values of a tensor says how far the next sample may reach (`scales.tails`). Held-out
    samples are few as well, and may lack the value that would be clipped: a loss on them is the price, and the fewer
    they are, the less it says. What fresh samples say of it: `benchmarks/few_values.py`.

    Attributes:
        max_loss: decibels at the outputs that it may lose on 100 held-out samples; on n of them (100 / n)^2 times as
            many, 5 dB at most.
    """

    name = "range_tails"
    title = "range tails"
    works = Works.FLOAT
    paper = "Pickands 1975; Balkema and de Haan 1974"
    max_loss: Annotated[float, Interval(ge=0, le=100)] = 0.3

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """The widest ranges that do not lose too much, else as the rule has them."""
        rule = default_of(state.ranges)
        if not isinstance(rule, Mse) or rule.tails:
            return state, NOTHING
        allowed = max(self.max_loss, min(self.max_loss * max(ENOUGH / context.gate.count, 1.0) ** 2, MOST))
        losses = list[float]()
        for share in SHARES:
            after = replace(state, ranges=with_default(state.ranges, replace(rule, tails=share)))
            verdict = context.keep(state, after, -allowed)
            if verdict.kept:
                part = () if share == SHARES[0] else (f"ranges reach {share:.0%} of the way to where tails say",)
                return after, Account(part, {"gain_db": verdict.gain_db, "kept": True, "share": share})
            losses.append(-verdict.gain_db)
        message = f"ranges end where values do: wider ones lose {min(losses):.2f} dB on held-out samples"
        return state, Account((message,), {"gain_db": -min(losses), "kept": False}, kept=False)
