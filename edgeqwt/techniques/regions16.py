"""16-bit regions: what lies between matrix products, a recurrent layer, or layers on vectors have 16-bit activations.

`regions16` widens all of them if that gains enough; `regions16_review` looks again after techniques that depend on the
widths, role by role, and takes back what does not pay any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Annotated

from annotated_types import Ge, Interval

from edgeqwt.graph.graph import Graph
from edgeqwt.passes.context import Context
from edgeqwt.passes.gate import Verdict
from edgeqwt.passes.state import NOTHING, Account, State
from edgeqwt.passes.technique import Technique, Works
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import OpTimes
from edgeqwt.widths.regions import EXPECTATION, QUOTIENT, RECURRENCE, VECTORS, Region, regions, widened
from edgeqwt.widths.time import run_time

Decibels = Annotated[float, Interval(ge=0, le=100)]


@dataclass(frozen=True)
class RoleChoice:
    """Regions of one role, and whether they have 16-bit activations.

    Attributes:
        role: of `regions.ROLES`.
        regions: how many there are.
        ops: how many ops they have.
        gain_db: SQNR at the outputs that they gain, on held-out samples; all other wide regions being wide.
        wide: whether they have them: they gain enough, and the run does not take longer than it may.
        time: of a run with them, in that without, by the model of `OpTimes`; None where the target is not LiteRT's CPU.
        slow: whether a run would take longer than it may.
    """

    role: str
    regions: int
    ops: int
    gain_db: float
    wide: bool
    time: float | None = None
    slow: bool = False

    @property
    def sentence(self) -> str:
        """For people."""
        count = "1 region" if self.regions == 1 else f"{self.regions} regions"
        price = "" if self.time is None else f", for about {self.time:.1f} times the time"
        left = "" if self.wide else f", too {'slow' if self.slow else 'little'}: they have 8"
        return f"{self.role}, {count}, {self.ops} ops: 16 bits gain {self.gain_db:.2f} dB{price}{left}"


@dataclass(frozen=True)
class Regions16(Technique):
    """16-bit activations between products, in recurrent layers and on vectors, if held-out samples gain enough by that.

    A few channels and tokens of a transformer's residual stream are many times as large as the others (Dettmers et al.
    2022, LLM.int8()); the products stay at 8 bits and cost most of the time. What squeeze-and-excitation computes on
    vectors has little work, and its errors reach all positions alike; shares of a softmax that weigh coordinates or
    distances are mostly below half a step. Each region costs copies at its boundaries, which
    the report counts. Requires float activations of 8 bits throughout, and a target that has 16.

    Attributes:
        min_gain: decibels at the outputs that all of them together must gain, or those of one role alone.
    """

    name = "regions16"
    title = "widen"
    works = Works.FLOAT
    paper = "LLM.int8() (Dettmers et al. 2022)"
    measured = (
        "ResNet-20: nothing; MiniLM's cosine 0.990 -> 0.998 (docs/transformers.md); vectors of TinyNet-E, random "
        "weights, before compensation: 4.6 -> 7.3 dB of what varies (docs/zoo.md); a key point by soft-argmax: mean "
        "error 0.017 -> 0.005 of the image (benchmarks/expectations.py)"
    )
    min_gain: Decibels = 0.5

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """All regions with 16-bit activations, if that gains enough."""
        precision, found = state.precision, regions(state.graph)
        if not found:
            return state, NOTHING
        if precision.activation_bits != 8 or precision.layers:
            return state, _nowhere("widths are given")
        if context.target.limits.get("activation_bits") == 8:
            return state, _nowhere(f"{context.target.name} has no 16-bit activations")
        wide = with_regions(state, found)
        verdict = context.keep(state, wide, self.min_gain)
        if not verdict.kept and (some := self._worth_it_alone(state, found, context)):
            wide = with_regions(state, some)
            verdict = max(verdict, context.keep(state, wide, self.min_gain), key=lambda v: (v.kept, v.gain_db))
        if not verdict.kept:
            return state, _nowhere(f"16 bits in regions gain {verdict.gain_db:.2f} dB on held-out samples")
        return wide, Account(data={"gain_db": verdict.gain_db, "regions": len(wide.regions)})

    def _worth_it_alone(self, state: State, found: Iterable[Region], context: Context) -> list[Region]:
        """The regions of those roles that gain enough where all others have 8 bits; none of a single role."""
        by_role: dict[str, list[Region]] = {}
        for region in found:
            by_role.setdefault(region.role, []).append(region)
        if len(by_role) < 2:
            return []
        wide = {role: with_regions(state, mine) for role, mine in by_role.items()}
        kept = [role for role, after in wide.items() if context.keep(state, after, self.min_gain).kept]
        return [region for role in kept for region in by_role[role]]


@dataclass(frozen=True)
class Regions16Review(Technique):
    """Takes 16 bits back from regions of a role where they do not gain enough any more.

    Equalization and weighted ranges, which run between `regions16` and this, may make 8 bits good enough. Where no role
    pays, the build starts again without the regions, and nothing is left that was done for their sake.

    Attributes:
        min_gain: decibels at the outputs that those of one role must gain, on held-out samples.
        max_time: of a run in LiteRT on a CPU, at most, in that with 8 bits everywhere, by a model (`OpTimes`); 0: any.
            Where it takes longer, roles lose their 16 bits, those that gain least often first.
    """

    name = "regions16_review"
    title = "widen"
    works = Works.FLOAT
    part_of = Regions16.name
    min_gain: Decibels = 0.5
    max_time: Annotated[float, Ge(0)] = 0.0

    def apply(self, state: State, context: Context) -> tuple[State, Account]:
        """The regions whose 16 bits still gain enough, role by role."""
        if not state.regions:
            return state, NOTHING
        found = of_roles(state, state.graph)  # with what equalization added
        kept, choices = found, []
        graph = context.lowered(with_regions(state, kept))
        for role in dict.fromkeys(sorted((i.role for i in found), key=list(_ORDER).index)):
            rest = [i for i in kept if i.role != role]
            without = context.lowered(with_regions(state, rest))
            verdict = context.gate.keep(without, graph, self.min_gain)
            choices.append(self._choice(role, state, kept, verdict, context))
            if not choices[-1].wide:
                kept, graph = rest, without
        account = Account(
            tuple(choice.sentence for choice in choices),
            {"roles": [asdict(choice) for choice in choices]},
            kept=any(choice.wide for choice in choices),
            withdraws=() if any(choice.wide for choice in choices) else (Regions16.name, self.name),
            detail=tuple(choices),
        )
        return with_regions(state, kept), account

    def _choice(
        self, role: str, state: State, kept: Sequence[Region], verdict: Verdict, context: Context
    ) -> RoleChoice:
        """Whether the regions of a role stay wide beside the others."""
        mine, rest = ([i for i in kept if (i.role == role) == ours] for ours in (True, False))
        ops = sum(len(i.ops) for i in mine)
        if not context.target.on_litert_cpu:
            return RoleChoice(role, len(mine), ops, verdict.gain_db, verdict.kept)
        time, before, eight = (_time(state, wide, context) for wide in (kept, rest, ()))
        slow = verdict.kept and 0 < self.max_time < time / eight
        return RoleChoice(role, len(mine), ops, verdict.gain_db, verdict.kept and not slow, time / before, slow)


def _time(state: State, wide: Iterable[Region], context: Context) -> float:
    """Of a run with these regions wide."""
    precision = with_regions(state, wide).precision
    return run_time(state.graph, precision, planned(state.graph, precision, context.kernels), OpTimes())


_ORDER: Mapping[str, int] = MappingProxyType(
    {
        role: k
        for k, role in enumerate(("activation", "softmax", "normalization", RECURRENCE, VECTORS, EXPECTATION, QUOTIENT))
    }
)
"""The least likely to pay first."""


def of_roles(state: State, graph: Graph) -> list[Region]:
    """A float graph's regions of those roles that a state has wide ones of."""
    roles = {region.role for region in state.regions}
    return [region for region in regions(graph) if region.role in roles]


def with_regions(state: State, wide: Iterable[Region]) -> State:
    """The same with these regions wide, and nothing else."""
    regions = tuple(wide)
    precision = widened(state.graph, replace(state.precision, layers={}), regions)
    return replace(state, precision=precision, regions=regions)


def _nowhere(reason: str) -> Account:
    return Account((f"nowhere by themselves: {reason}",), {"skipped": reason}, kept=False)
