"""Inputs of ops that join tensors keep finer scales of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Interval

from edgeqwt.passes.context import Context
from edgeqwt.passes.state import NOTHING, Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.scales.joined_inputs import finer_inputs
from edgeqwt.widths.plan import planned


@dataclass(frozen=True)
class FinerJoins(Technique):
    """A QUANTIZE before CONCATENATION and its like for inputs whose own scale is twice as fine, if that gains enough.

    Ops that join tensors oblige all they read to share one scale, and everything else that reads those tensors with
    them (`scales.joined_inputs`).

    Attributes:
        min_gain: decibels at the outputs that it must gain, on held-out samples.
    """

    name = "finer_joins"
    title = "join"
    works = Works.FLOAT
    min_gain: Annotated[float, Interval(ge=0, le=100)] = 0.5

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """All such inputs at scales of their own, or none."""
        plan = planned(state.graph, state.precision, context.kernels)
        inputs = len(finer_inputs(state.graph, state.statistics, state.ranges, plan))
        if not inputs:
            return state, NOTHING
        after = replace(state, precision=replace(state.precision, finer_joins=True))
        verdict = context.keep(state, after, self.min_gain)
        which = "1 input keeps its" if inputs == 1 else f"{inputs} inputs keep their"
        done = f"{which} own finer scale, a QUANTIZE each before what joins them"
        account = verdict.account(done, "no input keeps a finer scale of its own", inputs=inputs)
        return after if verdict.kept else state, account
