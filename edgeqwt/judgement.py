"""The integer graphs that a build may keep, judged on held-out samples: which is best, and how good is it?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from edgeqwt.advice import advice, remedies
from edgeqwt.calibration.samples import Samples
from edgeqwt.ceiling import Ceiling, ceiling
from edgeqwt.compensation.cwac import Outcome
from edgeqwt.converted import ConvertedModel
from edgeqwt.cross_validation import Expected, cross_validated, possible
from edgeqwt.errors import QualityError, listed
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import Made, make
from edgeqwt.passes.technique import COMPENSATION, RANGES, Techniques, plain
from edgeqwt.possible_remedies import in_float, lost_columns, units
from edgeqwt.progress import Advance, Stages
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.runtime.ended import KernelEndedError
from edgeqwt.techniques.range_tails import RangeTails
from edgeqwt.techniques.ranges import MseRanges
from edgeqwt.trials import Trial, tried, worst_place
from edgeqwt.verify.choice import Choice, choose
from edgeqwt.verify.op_errors import OwnErrors, own_errors_of, without_repairs
from edgeqwt.verify.paired import STANDARD_ERRORS
from edgeqwt.verify.quality import Quality, layer_quality
from edgeqwt.verify.thresholds import FINE_DB, Shortfall, require, shortfalls
from edgeqwt.verify.unseen import silent, unvarying
from edgeqwt.verify.worst_samples import WorstSample, worst_samples
from edgeqwt.verify.wrapping import jumping

Adapt = Callable[[Graph], tuple[Graph, tuple[str, ...]]]
"""Rewrites an integer graph for a target; returns sentences on what it did, too."""

FEW = 6  # columns that are named
JUMPING = "Jumps of what wraps are not in these figures: see what is said of it."
PLAIN, UNCOMPENSATED, COMPENSATED = "plain", "uncompensated", "compensated"
"""The variants, in the order in which they are judged."""
FITTED = 32  # samples that were fitted on which are looked at where the held-out ones leave doubts
UNCERTAIN_DB = 1.5
"""Standard error of an output's figure from which on it is said: two of them are 3 dB, half or twice the error, or what
else leaves so much open. What other samples have is said as well where it is less by so much."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What held-out samples say of a build's variants.

    Attributes:
        variants: the integer graphs, as adapted to the target: plain post-training quantization where the recipe has
            other techniques than ranges and compensation, and before and after compensation.
        quality: how close each comes to its float graph.
        adapted: sentences on what was rewritten for the target, or dropped because it does not run.
        choice: which variant is kept, and why.
        shortfalls: what is poor about it.
        own: what each of its ops errs by itself, before compensation.
        traced: the same of the variants before and after compensation; of the plain one alone where that is kept.
        worst: the samples on which it errs most.
        remedy: what may help where an output or a part of one has less than 25 dB; empty elsewhere.
        ceiling: what activations of its widths leave at best; None where the recipe does not ask and nothing is poor.
        warnings: what of the samples speaks against deciding by them, and outputs of which they say nothing.
    """

    variants: Mapping[str, Graph]
    quality: Mapping[str, Quality]
    adapted: tuple[str, ...]
    choice: Choice
    shortfalls: tuple[Shortfall, ...]
    own: OwnErrors
    traced: Mapping[str, OwnErrors]
    worst: tuple[WorstSample, ...]
    remedy: str
    ceiling: Ceiling | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Refused:
    """A build that stopped, because the best that it made keeps too little.

    Attributes:
        judgement: of it; its `remedy` is what the error's hint says.
        outcome: what compensation did; None where there was none.
        context: the model, its target and the samples.
        recipe: what it was made by.
    """

    judgement: Judgement
    outcome: Outcome | None
    context: Context
    recipe: Recipe


def as_it_is(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """An Adapt that changes nothing."""
    return graph, ()


def judge(
    context: Context,
    samples: Samples,
    made: Made,
    recipe: Recipe,
    stages: Stages,
    adapt: Adapt = as_it_is,
    warnings: Sequence[str] = (),
) -> Judgement:
    """Which variant is kept, what it errs and where.

    Args:
        context: the model, its target, and the gate with the held-out samples.
        samples: all calibration samples, for small builds that try remedies.
        made: what the recipe's techniques made.
        recipe: with the widths that `made` has.
        stages: shows and times the steps.
        adapt: how the file will be written for the target.
        warnings: what of the samples speaks against deciding by them.

    Raises:
        QualityError: the best one does not reach the recipe's quality thresholds, and it does not accept that.
    """
    with stages("judge") as advance:
        variants, quality, adapted = judged(context, made, recipe, advance, adapt)
        choice = choose(quality)
        kept, found = variants[choice.name], quality[choice.name]
        poor = shortfalls(made.reference, found, recipe.quality)
        reference = context.graph if choice.name == PLAIN else made.reference
        names = (PLAIN,) if choice.name == PLAIN else (UNCOMPENSATED, COMPENSATED)
        traced = errors_of(reference, {n: variants[n] for n in names if n in variants}, context.gate.feeds)
        own = traced[choice.name]
        worst = worst_samples(reference, kept, found, context.gate.feeds(), context.gate.remembered)
        # What may be chance is said; minutes of trials would be lost in most cases.
        wanting = not all(shortfall.chance for shortfall in poor)
        informed = (recipe.ceiling or wanting) and context.limits.spare()
        limit = ceiling(reference, kept, own, context.gate.feeds()) if informed else None
    expected = _expected(context, samples, recipe, choice, found, stages)
    held_out = worst_place(made.reference, found).db
    wraps = [*jumping(reference, kept, found, context.gate.feeds())]
    warnings = (*warnings, *(sentence for _, sentence in wraps))
    has = min([held_out, *(e.db for e in expected), *(db for db, _ in wraps)])
    trials: tuple[Trial, ...] = ()
    if (wanting or has < FINE_DB) and context.limits.spare():
        with stages("try remedies") as advance:
            known = replace(recipe, techniques=_with_tails(made, recipe.techniques))
            every = has < FINE_DB <= held_out and not wraps
            trials = tried(context, samples, known, found, own, advance, limit, brief=not wanting, every=every)
    remedy = remedies(reference, found, own, recipe, trials, has) if poor or has < FINE_DB else ""
    remedy = f"{remedy} {JUMPING}" if remedy and wraps else remedy
    fitted = None if expected else _of_fitted(context, reference, kept, found)
    doubts = uncertain(found, fitted, expected)
    lacking = (*_unseen(context.model, found), *unresolved(found), *_lacking(context, made, reference, found))
    said = (*warnings, *lacking, *_lost(context.graph, own, found), *doubts)
    judgement = Judgement(variants, quality, adapted, choice, poor, own, traced, worst, remedy, limit, said)
    if poor and not recipe.quality.accept:
        noted = (f"{sentence}." for sentence in warnings)
        try:
            require(poor, " ".join([*noted, advice(reference, found, own, recipe, trials)]))
        except QualityError as error:
            error.refused = Refused(judgement, made.outcome, context, recipe)
            raise
    return judgement


def _with_tails(made: Made, techniques: Techniques) -> Techniques:
    """Techniques with the tails that the build found: what they are for, fewer samples may not have."""
    found = made.account(RangeTails.name)
    share = found.data["share"] if found is not None and found.kept and found.data else 0.0
    others = (t for t in techniques if t.name != RangeTails.name)
    return tuple(replace(t, tails=share) if share and isinstance(t, MseRanges) else t for t in others)


def judged(
    context: Context, made: Made, recipe: Recipe, advance: Advance, adapt: Adapt = as_it_is
) -> tuple[dict[str, Graph], dict[str, Quality], tuple[str, ...]]:
    """The candidates, the plainest first, and how close each comes to the float graph on held-out samples.

    They are judged as adapted to the target; the last value says what that did.
    """
    variants = {UNCOMPENSATED: made.uncompensated}
    if made.outcome is not None:
        variants[COMPENSATED] = made.outcome.graph
    variants, sentences = _adapted(variants, adapt)
    quality, ended = of_those_that_run(variants, lambda v: context.gate.quality(made.reference, v, advance))
    variants, sentences = {name: variants[name] for name in quality}, (*sentences, *ended)
    simple = plain(_with_tails(made, recipe.techniques))
    others = [t for t in recipe.techniques if t.role not in (RANGES, COMPENSATION) and t.name != RangeTails.name]
    if not others or context.model.learned is not None:
        return variants, quality, sentences
    nothing = make(context, simple, recipe.precision, Stages()).graph
    first, _ = _adapted({PLAIN: nothing}, adapt)
    same = UNCOMPENSATED in quality and made.reference is context.graph
    if same and flatbuffer.to_bytes(first[PLAIN]) == flatbuffer.to_bytes(variants[UNCOMPENSATED]):
        return {PLAIN: variants[UNCOMPENSATED], **variants}, {PLAIN: quality[UNCOMPENSATED], **quality}, sentences
    with suppress(KernelEndedError):  # what cannot run is nothing to be held against
        return {**first, **variants}, {**context.gate.quality(context.graph, first), **quality}, sentences
    return variants, quality, sentences


def of_those_that_run(
    variants: Mapping[str, Graph], quality: Callable[[Mapping[str, Graph]], dict[str, Quality]]
) -> tuple[dict[str, Quality], tuple[str, ...]]:
    """The quality of variants without the compensated one where a kernel ends its process, and a sentence on that.

    Raises:
        KernelEndedError: the kernels of another one end their process.
    """
    try:
        return quality(variants), ()
    except KernelEndedError as error:
        if error.graph is not variants.get(COMPENSATED):
            raise
        others = {name: graph for name, graph in variants.items() if name != COMPENSATED}
        return quality(others), (dropped(error),)


def dropped(error: KernelEndedError) -> str:
    """A sentence on a compensated model that cannot be kept."""
    return f"the compensated model is dropped: {error.message}"


def _adapted(variants: Mapping[str, Graph], adapt: Adapt) -> tuple[dict[str, Graph], tuple[str, ...]]:
    found = {name: adapt(graph) for name, graph in variants.items()}
    return {name: graph for name, (graph, _) in found.items()}, next(iter(found.values()))[1]


def errors_of(
    reference: Graph, variants: Mapping[str, Graph], feeds: Callable[[], Iterable[Mapping[int, Array]]]
) -> dict[str, OwnErrors]:
    """Own errors of variants of one model; what compensation repairs is no op's own error."""
    found = own_errors_of(reference, variants, feeds())
    if {UNCOMPENSATED, COMPENSATED} <= found.keys():
        found[COMPENSATED] = without_repairs(found[COMPENSATED], found[UNCOMPENSATED])
    return found


