"""The way of `compensate`: an integer file of any tool's, repaired against the float model that it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.samples import Samples, split
from edgeqwt.calibration.validate import validated
from edgeqwt.compensation.cwac import Outcome, compensate, offsets_where_gains_lose
from edgeqwt.compensation.match import OTHER_MODEL, match
from edgeqwt.compensation.solve import Options
from edgeqwt.converted import ConvertedModel
from edgeqwt.errors import InputError, QualityError
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.interface import check_interfaces
from edgeqwt.graph.linear import channel_rows, is_linear, slots
from edgeqwt.graph.opset import RULES
from edgeqwt.judgement import COMPENSATED, UNCOMPENSATED, dropped, errors_of
from edgeqwt.lowering.fake_quant import inserted
from edgeqwt.notebook_display import Tabular
from edgeqwt.passes.gate import Gate
from edgeqwt.pipeline import sizes_of
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.runtime.ended import KernelEndedError
from edgeqwt.verify.choice import Choice, choose
from edgeqwt.verify.feeds import feeds
from edgeqwt.verify.op_errors import OwnErrors, own_errors
from edgeqwt.verify.quality import Quality, layer_quality
from edgeqwt.verify.thresholds import Shortfall, shortfalls
from edgeqwt.verify.worst_samples import WorstSample, worst_samples

# Rounding to nearest leaves a median of a quarter of a step, second-order rounding of about half a step. Training
# moves weights of 8 bits by more.
SAME_WEIGHTS = 1.0
STRANGE_LAYERS = 0.25  # share of layers beyond that, or with gains beyond the usual ones, that is too many
USUAL_GAINS = (0.5, 2.0)
OTHER_PARENT = (
    "the reference is hardly what the file was made from",
    "Name the float file that it was made from, after training for quantization if there was such.",
)
OTHER_SAMPLES = (
    "the file computes hardly anything of what the reference does on these samples, although its weights are the same",
    "Are they in the layout and on the scale that it was made for? `edgeqwt compare` says which ops err; where samples "
    "go beyond ranges, build from the float file with them.",
)
"""Why a file is not compensated, and what to do."""
LEAST_DB = 0.0  # of what varies: below, the file's output errs by more than the reference's varies

ONE_SAMPLE = "with one sample nothing is held out that could confirm a correction"


@dataclass(frozen=True, eq=False)
class CompensationResult(Tabular):
    """What compensation made of a file of another tool's; fields as in BuildResult.

    Attributes:
        warnings: why the reference may not be what the file was made from; accepted if there are any.
        traced, worst: as in BuildResult.
    """

    graph: Graph
    original: Graph
    outcome: Outcome
    choice: Choice
    quality: Mapping[str, Quality]
    sizes: Mapping[str, int]
    seconds: Mapping[str, float]
    shortfalls: tuple[Shortfall, ...] = ()
    warnings: tuple[str, ...] = ()
    traced: Mapping[str, OwnErrors] = field(default_factory=dict)
    worst: tuple[WorstSample, ...] = ()


def compensate_graph(
    graph: Graph, reference: ConvertedModel, samples: Samples, recipe: Recipe, stages: Stages
) -> CompensationResult:
    """Compensates an integer graph, made by any tool, against the float graph that it came from.

    Corrections are fitted and confirmed on the samples to fit on alone; those held out judge the whole.

    Args:
        graph: integer.
        reference: the float model; its inputs and outputs correspond to the graph's by position.
        samples: calibration samples in the float model's layout.
        recipe: its ranges and compensation count, and whether its quality thresholds accept warnings about the
            reference.
        stages: shows and times the steps.

    Raises:
        InputError: the two models, or the samples, do not fit together.
        QualityError: the reference is hardly what the file was made from.
    """
    samples = validated(samples, [binding.spec for binding in reference.inputs])
    wanted, options = reference.graph, recipe.find(Options) or Options()
    if reference.learned is not None:
        # The file is to do what training did, which rounds; its scales are those that were learned.
        wanted, options = inserted(wanted, reference.learned), replace(options, rewrite_scales=False)
    check_interfaces(graph, wanted, OTHER_MODEL)
    fit, held_out = split(samples)
    with stages("judge"):
        first = layer_quality(wanted, {UNCOMPENSATED: graph}, feeds(reference, wanted, held_out))
    warnings = [*_strange_weights(graph, wanted)]
    _require(warnings, recipe, OTHER_PARENT)
    warnings += _far_away(first[UNCOMPENSATED], bool(reference.learned))
    _require(warnings, recipe, OTHER_SAMPLES)
    if sum(1 for _ in samples.head(2)) == 1:
        nothing, choice = Outcome(graph, (), (), 1), Choice(UNCOMPENSATED, ONE_SAMPLE)
        poor = shortfalls(wanted, first[UNCOMPENSATED], recipe.quality)
        sizes = sizes_of({UNCOMPENSATED: graph})
        traced = {UNCOMPENSATED: own_errors(wanted, graph, feeds(reference, wanted, held_out))}
        return CompensationResult(
            graph, graph, nothing, choice, first, sizes, stages.seconds, poor, tuple(warnings), traced
        )
    with stages("calibrate") as advance:
        statistics, _ = observe(wanted, feeds(reference, wanted, fit.shown(advance)))
    with stages("compensate") as advance:

        def run(options: Options) -> Outcome:
            return compensate(graph, wanted, feeds(reference, wanted, fit), statistics, recipe.ranges, options, advance)

        outcome = run(options)
        warnings += _strange_gains(outcome)
        _require(warnings, recipe, OTHER_PARENT)
        if outcome.has_gains:
            with Gate(reference, wanted, held_out).at_decisions(wanted) as comparator:
                outcome = offsets_where_gains_lose(outcome, graph, options, run, comparator.noise)
    variants = {UNCOMPENSATED: graph, COMPENSATED: outcome.graph}
    with stages("judge") as advance:
        data = feeds(reference, wanted, held_out.shown(advance))
        try:
            quality = {**first, **layer_quality(wanted, {COMPENSATED: outcome.graph}, data)}
        except KernelEndedError as error:
            quality, variants = first, {UNCOMPENSATED: graph}
            warnings.append(dropped(error))
        traced = errors_of(wanted, variants, lambda: feeds(reference, wanted, held_out))
    choice = choose(quality)
    kept, poor = variants[choice.name], shortfalls(wanted, quality[choice.name], recipe.quality)
    sizes = sizes_of(variants)
    worst = worst_samples(wanted, kept, quality[choice.name], feeds(reference, wanted, held_out))
    return CompensationResult(
        kept, graph, outcome, choice, quality, sizes, stages.seconds, poor, tuple(warnings), traced, worst
    )


def _require(warnings: list[str], recipe: Recipe, why: tuple[str, str]) -> None:
    if warnings and not recipe.quality.accept:
        what, hint = why
        raise QualityError(f"{what}: {'; '.join(warnings)}", f"{hint} --accept compensates it all the same.")


def _far_away(quality: Quality, learned: bool) -> Iterator[str]:
    """What of the file has little to do with the reference to begin with."""
    for end, judged in zip(quality.outputs, quality.decisive, strict=True):
        db = judged.closeness.judged_db
        if not db >= LEAST_DB and not learned:
            yield f"output {end.name!r} has {db:.1f} dB SQNR of what varies to begin with"


def _strange_weights(graph: Graph, reference: Graph) -> Iterator[str]:
    """Layers whose weights are not the reference's, rounded, up to a gain per channel."""
    pairs, _ = match(graph, reference, constants=False)
    ops = [(graph.ops[p.integer], reference.ops[p.reference]) for p in pairs]
    far = [op for op, other in ops if _residual(graph, op, reference, other) > SAME_WEIGHTS]
    if len(far) > STRANGE_LAYERS * len(ops):
        name = graph.tensors[far[0].outputs[0]].name
        yield (
            f"the weights of {len(far)} of {len(ops)} layers are not its weights, rounded: {far[0].kind} {name!r} is "
            f"the first"
        )


