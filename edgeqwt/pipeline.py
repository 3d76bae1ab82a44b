"""The way of the data: from a float graph and samples to a proved integer graph, as one function of named steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from platform import python_version

from edgeqwt.advice import advice, remedies
from edgeqwt.calibration.samples import Samples
from edgeqwt.ceiling import Ceiling, ceiling
from edgeqwt.compensation.cwac import Outcome
from edgeqwt.converted import ConvertedModel
from edgeqwt.errors import InvariantError, UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.job import begun
from edgeqwt.mixed.build import Assignment, make_mixed
from edgeqwt.mixed.cost import as_run, stored
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import Gain, Made, leave_one_out, make
from edgeqwt.passes.technique import COMPENSATION, plain
from edgeqwt.pictured import Pictured
from edgeqwt.prepare.prepare import Prepared
from edgeqwt.profile import Finding, TargetProfile
from edgeqwt.progress import Advance, Stages
from edgeqwt.proved import Proved
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.runtime.qualcomm import Compiled
from edgeqwt.trials import Trial, tried
from edgeqwt.verify.bitexact import BitExactness, compare_runtimes
from edgeqwt.verify.choice import Choice, choose
from edgeqwt.verify.evaluate import Evaluation, evaluate
from edgeqwt.verify.feeds import feeds
from edgeqwt.verify.op_errors import OwnErrors, own_errors
from edgeqwt.verify.overwrites import without_overwrites
from edgeqwt.verify.parity import Parity
from edgeqwt.verify.quality import Quality
from edgeqwt.verify.thresholds import Shortfall, require, shortfalls
from edgeqwt.verify.worst_samples import WorstSample, worst_samples

Adapt = Callable[[Graph], tuple[Graph, tuple[str, ...]]]

FLOAT, PLAIN, UNCOMPENSATED, COMPENSATED = "float", "plain", "uncompensated", "compensated"


def as_it_is(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """An Adapt that changes nothing."""
    return graph, ()


@dataclass(frozen=True)
class Sources:
    """What a build was made of, as the user named it: a path, "file.py:function", or what kind of object it was.

    Attributes:
        model: the source model.
        calibration: the calibration samples.
        evaluation: the evaluation data; None without any.
        metric: what scored them; None without any.
    """

    model: str
    calibration: str
    evaluation: str | None = None
    metric: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class BuildResult(Pictured):
    """Everything that a build made and measured; the report is written from it.

    Attributes:
        sources: what the user named.
        model: what the converter handed over.
        samples: how many calibration samples there were.
        prepared: the float graph in canonical form, and what was rewritten in it.
        adapted: what was rewritten in the integer graphs for the target.
        made: the integer graph that the recipe's techniques made, and what each did.
        assignment: which widths were chosen, and why; None where the recipe has them.
        variants: the integer graphs as they are stored: plain post-training quantization where the
            recipe has other techniques than a range rule and compensation, and before and after compensation.
        gains: what each technique gains, by leave-one-out; empty where the recipe does not ask for it.
        choice: which variant was kept, and why.
        shortfalls: what is poor about it, or below the quality thresholds and accepted.
        own: what each of its ops errs by itself, on the first held-out samples.
        parity: float graph against source model.
        quality: on held-out calibration samples, per variant: every linear layer and the outputs.
        runtimes: LiteRT's reference kernels against TFLite Micro and XNNPACK.
        scores: variant -> metric -> value on the evaluation data; empty without any.
        evaluated: how many evaluation samples there were.
        sizes: variant -> bytes of its file.
        warnings: what of the calibration samples speaks against deciding by them.
        ceiling: what activations of these widths leave at best; None where it was not asked for.
        remedy: what may help, where something is poor; empty otherwise.
        findings: what the target takes at a price; filled in by the API, as targets are above this layer.
        notes: sentences on the package that the user must see; likewise.
        package: the files of the package, relative to its folder; likewise.
        traced: own errors before and after compensation, by variant; of the one that was kept alone where that is the
            plain one.
        worst: the held-out samples on which the file that was kept errs most.
        placed: what a vendor's compiler made of the file for its NPU; filled in by the API; None where none was asked.
    """

    sources: Sources
    model: ConvertedModel
    recipe: Recipe
    target: TargetProfile
    samples: int
    prepared: Prepared
    parity: Parity
    made: Made
    adapted: tuple[str, ...]
    assignment: Assignment | None
    variants: Mapping[str, Graph]
    gains: tuple[Gain, ...]
    choice: Choice
    shortfalls: tuple[Shortfall, ...]
    own: OwnErrors
    quality: Mapping[str, Quality]
    runtimes: BitExactness
    scores: Mapping[str, Mapping[str, float]]
    evaluated: int
    sizes: Mapping[str, int]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    ceiling: Ceiling | None = None
    remedy: str = ""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    package: tuple[str, ...] = ()
    traced: Mapping[str, OwnErrors] = field(default_factory=dict)
    worst: tuple[WorstSample, ...] = ()
    placed: Compiled | None = None

    def __repr__(self) -> str:
        """A few lines: what was built, how good it is, and what was done."""
        quality, name = self.quality[self.choice.name], self.choice.name
        steps = ", ".join(step.technique.name for step in self.made.steps if step.account.kept) or "nothing"
        varies = f"{quality.worst_db:.1f} dB of what varies at the worst output"
        return (
            f"BuildResult({self.sources.model} for {self.target.name}, recipe {self.recipe.name}\n"
            f"  kept: {name}, {self.choice.reason}\n"
            f"  quality: {varies}, {quality.samples} held-out samples\n"
            f"  file: {self.sizes[name]:,} bytes (float: {self.sizes[FLOAT]:,}), {len(self.graph.ops)} ops\n"
            f"  techniques: {steps})"
        )

    def to_bytes(self) -> bytes:
        """The .tflite file of the integer graph that was kept."""
        return flatbuffer.to_bytes(self.graph)

    def save(self, path: str | Path) -> None:
        """Writes the .tflite file; `build(..., output=folder)` writes the report and the target's package as well.

        Raises:
            InputError: the file cannot be written.
        """
        flatbuffer.write(self.graph, Path(path))

    @property
    def graph(self) -> Graph:
        """The integer graph that was kept."""
        return self.variants[self.choice.name]

    @property
    def uncompensated(self) -> Graph:
        """The integer graph before compensation."""
        return self.variants[UNCOMPENSATED]

    @property
    def outcome(self) -> Outcome | None:
        """What compensation did; None where the recipe has none."""
        return self.made.outcome


def build(
    model: ConvertedModel,
    samples: Samples,
    recipe: Recipe,
    target: TargetProfile,
    evaluation: Evaluation | None,
    stages: Stages,
    source: str = "",
    adapt: Adapt = as_it_is,
    proved: Proved | None = None,
) -> BuildResult:
    """Lowers, compensates and proves a converted model.

    Args:
        model: from a converter.
        samples: calibration samples in the source model's layout.
        recipe: what to do.
        target: what must be able to run the result.
        evaluation: test samples and metric, or None.
        stages: shows and times the steps.
        source: how the user named the source model, for the report.
        adapt: rewrites an integer graph for the target; returns sentences on what it did.
        proved: what `prove` returned of this model, where it was called already.

    Raises:
        EdgeqwtError: see `edgeqwt.errors`; ParityError, QualityError and UnsupportedError are the usual ones.
    """
    job = begun(model, samples, recipe, target, stages, proved)
    model, samples, recipe, context, warnings = job.model, job.samples, job.recipe, job.context, job.warnings
    prepared, graph = job.prepared, job.prepared.graph
    made, recipe, assignment = _made(context, recipe, stages)
    with stages("judge") as advance:
        variants, quality, adapted = judged(
            context, made, recipe, advance, lambda found: as_run(*adapt(found), recipe, target)
        )
        choice = choose(quality)
        warnings = (*warnings, *_unseen(model, quality[choice.name]))
        poor = shortfalls(made.reference, quality[choice.name], recipe.quality)
        reference = graph if choice.name == PLAIN else made.reference
        own = own_errors(reference, variants[choice.name], context.gate.feeds())
        traced = _traced(reference, variants, choice.name, own, context)
        worst = worst_samples(reference, variants[choice.name], quality[choice.name], context.gate.feeds())
        limit = ceiling(reference, variants[choice.name], own, context.gate.feeds()) if recipe.ceiling else None
    trials: tuple[Trial, ...] = ()
    if poor:
        with stages("try remedies") as advance:
            trials = tried(context, samples, recipe, quality[choice.name], own, advance, limit)
        if not recipe.quality.accept:
            require(poor, advice(reference, quality[choice.name], own, recipe, trials))
    remedy = remedies(reference, quality[choice.name], own, recipe, trials) if poor else ""
    gains: tuple[Gain, ...] = ()
    if recipe.leave_one_out and model.learned is None:
        with stages("leave one out") as advance:
            small = Context.of(
                model, graph, samples.head(recipe.leave_one_out), target, recipe.preserve, context.ranges
            )
            gains = leave_one_out(context, small, recipe.techniques, recipe.precision, advance)
    variants = {name: stored(variant, recipe, target) for name, variant in variants.items()}
    with stages("prove") as advance:
        proof = context.gate.proof_samples(recipe.verify.runtime_samples)
        variants, runtimes, copied = without_overwrites(
            variants, choice.name, lambda kept: compare_runtimes(kept, feeds(model, kept, proof.shown(advance)))
        )
        require_runtimes(target, runtimes)
    sizes = sizes_of({FLOAT: graph, **variants})
    check_free(variants, sizes)
    scores, evaluated = _scores(evaluation, model, {FLOAT: graph, **variants}, stages)
    named = (None, None) if evaluation is None else (evaluation.samples.origin, evaluation.name)
    return BuildResult(
        Sources(source, samples.origin, *named), model, recipe, target, job.total, prepared, job.parity, made,
        (*adapted, *copied), assignment, variants, gains, choice, poor, own, quality, runtimes, scores, evaluated,
        sizes, stages.seconds, {**versions(), **model.versions}, warnings, limit, remedy, traced=traced, worst=worst,
    )  # fmt: skip


def _traced(
    reference: Graph, variants: Mapping[str, Graph], kept: str, own: OwnErrors, context: Context
) -> dict[str, OwnErrors]:
    """Own errors of the variants before and after compensation; the plain one has another float graph behind it."""
    if kept == PLAIN:
        return {PLAIN: own}
    names = [name for name in (UNCOMPENSATED, COMPENSATED) if name in variants]
    return {n: own if n == kept else own_errors(reference, variants[n], context.gate.feeds()) for n in names}


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
    quality = context.gate.quality(made.reference, variants, advance)
    simple = plain(recipe.techniques)
    others = [t for t in recipe.techniques if t not in simple and t.role != COMPENSATION]
    if not others or context.model.learned is not None:
        return variants, quality, sentences
    nothing = make(context, simple, recipe.precision, Stages()).graph
    first, _ = _adapted({PLAIN: nothing}, adapt)
    return {**first, **variants}, {**context.gate.quality(context.graph, first), **quality}, sentences


def _adapted(variants: Mapping[str, Graph], adapt: Adapt) -> tuple[dict[str, Graph], tuple[str, ...]]:
    found = {name: adapt(graph) for name, graph in variants.items()}
    return {name: graph for name, (graph, _) in found.items()}, next(iter(found.values()))[1]


def _unseen(model: ConvertedModel, quality: Quality) -> Iterator[str]:
    """Sentences on outputs of which no held-out sample has anything that decides."""
    for position, within in model.deciding.items():
        judged = quality.decisive[position]
        if judged.closeness.varying_db is None and quality.samples > 1:
            yield (
                f"output {judged.tensor!r} is nowhere {within} in the {quality.samples} held-out samples, so that "
                "nothing says how well that comes out: calibrate with more samples that have it"
            )


def check_free(variants: Mapping[str, Graph], sizes: Mapping[str, int]) -> None:
    """Compensation adds no op and no byte.

    Raises:
        InvariantError: it did.
    """
    if COMPENSATED not in variants:
        return
    before, after = ([op.kind for op in variants[name].ops] for name in (UNCOMPENSATED, COMPENSATED))
    if before != after or sizes[UNCOMPENSATED] != sizes[COMPENSATED]:
        raise InvariantError("the compensated file has other ops or another size than the uncompensated one")


def require_runtimes(target: TargetProfile, runtimes: BitExactness) -> None:
    """Stops a build whose result the target's runtime does not take.

    Raises:
        UnsupportedError: TFLite Micro is needed and refuses it, or LiteRT is and forgets what it needs.
    """
    if "tflm" in target.runtimes and runtimes.unavailable:
        raise UnsupportedError("the model", target.name, runtimes.unavailable, "See docs/ops.md for what it runs.")
    if runtimes.overwritten and "xnnpack" in target.runtimes:
        what = f"LiteRT writes over values that output {runtimes.overwritten[0]!r} still needs"
        raise UnsupportedError(
            "the model",
            target.name,
            what,
            "Copies do not prevent it. Programs must keep all tensors (experimental_preserve_all_tensors).",
        )


def _made(context: Context, recipe: Recipe, stages: Stages) -> tuple[Made, Recipe, Assignment | None]:
    """The integer graph, the recipe with the widths that it has, and why they are these where they were chosen."""
    if recipe.mixed is not None:
        return make_mixed(context, recipe, recipe.mixed, stages)
    return make(context, recipe.techniques, recipe.precision, stages), recipe, None


def _scores(
    evaluation: Evaluation | None, model: ConvertedModel, variants: Mapping[str, Graph], stages: Stages
) -> tuple[Mapping[str, Mapping[str, float]], int]:
    """The scores, and how many samples there were."""
    if evaluation is None:
        return {}, 0
    done, total = count(1), evaluation.samples.count
    with stages("evaluate") as advance:
        scores = evaluate(evaluation, model, variants, on_sample=lambda: advance(next(done), total))
    return scores, next(done) - 1


def sizes_of(graphs: Mapping[str, Graph]) -> dict[str, int]:
    """Bytes of each graph's file."""
    return {name: len(flatbuffer.to_bytes(graph)) for name, graph in graphs.items()}


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a file computes."""
    found = {"python": python_version()}
    for package in ("edgeqwt", "numpy", "ai-edge-litert", "tflite-micro"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an uninstalled checkout
            continue
    return found