def unresolved(quality: Quality) -> Iterator[str]:
    """Sentences on probabilities that are the same for all samples, as far as the steps of their kernels tell."""
    for output, judged in zip(quality.outputs, quality.decisive, strict=True):
        whole = [(f"output {output.name!r}", judged.unresolved)]
        parts = [(f"{p.name!r}, {p.place} of output {output.name!r},", p.unresolved) for p in output.parts]
        for name, step in (*whole, *parts):
            if step is not None:
                yield (
                    f"{name} is the same in all {quality.samples} held-out samples but for less than {step:.2g}, the "
                    "step of LOGISTIC and SOFTMAX at its width, and is not judged. If it should fire, calibrate with "
                    "samples in which it does; if values so small matter, let the model return what goes into its "
                    "sigmoid or softmax"
                )


def _lost(graph: Graph, own: OwnErrors, quality: Quality) -> Iterator[str]:
    """Sentences on columns of outputs of which nothing is left, however good the whole is."""
    references, names = {op.tensor: op.reference for op in own.ops}, {at.tensor: at.name for at in quality.decisive}
    for tensor, columns in lost_columns(own, quality).items():
        few = listed([*map(str, columns)], FEW)
        which = f"column {few} is" if len(columns) == 1 else f"columns {few} are"
        yield (
            f"of output {names[tensor]!r} {which} lost in its steps, as another column is larger by orders of "
            "magnitude: let the model return values that are normalized column by column, or keep its last ops and the "
            f"output in float ({in_float(units(graph, references[tensor]))} --output-type float)"
        )


