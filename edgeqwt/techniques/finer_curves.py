"""TANH and LOGISTIC of small values become tables with output scales of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Interval

from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import NOTHING, Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.scales.curves import finer_curves
from edgeqwt.widths.plan import planned

FEW = 8


@dataclass(frozen=True)
class FinerCurves(Technique):
    """A table in place of TANH and LOGISTIC whose outputs use at most half of their range, if that gains enough.

    Their kernels demand outputs of one scale, 1/128 and 1/256; a table's output scale follows the values, at the price
    of two more ops (`scales.curves`). Targets with an NPU have the curves themselves, and leave tables to the CPU.

    Attributes:
        min_gain: decibels at the outputs that it must gain, on held-out samples; twice as many where more than 8 ops
            become tables, which are three ops each.
    """

    name = "finer_curves"
    title = "tabulate curves"
    works = Works.FLOAT
    min_gain: Annotated[float, Interval(ge=0, le=100)] = 0.5

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """All such ops as tables, or none."""
        if context.target.npu is not None or "GATHER" in context.kernels.missing:
            return state, NOTHING
        plan = planned(state.graph, state.precision, context.kernels)
        ops = len(finer_curves(state.graph, state.statistics, state.ranges, plan))
        if not ops:
            return state, NOTHING
        after = replace(state, precision=replace(state.precision, finer_curves=True))
        behind = decision_tensors(context.graph, bounded=True)
        verdict = context.keep(state, after, self.min_gain * (2 if ops > FEW else 1), behind)
        which = "1 TANH or LOGISTIC is" if ops == 1 else f"{ops} of TANH and LOGISTIC are"
        done = f"{which} tables (CAST, ADD, GATHER), whose outputs have finer scales"
        undone = "no TANH or LOGISTIC is a table with a finer output scale"
        return after if verdict.kept else state, verdict.account(done, undone, ops=ops)
