"""CWAC, channel-wise affine compensation: a gain and an offset per output channel, folded into scales and biases."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeqwt.compensation import solve
from edgeqwt.compensation.cwac import Outcome, compensate, offsets_where_gains_lose
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import COMPENSATION, Technique, Works


@dataclass(frozen=True)
class Cwac(solve.Options, Technique):
    """Fits g and o per channel so that g·y_q + o matches the float layer's output (QwT-v2), and folds both in.

    g goes into the weights' scales per channel, o into the int32 bias; no op, no byte, no cycle is added. Every linear
    op, and every constant per channel that multiplies or is added, in the order of the graph; each correction is
    confirmed on samples that it was not fitted on. Networks that take long for each sample are fitted on some of them,
    32 at least. Where gains lose at the outputs, offsets alone are tried. A model
    that was trained with quantization keeps its scales.
    """

    name = "cwac"
    title = "compensate"
    works = Works.CORRECTION
    role = COMPENSATION
    for_trained = True
    for_dynamic = True
    gradients = "token weights"
    paper = "QwT-v2, channel-wise affine compensation"
    measured = "ResNet-20 alone: w8a8 +0.4 dB, w4a8 +5.3 dB (docs/recipes.md)"

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """The compensated integer graph."""
        graph = state.integer_graph
        trained = context.model.learned is not None
        options = replace(self, rewrite_scales=False) if trained else self
        weights = None if trained else context.row_weights(state.graph)

        def run(options: solve.Options) -> Outcome:
            return compensate(
                graph,
                state.reference,
                context.enough(state, lines=True),
                state.statistics,
                state.ranges,
                options,
                context.advance,
                weights,
            )

        outcome = run(options)
        if outcome.has_gains:
            with context.gate.at_decisions(state.reference) as comparator:
                outcome = offsets_where_gains_lose(outcome, graph, options, run, comparator.noise)
        changed = sum(change.with_gain + change.with_offset > 0 for change in outcome.changes)
        data = {"ops": len(outcome.changes), "changed": changed, "samples": outcome.samples}
        return replace(state, integer=outcome.graph), Account((), data, changed > 0, detail=outcome)


@dataclass(frozen=True)
class BiasCorrection(Cwac):
    """The offsets of CWAC alone (Nagel et al. 2019, section 4.2, on data). Options are those of `cwac`."""

    name = "bias_correction"
    paper = "Nagel et al. 2019, section 4.2"
    gain: bool = False
    rewrite_scales: bool = False