def uncertain(quality: Quality, fitted: Quality | None = None, expected: Sequence[Expected] = ()) -> Iterator[str]:
    """Sentences on outputs whose figure other samples may well not confirm.

    Few held-out samples, by which candidates were chosen, may like the chosen one more than others do: what samples
    have that it was fitted on is more than new ones will have, and at times less than they have.

    Args:
        quality: on held-out samples.
        fitted: the same of samples that were fitted on; None where nobody knows.
        expected: of each output, with every sample held out once; empty where nobody knows.
    """
    nobody = [None] * len(quality.decisive)
    others = nobody if fitted is None else fitted.decisive
    for output, judged, other, fresh in zip(quality.outputs, quality.decisive, others, expected or nobody, strict=True):
        figure = judged.closeness.judged_db
        if fresh is not None:
            yield from _less(output.name, figure, quality.samples, fresh)
            continue
        error, least = judged.standard_error, judged.least_db
        if figure - least > STANDARD_ERRORS * UNCERTAIN_DB:  # False of nan
            share, less = max(judged.errors) / sum(judged.errors), ""
            if other is not None and other.closeness.judged_db < figure - error:
                less = f". Those that it was fitted on have {other.closeness.judged_db:.1f} dB: expect that"
            yield (
                f"the {figure:.1f} dB of output {output.name!r} have a standard error of "
                f"{error:.1f} dB: one of the {quality.samples} held-out samples has {share:.0%} of the error{less}. "
                f"Fresh ones may have {least:.1f} dB, and less where they are of kinds that these lack. Calibrate with "
                "more samples, rare ones among them"
            )


