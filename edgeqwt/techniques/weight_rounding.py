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
        return reround(
            state.integer_graph, state.graph, context.enough(state), self, state.precision,  # type: ignore[arg-type]
            context.advance, token_weights=context.row_weights(state.graph), kept=state.structure,
        )  # fmt: skip
