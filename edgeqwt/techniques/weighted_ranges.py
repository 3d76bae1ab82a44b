"""Ranges in which a value counts as much as the outputs depend on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from typing import Annotated

from annotated_types import Ge

from edgeqwt.autograd.memory import BYTES, activations, to_load
from edgeqwt.extras import NO_GRADIENTS
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Works


@dataclass(frozen=True)
class WeightedRanges(Technique):
    """Statistics whose counts are weighted by squared gradients of the outputs, if ranges are better with them.

    The range rule then minimizes the outputs' expected squared error, to second order: the diagonal of the
    Gauss-Newton Hessian, as in PTQ4ViT's metric (Yuan et al. 2022, section 3.3), value by value. Needs torch.

    Attributes:
        samples: how many samples gradients are taken from, at most.
    """

    name = "weighted_ranges"
    title = "weigh ranges"
    works = Works.FLOAT
    gradients = "weighted ranges"
    paper = "PTQ4ViT (Yuan et al. 2022), section 3.3"
    measured = "ResNet-20 on top of `mse_ranges`: w8a8 +0.2 dB, w4a8 0.0 dB (docs/recipes.md)"
    gains_db = (0.2, 0.0)
    samples: Annotated[int, Ge(1)] = 64

    def memory(self, state: State) -> int:
        """See Technique; gradients are of one sample at a time."""
        return to_load() + BYTES * activations(state.graph)

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """Weighted statistics, kept where held-out samples gain by them."""
        if find_spec("torch") is None:
            return state, _alike(NO_GRADIENTS)
        from edgeqwt.autograd.weighted import weighted

        decisive = decision_tensors(state.graph)
        if not decisive:
            return state, _alike("no output is a real number")
        found = weighted(state.graph, islice(iter(context.fit), self.samples), decisive, state.statistics)
        after = replace(state, statistics=found)
        gain = context.gate.gain_db(context.lowered(state), context.lowered(after))
        if not gain > 0:
            return state, _alike(f"otherwise {gain:+.2f} dB on held-out samples", gain)
        return after, Account(data={"gain_db": gain})


def _alike(reason: str, gain: float | None = None) -> Account:
    data = {"skipped": reason} if gain is None else {"skipped": reason, "gain_db": gain}
    return Account((f"all values count alike: {reason}",), data, kept=False)
