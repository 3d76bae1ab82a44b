"""Channels that lie far from each other are stored around zero; biases make up for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge, Interval

from edgeqwt.equalize.channel_shift import Group, groups, shifted
from edgeqwt.passes.context import Context
from edgeqwt.passes.state import NOTHING, Account, State
from edgeqwt.passes.technique import Technique, Works


@dataclass(frozen=True)
class ChannelShift(Technique):
    """Subtracts channels' means where biases make up for it and steps shrink, if held-out samples do not lose.

    x = (x - c) + c: c goes from the bias of the layer that computes a tensor into the biases of those that read it,
    through sums, moves and attention's product with the values (`equalize.shifts`). Convolutions that pad with zeros,
    norms and nonlinear functions forbid it. No op is added, and no byte but for biases that were not there. List it
    before equalization and what weighs ranges: statistics are taken anew.

    Attributes:
        samples: how many samples means are taken from, at most.
        shrink: by how much the steps of a group of tensors that are shifted together must shrink, on geometric average.
        min_gain: decibels at the outputs that it must gain, on held-out samples.
    """

    name = "channel_shift"
    title = "shift channels"
    works = Works.FLOAT
    paper = "Outlier Suppression+ (Wei et al. 2023), eq. 2; RepQ-ViT (Li et al. 2023), section 3.2: beta"
    measured = (
        "a hybrid with attention: `int8-only` w8a8 +0.2 dB, `balanced` w8a8 +0.4 dB, w4a8 +0.1 dB; nothing to shift in "
        "most networks, 0.0 dB in a DiT (docs/literature-in-files.md)"
    )
    samples: Annotated[int, Ge(1)] = 256
    shrink: Annotated[float, Ge(1)] = 1.25
    min_gain: Annotated[float, Interval(ge=0, le=100)] = 0.0

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """The graph with all groups shifted whose steps shrink enough, or none."""
        found = groups(state.graph, context.fit.head(self.samples))
        if not found:
            return state, NOTHING
        whole = _with(state, context, found)
        shrunk = _shrunk(state, whole, context, found)
        chosen = tuple(g for g, by in zip(found, shrunk, strict=True) if by >= self.shrink)
        rows = [_row(state, g, by) for g, by in zip(found, shrunk, strict=True)]
        if not chosen:
            reason = f"steps shrink {max(shrunk):.2f} times at most"
            return state, Account((f"no channel is shifted: {reason}",), {"groups": rows}, kept=False)
        after = whole if chosen == found else _with(state, context, chosen)
        verdict = context.keep(state, after, self.min_gain)
        which = f"channels of {len(chosen)} of {len(found)} groups of tensors"
        by = [one for one in shrunk if one >= self.shrink]
        done = f"{which} centered, whose steps shrink {min(by):.1f} to {max(by):.1f} times"
        account = verdict.account(done, "no channel is shifted", groups=rows)
        return after if verdict.kept else state, account


def _with(state: State, context: Context, chosen: tuple[Group, ...]) -> State:
    graph = shifted(state.graph, chosen)
    return replace(state, graph=graph, statistics=context.observed(graph))


def _shrunk(before: State, after: State, context: Context, found: tuple[Group, ...]) -> list[float]:
    """By how much the steps of each group's tensors are smaller afterwards, on geometric average."""
    old, new = (context.assigned(state).quantization for state in (before, after))
    logs = {t: math.log(float(old[t].scale[0]) / float(new[t].scale[0])) for t in old.keys() & new.keys()}
    of = [[logs[t] for t in group.tensors if t in logs] for group in found]
    return [math.exp(sum(each) / len(each)) if each else 1.0 for each in of]


def _row(state: State, group: Group, shrunk: float) -> dict[str, object]:
    first = state.graph.tensors[min(group.means)].name
    return {"first": first, "tensors": len(group.tensors), "shrunk": shrunk}
