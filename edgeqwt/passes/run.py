"""The loop: techniques one after the other, each with what came out of the one before.

What happens to a model (`make`): its prepared float graph is observed on the samples to fit on. Techniques that work on
the float graph come first: they choose widths and range rules, or rewrite the graph so that it loses less. Others then
choose scales. Before the first one that works on integers the graph is lowered: every op gets its integer form, weights
are rounded to nearest. Techniques round weights anew, and last correct scales and biases. Each says what it did, and
hands back the state that it got where held-out samples do not confirm it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module

from edgeqwt.compensation.cwac import Outcome
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.lowering.fake_quant import inserted
from edgeqwt.lowering.fake_quant import scales as learned_scales
from edgeqwt.lowering.preconditions import described
from edgeqwt.passes.context import Context
from edgeqwt.passes.limits import within_limits
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import RANGES, Technique, Techniques, Works, without
from edgeqwt.progress import Advance, Stages
from edgeqwt.rounding.structure import LayerStructure, Structure, account, weight_scales
from edgeqwt.scales.ranges import MinMax
from edgeqwt.scales.scales import Scales
from edgeqwt.widths.precision import Precision


@dataclass(frozen=True, eq=False)
class Step:
    """One technique of a build.

    Attributes:
        technique: with its options, of which a limited time may leave less than the recipe says.
        account: what it did.
        before: the model that it got.
    """

    technique: Technique
    account: Account
    before: State


@dataclass(frozen=True, eq=False)
class Made:
    """An integer graph and how it came about.

    Attributes:
        state: the model after all techniques.
        steps: the techniques, in order.
        notes: where gradients stop, and for which techniques that matters.
        structure: what became of zeros and clusters that training had put into the weights, layer by layer.
    """

    state: State
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    structure: tuple[LayerStructure, ...] = ()

    @property
    def graph(self) -> Graph:
        """The last integer graph."""
        return self.state.integer_graph

    @property
    def reference(self) -> Graph:
        """The float graph that it is to compute: the prepared one, equalized."""
        return self.state.reference

    @property
    def outcome(self) -> Outcome | None:
        """What compensation did; None where there was none."""
        return next((s.account.detail for s in self.steps if isinstance(s.account.detail, Outcome)), None)

    @property
    def uncompensated(self) -> Graph:
        """The integer graph before compensation."""
        found = next((s.before.integer for s in self.steps if isinstance(s.account.detail, Outcome)), None)
        return self.graph if found is None else found

    def account(self, name: str) -> Account | None:
        """What a technique did; None where it was not among them."""
        return next((step.account for step in self.steps if step.technique.name == name), None)


def make(context: Context, techniques: Techniques, precision: Precision, stages: Stages) -> Made:
    """The integer graph that techniques make of a float graph.

    Args:
        context: the model, its samples and target.
        techniques: in the order in which they run.
        precision: widths to begin with.
        stages: shows and times them.

    Raises:
        UnsupportedError: an op has no integer form.
        InputError: the samples or the graph's constants cannot be used.
    """
    chosen = suited(techniques, context, precision)
    state, steps = _begun(context, chosen, precision, stages)
    context = replace(context, limits=context.limits.foreseeing(stages.seconds.get("calibrate", 0.0)))
    for k, technique in enumerate(chosen[len(steps) :], start=len(steps)):
        state = lowered_for(technique, state, context, stages)
        used, after, accounted = apply(technique, state, context, stages, chosen[k + 1 :])
        steps.append(Step(used, accounted, state))
        if accounted.withdraws:  # all again without them: what came before may have been done for their sake
            made = make(context, without(techniques, *accounted.withdraws), precision, stages)
            return replace(made, steps=(steps[-1], *made.steps))
        state = after
        context.unfinished.keep(context, chosen, precision, (state, steps), technique.stage)
    with stages("quantize"):
        state = context.with_integer(state)
    rows = account(context.graph, state.integer_graph, state.structure)
    return Made(state, tuple(steps), _stopped(state.graph, chosen, context.model.locations), rows)


def _begun(context: Context, techniques: Techniques, precision: Precision, stages: Stages) -> tuple[State, list[Step]]:
    """Where a build of the same left off that did not end, or the observed model before any technique."""
    found: tuple[State, list[Step]] | None = context.unfinished.reached(context, techniques, precision)
    if found is None:
        with stages("calibrate") as advance:
            state = start(context.showing(advance), precision)
        context.unfinished.keep(context, techniques, precision, (state, []), "calibrate")
        return state, []
    state, steps = found
    with stages(f"go on after {steps[-1].technique.stage if steps else 'calibrate'}"):
        if any(step.technique.gradients for step in steps):  # `_stopped` looks for it
            with suppress(ImportError):
                import_module("torch")
    return state, steps


def suited(techniques: Techniques, context: Context, precision: Precision) -> Techniques:
    """The techniques that a model can take: not all suit one that was trained with quantization, or clustered."""
    trained, clusters = context.model.learned is not None, bool(context.structure().clusters)
    return tuple(
        t
        for t in techniques
        if (t.for_trained or not trained)
        # Activations that are quantized at run time: the range rule stays for messages and comparisons.
        and (t.for_dynamic or t.role == RANGES or not precision.dynamic)
        and (t.keeps_clusters or not clusters)
    )


def lowered_for(technique: Technique, state: State, context: Context, stages: Stages) -> State:
    """The state with an integer graph, where a technique works on one and there is none yet."""
    if technique.works < Works.INTEGER or state.integer is not None:
        return state
    with stages("quantize"):
        return context.with_integer(state)


def apply(
    technique: Technique, state: State, context: Context, stages: Stages, others: Techniques = ()
) -> tuple[Technique, State, Account]:
    """One pass: a technique as it ran, the model after it, and what it did.

    Args:
        technique: with its options.
        state: what came out of the one before, see `lowered_for`.
        context: the model, its samples, target and limits.
        stages: shows and times it.
        others: the techniques to come.
    """
    with stages(technique.stage) as advance:
        return within_limits(technique, state, context.showing(advance), others)


def start(context: Context, precision: Precision) -> State:
    """The prepared model before any technique: observed, with the scales that training chose where it did."""
    graph, learned = context.graph, context.model.learned
    if learned is None:
        graph, precision = context.for_widths(precision)
    statistics, kept = context.observed(graph), context.structure()
    ranges = context.rule(MinMax())
    if learned is None:
        return State(graph, statistics, precision, ranges, scales=_clustered(graph, precision, kept), structure=kept)
    # It is to compute what the network computes that rounds as it was trained.
    scales, trained = learned_scales(graph, learned), inserted(graph, learned)
    return State(graph, statistics, precision, ranges, scales=scales, structure=kept, trained=trained)


def _clustered(graph: Graph, precision: Precision, kept: Structure) -> Scales:
    """The scales at which clustered weights stay clustered."""
    found = {}
    for op in graph.ops:
        if is_linear(op):
            name = graph.tensors[slots(op).output].name
            scale = weight_scales(kept, name, precision.of(name).weights)
            if scale is not None:
                found[slots(op).weight] = scale
    return Scales(weights=found)


def _stopped(graph: Graph, techniques: Techniques, locations: Mapping[str, str]) -> tuple[str, ...]:
    """Where gradients stop on their way from the outputs, and what counts as if the outputs did not depend on it."""
    used = ", ".join(dict.fromkeys(t.gradients for t in techniques if t.gradients))
    if not used or "torch" not in sys.modules:  # no gradient was taken: torch is missing, or too much for the memory
        return ()
    from edgeqwt.autograd.kernels import stops

    return tuple(
        f"{described(graph, i, locations)} has no gradient: for {used}, the outputs do not depend on {count} "
        f"activation{'s' if count > 1 else ''} before it"
        for i, count in stops(graph, decision_tensors(graph)).items()
    )


@dataclass(frozen=True)
class Gain:
    """What one technique gains.

    Attributes:
        technique: its name.
        without_db: SQNR at the outputs, before a softmax, of a build without it.
        gain_db: how much more it is with it.
    """

    technique: str
    without_db: float
    gain_db: float


def leave_one_out(
    whole: Context, small: Context, techniques: Techniques, precision: Precision, advance: Advance
) -> tuple[Gain, ...]:
    """What each technique gains, by leaving out one at a time.

    All builds are without slow techniques, which take minutes each time; the build itself measures what those gain.

    Args:
        whole: whose held-out samples judge.
        small: with fewer samples; all builds alike are fitted on them.
        techniques: as the build used them.
        precision: as the build found it.
        advance: shows how many builds are done.
    """
    quick = tuple(technique for technique in techniques if not technique.slow)
    alone = [technique.name for technique in quick if not technique.part_of]
    variants = {"": quick, **{name: without(quick, name) for name in alone}}
    found: dict[str, float] = {}
    for name, variant in variants.items():
        made = make(small, variant, precision, Stages())
        found[name] = whole.gate.quality(made.reference, {"": made.graph})[""].worst_db
        advance(len(found), len(variants))
    return tuple(Gain(name, found[name], found[""] - found[name]) for name in variants if name)