def _less(name: str, figure: float, count: int, expected: Expected) -> Iterator[str]:
    """That an output has less with every sample held out once, or nobody knows how much; else nothing."""
    known, unsure = math.isfinite(expected.db), expected.standard_error > UNCERTAIN_DB  # False of nan
    if not known or (expected.db > figure - UNCERTAIN_DB and not unsure):
        return
    error = "" if math.isnan(expected.standard_error) else f" ± {expected.standard_error:.1f}"
    slow = f" ({expected.slow_db:.1f} of them as learned rounding gains on those of the build)"
    slow = slow if expected.slow_db else ""
    reach = "; single samples, with values beyond what the others reach, have most of the error" if unsure else ""
    if unsure and expected.least_db < min(expected.db, figure) - UNCERTAIN_DB:  # False of nan
        reach += f", or of what varies: fresh ones may have {expected.least_db:.1f} dB"
    yield (
        f"expect {min(expected.db, figure):.1f} dB of output {name!r} on fresh samples, or less: held out a quarter "
        f"at a time, the {expected.samples} samples have {expected.db:.1f}{error} dB{slow}, and the {figure:.1f} dB "
        f"are those of {count}{reach}. Calibrate with more samples, rare ones among them"
    )


def _expected(
    context: Context, samples: Samples, recipe: Recipe, choice: Choice, found: Quality, stages: Stages
) -> tuple[Expected, ...]:
    """What outputs have with every sample held out once, by the techniques that made what is kept."""
    if recipe.mixed is not None or not context.limits.spare() or not possible(context, samples, recipe.precision):
        return ()
    techniques = recipe.techniques
    if choice.name == PLAIN:
        techniques = tuple(t for t in techniques if t.role == RANGES or t.name == RangeTails.name)
    elif choice.name == UNCOMPENSATED:
        techniques = tuple(t for t in techniques if t.role != COMPENSATION)
    with stages("hold out in turn") as advance:
        return cross_validated(context, samples, techniques, recipe.precision, found, advance)


def _of_fitted(context: Context, reference: Graph, kept: Graph, found: Quality) -> Quality | None:
    """The quality on samples that were fitted on, where the held-out ones leave doubts and there is time."""
    if not any(uncertain(found)) or not context.limits.spare():
        return None
    return layer_quality(reference, {"": kept}, context.fit.head(FITTED), deciding=context.model.deciding)[""]


def _lacking(context: Context, made: Made, reference: Graph, quality: Quality) -> Iterator[str]:
    """Sentences on outputs that do not vary, and on detectors that nothing fires in."""
    yield from unvarying(reference, quality, context.gate.feeds(), context.model.deciding)
    yield from silent(made.state.graph, quality, made.state.statistics)


def _unseen(model: ConvertedModel, quality: Quality) -> Iterator[str]:
    """Sentences on outputs of which no held-out sample has anything that decides."""
    for position, within in model.deciding.items():
        judged = quality.decisive[position]
        if judged.closeness.varying_db is None and quality.samples > 1:
            yield (
                f"output {judged.name!r} is nowhere {within} in the {quality.samples} held-out samples, so that "
                "nothing says how well that comes out: calibrate with more samples that have it"
            )
