"""Equalization: every channel at the magnitude at which rounding costs least, function unchanged."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeqwt.autograd import memory
from edgeqwt.equalize import equalize as equalizing
from edgeqwt.equalize.splits import split
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.prepare.steps import share_weights
from edgeqwt.techniques.regions16 import of_roles, with_regions

LOSS_DB = 1.5  # more than one unusual sample among few held out makes of it


@dataclass(frozen=True)
class Equalization(equalizing.Equalization, Technique):
    """Multiplies channels, and divides in what reads them, by the factors that cost the outputs least.

    f(k x) = k f(x): cross-layer equalization (Nagel et al. 2019, section 4.1), and SmoothQuant (Xiao et al. 2022,
    eq. 4) with factors that minimize a model of the outputs' error in place of an exponent. At the boundaries of
    16-bit regions MULs are added for factors, which cost one multiplication per element. Kept unless it clearly loses
    on held-out samples: techniques that follow gain from it even where it makes no difference yet. Needs torch.
    """

    name = "equalization"
    title = "equalize"
    works = Works.FLOAT
    keeps_clusters = False
    gradients = "equalization"
    paper = "Nagel et al. 2019, section 4.1; SmoothQuant (Xiao et al. 2022), eq. 4"
    measured = "ResNet-20 alone: w8a8 +0.3 dB, w4a8 +1.7 dB (docs/recipes.md)"
    gains_db = (0.3, 1.7)

    def memory(self, state: State) -> int:
        """See Technique."""
        return memory.memory(state.graph)

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """The equalized float graph, unless it clearly loses when both are lowered and nothing else is done."""
        begin = _split(state, context)
        found = equalizing.equalize(begin.graph, context.fit, begin.statistics, self, begin.precision)
        if found.skipped:
            return state, _nothing(found.skipped, found)
        # Steps of a recurrence got the same factors, each into weights of its own.
        graph = share_weights(found.graph)[0]
        after = replace(
            begin, graph=graph, statistics=context.observed(graph), precision=found.precision or begin.precision
        )
        verdict = context.keep(state, after, -LOSS_DB)
        if not verdict.kept:
            return state, _nothing(f"it loses {-verdict.gain_db:.2f} dB on held-out samples", found)
        message = (
            f"{found.changed:,} channels multiplied by {found.low:.2f} to {found.high:.2f}; "
            f"{found.predicted_db:.1f} dB less rounding noise is expected of it"
        )
        return after, Account(
            (message,), {**_data(found), "gain_db": verdict.gain_db}, detail=replace(found, graph=graph)
        )


def _split(state: State, context: Context) -> State:
    """The state with MULs for factors at the boundaries of its normalizations' regions."""
    inside = {i for region in state.regions if region.role == "normalization" for i in region.ops}
    graph, names = split(state.graph, inside)
    if not names:
        return state
    known = dict(state.statistics)  # what a MUL by ones writes is what it reads: nothing has to run again
    for op in (op for op in graph.ops if graph.tensors[op.outputs[0]].name in names):
        source, target = op.inputs[0], op.outputs[0]  # one of them is new
        known |= dict.fromkeys((source, target), known.get(source) or known[target])
    return with_regions(replace(state, graph=graph, statistics=known), of_roles(state, graph))


def _nothing(reason: str, found: equalizing.Equalized) -> Account:
    return Account((f"nothing: {reason}",), {"skipped": reason}, kept=False, detail=replace(found, skipped=reason))


def _data(found: equalizing.Equalized) -> dict[str, object]:
    return {
        "channels": found.changed,
        "factors": [found.low, found.high],
        "predicted_db": found.predicted_db,
        "absorbed": found.absorbed,
    }
