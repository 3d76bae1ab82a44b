"""Ranges in which a value counts as much as the outputs depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from typing import Annotated

from annotated_types import Ge

from edgeqwt.autograd.memory import BYTES, activations, to_load
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.extras import NO_GRADIENTS
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Works


@dataclass(frozen=True)
class WeightedRanges(Technique):
    """Statistics whose counts are weighted by squared gradients of the outputs, where ranges are better with them.

    The range rule then minimizes the outputs' expected squared error, to second order: the diagonal of the
    Gauss-Newton Hessian, as in PTQ4ViT's metric (Yuan et al. 2022, section 3.3), value by value. All tensors are tried
    at once; where held-out samples do not gain by a part of the network, its halves are tried. Needs torch.

    Attributes:
        samples: how many samples gradients are taken from, at most.
        trials: how many parts are tried, at most; with 7 the least are quarters of the network.
    """

    name = "weighted_ranges"
    title = "weigh ranges"
    works = Works.FLOAT
    gradients = "weighted ranges"
    paper = "PTQ4ViT (Yuan et al. 2022), section 3.3"
    measured = "ResNet-20 on top of `mse_ranges`: w8a8 +0.2 dB, w4a8 0.0 dB (docs/recipes.md)"
    gains_db = (0.2, 0.0)
    samples: Annotated[int, Ge(1)] = 64
    trials: Annotated[int, Ge(1)] = 7

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
        after, gains, weighed = self._parts(state, found, context)
        if after is state:
            return state, _alike(f"otherwise {gains[0]:+.2f} dB on held-out samples", gains[0])
        said = f"values of {weighed} of {len(found)} tensors count by gradients: otherwise {gains[0]:+.2f} dB"
        gain = sum(gain for gain in gains if gain > 0)
        return after, Account((said,) if len(gains) > 1 else (), {"gain_db": gain, "tensors": weighed})

    def _parts(self, state: State, found: Mapping[int, Statistics], context: Context) -> tuple[State, list[float], int]:
        """The state with the weighted statistics of those parts that gain; what each trial gained; how many tensors."""
        pending, kept, gains, weighed = [sorted(found)], state, list[float](), 0
        while pending and len(gains) < self.trials:
            part = pending.pop(0)
            after = replace(kept, statistics={**kept.statistics, **{t: found[t] for t in part}})
            gains.append(context.gate.gain_db(context.lowered(kept), context.lowered(after)))
            if gains[-1] > 0:
                kept, weighed = after, weighed + len(part)
            elif len(part) > 1:
                pending += [part[: len(part) // 2], part[len(part) // 2 :]]
        return kept, gains, weighed


def _alike(reason: str, gain: float | None = None) -> Account:
    data = {"skipped": reason} if gain is None else {"skipped": reason, "gain_db": gain}
    return Account((f"all values count alike: {reason}",), data, kept=False)