def _residual(graph: Graph, op: Op, reference: Graph, other: Op) -> float:
    """Median distance of a layer's weights from its partner's, in steps, after each channel's best gain."""
    q = graph.tensors[slots(op).weight].quantization
    ours, theirs = (_rows(g, o) for g, o in ((graph, op), (reference, other)))
    if q is None:
        return 0.0
    square = np.square(ours).sum(axis=1)
    gain = np.divide((ours * theirs).sum(axis=1), square, out=np.zeros_like(square), where=square > 0)
    step = np.broadcast_to(q.scale if q.axis is not None else q.scale[:1], (len(ours),)) * np.abs(gain)
    used = step > 0
    if not used.any():
        return 0.0
    return float(np.median(np.abs(ours * gain[:, None] - theirs)[used] / step[used, None]))


def _rows(graph: Graph, op: Op) -> Array:
    """A layer's weights in real values, one row per output channel."""
    return channel_rows(graph.tensors[slots(op).weight].real, slots(op).axis).astype(np.float64)


def _strange_gains(outcome: Outcome) -> Iterator[str]:
    """Layers whose outputs have another size than the reference's."""
    low, high = USUAL_GAINS
    far = [c for c in outcome.changes if c.with_gain and (c.gain_low < low or c.gain_high > high)]
    if len(far) > STRANGE_LAYERS * len(outcome.changes):
        worst = max(far, key=lambda c: max(c.gain_high, 1 / max(c.gain_low, 1e-9)))
        yield (
            f"gains of {len(far)} of {len(outcome.changes)} layers lie beyond {low:g} to {high:g}: {worst.kind} "
            f"{worst.name!r} has {worst.gain_low:.2f} to {worst.gain_high:.2f}"
        )


def is_integer(graph: Graph) -> bool:
    """Whether a graph's layers compute on integers, as those of a file that was trained for them do not yet."""
    linear = [op.inputs[RULES[op.kind].data] for op in graph.ops if is_linear(op)]
    read = linear or [t for op in graph.ops for t in op.inputs if t >= 0 and not graph.tensors[t].is_constant]
    return any(graph.tensors[t].quantization is not None and not graph.tensors[t].is_float for t in read)


def check_order(model: str, graph: Graph, reference: str, wanted: Graph | None) -> None:
    """Whether the file to compensate is an integer one, and its reference a float one.

    Args:
        model: how the user named the file to compensate.
        graph: what it holds.
        reference: how the user named the reference.
        wanted: what it holds; None where it is no .tflite file.

    Raises:
        InputError: they are not.
    """
    if is_integer(graph):
        if wanted is not None and is_integer(wanted):
            raise InputError(
                f"the reference {reference} is an integer file, as {model} is",
                "Give the float file that it was made from.",
            )
        return
    if wanted is not None and is_integer(wanted):
        raise InputError(
            f"{model} is a float file and the reference {reference} an integer one: they are swapped",
            f"edgeqwt compensate {reference} --reference {model}",
        )
    raise InputError(
        f"{model} is a float file: there is nothing to compensate", "`edgeqwt build` makes an integer file of it."
    )
