"""A technique of one's own: outliers of weights are clipped before the model is lowered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Interval

from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Works


@dataclass(frozen=True)
class ClipWeights(Technique):
    """Clips each layer's weights to some standard deviations around zero, if held-out samples gain by it.

    A few large weights widen the step of all others in their channel (Banner et al. 2019, section 3).

    Attributes:
        deviations: how many standard deviations of the layer's weights stay.
    """

    name = "clip_weights"
    works = Works.FLOAT
    paper = "Banner et al. 2019, section 3"
    deviations: Annotated[float, Interval(ge=1, le=20)] = 3.0

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """The model with clipped weights, or as it was."""
        graph, clipped = state.graph, {}
        for op in graph.ops:
            if is_linear(op):
                t = slots(op).weight
                weights = graph.tensors[t].data
                if weights is not None:
                    limit = self.deviations * float(weights.std())
                    clipped[t] = replace(graph.tensors[t], data=np.clip(weights, -limit, limit))
        after = replace(state, graph=graph.with_tensors(clipped))
        # The statistics of activations change with the weights.
        after = replace(after, statistics=context.observed(after.graph))
        verdict = context.keep(state, after, threshold=0.1)
        data = {"layers": len(clipped), "gain_db": verdict.gain_db}
        message = f"weights beyond {self.deviations:g} standard deviations clipped: {verdict.gain_db:+.2f} dB"
        return (after if verdict.kept else state), Account((message,), data, kept=verdict.kept)
