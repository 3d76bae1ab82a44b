"""What ways to round weights that look at what each layer reads have in common; without one, weights go to nearest."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.rounding import reround as rerounding
from edgeqwt.rounding.reround import in_parts, reround

WORK = 1 << 33
"""Multiplications that second moments of 8-bit weights are worth, all samples together: a second or two. ResNet-20
rounded on 384, 128 and 64 samples has 30.90, 30.94 and 30.91 dB on 2000 others at w8a8; at w4a8 22.7, 22.4 and 21.8."""
LEAST = 64  # samples, however large the network
COARSE = 4, 2  # times as much, and as many at least, where weights err more than activations do


class Rounding(Technique):
    """A rule (`rounding.methods.RoundingRule`) that a recipe can name; subclasses have its `round`."""

    title = "round"
    works = Works.INTEGER
    role = "rounding of weights"
    for_dynamic = True
    gradients = "token weights"

    def memory(self, state: State) -> int:
        """See Technique."""
        return 0 if state.integer is None else rerounding.memory(state.integer)

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """Weights rounded by the rule, layer by layer; as they were where that is better on held-out samples."""
        found = self.found(state, context)
        after = replace(state, integer=found)
        noted = tuple(
            f"{name!r} has too many terms for one second moment: cut into {count} parts, of which each makes up for "
            "its own errors alone"
            for name, count in in_parts(state.integer_graph).items()
        )
        if not decision_tensors(context.graph):  # no float output: there is no error to judge by
            return after, Account(noted)
        nearest, gain = context.gate.noise(state.integer_graph), context.gate.gain_db(state.integer_graph, found)
        if context.gate.noise(found) <= nearest:
            return after, Account(noted, {"gain_db": gain})
        lost = f"it loses {-gain:.2f} dB on held-out samples"
        reason = lost if nearest > 0 else "to nearest there is no error on held-out samples"
        return state, Account((f"weights stay rounded to nearest: {reason}",), {"skipped": reason}, kept=False)

    def found(self, state: State, context: Context) -> Graph:
        """The integer graph with its weights rounded by the rule."""
        coarse = state.precision.least_weight_bits < max(8, state.precision.activation_bits)
        work, least = COARSE if coarse else (1, 1)
        fit = context.fit.worth(work * WORK, least * LEAST)
        return reround(
            state.integer_graph, state.graph, fit, self, state.precision, context.advance,  # type: ignore[arg-type]
            token_weights=context.row_weights(state.graph), kept=state.structure,
        )  # fmt: skip
