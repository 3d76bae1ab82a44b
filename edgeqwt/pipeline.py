"""The way of the data: from a float graph and samples to a proved integer graph, as one function of named steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from platform import python_version

from edgeqwt.calibration.observations import Observations
from edgeqwt.calibration.samples import Samples, split
from edgeqwt.compensation.cwac import Outcome
from edgeqwt.converted import ConvertedModel
from edgeqwt.errors import InvariantError, UnsupportedError
from edgeqwt.extras import versions_of
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.joined import joined
from edgeqwt.graph.linear import runs, work
from edgeqwt.grouped import Group, Grouping, Groups, grouped
from edgeqwt.job import Job, begun
from edgeqwt.judgement import COMPENSATED, UNCOMPENSATED, Adapt, Judgement, as_it_is, judge
from edgeqwt.mixed.build import Assignment, make_mixed
from edgeqwt.mixed.cost import as_run, stored
from edgeqwt.notebook_display import Tabular
from edgeqwt.passes.context import Context
from edgeqwt.passes.limits import LIMITED, UNLIMITED, Limits
from edgeqwt.passes.run import Gain, Made, leave_one_out, make
from edgeqwt.passes.unfinished import NOWHERE, Unfinished
from edgeqwt.prepare.prepare import Prepared
from edgeqwt.profile import Finding, TargetProfile
from edgeqwt.progress import Advance, LayerCost, Stages
from edgeqwt.proved import Proved
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.rounding.structure import compressed
from edgeqwt.runtime.parallel import THREADS
from edgeqwt.runtime.qualcomm import Compiled
from edgeqwt.runtime.signatures import require_same
from edgeqwt.verify.bitexact import BitExactness, compare_runtimes
from edgeqwt.verify.evaluate import Evaluation, evaluate
from edgeqwt.verify.feeds import feeds
from edgeqwt.verify.overwrites import without_overwrites
from edgeqwt.verify.parity import Parity

FLOAT = "float"
"""The name of the float graph that was lowered, beside those of the variants (`judgement.py`)."""

PROOF_WORK = 1 << 29
"""Multiplications that kernels written for clarity do in the proof, all samples together: a second of each. One
sample of a network that large has millions of values to be held against each other."""
SHARED_WORK = 1 << 29
"""Multiplications of the proof from which on threads share it: half a second of reference kernels."""


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


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BuildResult(Judgement, Tabular):
    """Everything that a build made and measured; the report is written from it.

    What held-out samples say of it are the attributes of `Judgement`; its `variants` are the graphs as they are stored,
    its `warnings` begin with what of the calibration samples speaks against deciding by them.

    Attributes:
        sources: what the user named.
        model: what the converter handed over.
        recipe: what was done, with the widths that were chosen.
        target: what the model was built for.
        samples: how many calibration samples there were.
        prepared: the float graph in canonical form, and what was rewritten in it.
        parity: float graph against source model.
        made: the integer graph that the recipe's techniques made, and what each did.
        assignment: which widths were chosen, and why; None where the recipe has them.
        gains: what each technique gains, by leave-one-out; empty where the recipe does not ask for it.
        runtimes: LiteRT's reference kernels against TFLite Micro and XNNPACK.
        scores: variant -> metric -> value on the evaluation data; empty without any.
        evaluated: how many evaluation samples there were.
        sizes: variant -> bytes of its file.
        compressed: variant -> bytes of its file after DEFLATE; empty where its weights have no structure.
        seconds: wall-clock time of each stage.
        versions: of Python and of every package that took part.
        findings: what the target takes at a price; filled in by the API, as targets are above this layer.
        notes: sentences on the package that the user must see; likewise.
        package: the files of the package, relative to its folder; likewise.
        placed: what a vendor's compiler made of the file for its NPU; filled in by the API; None where none was asked.
        peaks: MiB of memory that the process had taken at most by the end of each stage.
        layer_costs: what each layer took in the stages that go from one layer to the next, by its output's name.
        limits: of its time and memory, as the user gave them.
        groups: scales per group of samples; None where the user asks for none.
    """

    sources: Sources
    model: ConvertedModel
    recipe: Recipe
    target: TargetProfile
    samples: int
    prepared: Prepared
    parity: Parity
    made: Made
    assignment: Assignment | None
    gains: tuple[Gain, ...]
    runtimes: BitExactness
    scores: Mapping[str, Mapping[str, float]]
    evaluated: int
    sizes: Mapping[str, int]
    compressed: Mapping[str, int]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    package: tuple[str, ...] = ()
    placed: Compiled | None = None
    peaks: Mapping[str, int] = field(default_factory=dict)
    layer_costs: Mapping[str, Mapping[str, LayerCost]] = field(default_factory=dict)
    limits: Limits = UNLIMITED
    groups: Groups | None = None

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
        """The .tflite file: of the integer graph that was kept, or of those of its groups."""
        return flatbuffer.to_bytes(self.file)

    def save(self, path: str | Path) -> None:
        """Writes the .tflite file; `build(..., output=folder)` writes the report and the target's package as well.

        Raises:
            InputError: the file cannot be written.
        """
        flatbuffer.write(self.file, Path(path))

    @property
    def file(self) -> Graph:
        """What the file holds: the integer graph that was kept, or a signature for each of the groups."""
        return joined(self.groups.graphs) if self.groups is not None and self.groups.found else self.graph

    @property
    def graph(self) -> Graph:
        """The integer graph that was kept; with groups the one of all samples."""
        return self.variants[self.choice.name]

    @property
    def uncompensated(self) -> Graph:
        """The integer graph before compensation."""
        return self.variants[UNCOMPENSATED]

    @property
    def limited(self) -> Mapping[str, str]:
        """The techniques that did less than the recipe asks, for a limit of time or memory, and why."""
        return {s.technique.name: s.account.data[LIMITED] for s in self.made.steps if LIMITED in s.account.data}

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
    observations: Observations | None = None,
    limits: Limits = UNLIMITED,
    grouping: Grouping | None = None,
    unfinished: Unfinished = NOWHERE,
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
        observations: what was observed of this model on these samples before, see `Job.observations`.
        limits: of time and memory.
        grouping: what selects scales of groups of samples, or None.
        unfinished: keeps what techniques have made; a build of the same goes on from there.

    Raises:
        EdgeqwtError: see `edgeqwt.errors`; ParityError, QualityError and UnsupportedError are the usual ones.
    """
    job = begun(model, samples, recipe, target, stages, proved, observations)
    limits.require("conversion and preparation")
    model, context, graph = job.model, replace(job.context, limits=limits), job.prepared.graph
    made, recipe, assignment = _made(replace(context, unfinished=unfinished), job.recipe, stages)

    def written(found: Graph) -> tuple[Graph, tuple[str, ...]]:
        return as_run(*adapt(found), recipe, target)

    judgement = judge(context, job.samples, made, recipe, stages, written, job.warnings)
    gains = _gains(job, recipe) if limits.spare() else ()
    variants = {name: stored(variant, recipe, target) for name, variant in judgement.variants.items()}
    with stages("prove") as advance:
        proof = partial(_proof, context=context, recipe=recipe, advance=advance)
        variants, runtimes, copied = without_overwrites(variants, judgement.choice.name, proof)
        require_runtimes(target, runtimes)
    groups = None
    if grouping is not None:
        found = grouped(job, made, judgement, grouping, stages, written)
        groups = _proved_groups(found, variants[judgement.choice.name], job, recipe, stages)
    named = {FLOAT: graph, **variants}
    sizes = sizes_of(named)
    small = {name: compressed(flatbuffer.to_bytes(g)) for name, g in named.items()} if made.structure else {}
    check_free(variants, sizes)
    scores, evaluated = _scores(evaluation, model, named, stages)
    judged = replace(judgement, variants=variants, adapted=(*judgement.adapted, *copied))
    return BuildResult(
        **vars(judged),
        sources=_sources(source, job, evaluation),
        model=model,
        recipe=recipe,
        target=target,
        samples=job.total,
        prepared=job.prepared,
        parity=job.parity,
        made=made,
        assignment=assignment,
        gains=gains,
        runtimes=runtimes,
        scores=scores,
        evaluated=evaluated,
        sizes=sizes,
        compressed=small,
        seconds=stages.seconds,
        peaks=stages.peaks,
        layer_costs=stages.layers,
        limits=limits,
        groups=groups,
        versions={**versions(), **model.versions},
    )


def _sources(model: str, job: Job, evaluation: Evaluation | None) -> Sources:
    data = (None, None) if evaluation is None else (evaluation.samples.origin, evaluation.name)
    return Sources(model, job.samples.origin, *data)


def _gains(job: Job, recipe: Recipe) -> tuple[Gain, ...]:
    """What each technique gains, by leave-one-out, where the recipe asks for it."""
    if not recipe.leave_one_out or job.model.learned is not None:
        return ()
    graph, few, whole = job.prepared.graph, job.samples.head(recipe.leave_one_out), job.context
    with job.stages("leave one out") as advance:
        small = Context.of(job.model, graph, few, job.target, recipe.preserve, whole.ranges)
        return leave_one_out(whole, small, recipe.techniques, recipe.precision, advance)


def _proved_groups(groups: Groups, kept: Graph, job: Job, recipe: Recipe, stages: Stages) -> Groups:
    """The groups as they are stored, each proved as the file of one set of scales is, and then all in one file.

    Args:
        groups: as they were judged.
        kept: the graph of one set of scales, as it is stored and proved.
        job: of the build.
        recipe: with the widths that were chosen.
        stages: shows and times the step.

    Raises:
        UnsupportedError: see `require_runtimes`.
        InvariantError: a signature of the file computes other values than its graph alone.
    """

    def proofs(group: Group, graph: Graph) -> Samples:
        return split(group.samples)[1].head(proof_count(graph, recipe.verify.runtime_samples))

    def proved_group(group: Group) -> Group:
        graph = stored(group.graph, recipe, job.target) if group.own else kept
        chosen, runtimes, _ = without_overwrites(
            {group.key: graph}, group.key, lambda g: compare_runtimes(g, feeds(job.model, g, proofs(group, g)))
        )
        require_runtimes(job.target, runtimes)
        return replace(group, graph=chosen[group.key] if group.own else kept, runtimes=runtimes)

    with stages("prove groups"):
        groups = replace(groups, found=tuple(map(proved_group, groups.found)))
        if groups.found:
            samples = {g.key: feeds(job.model, g.graph, proofs(g, g.graph)) for g in groups.found}
            require_same(joined(groups.graphs), groups.graphs, samples)
    return groups


def _proof(graph: Graph, context: Context, recipe: Recipe, advance: Advance) -> BitExactness:
    """The runtimes on a graph, compared on the first held-out samples."""
    count = proof_count(graph, recipe.verify.runtime_samples)
    samples = context.gate.proof_samples(count).shown(advance)
    return compare_runtimes(graph, feeds(context.model, graph, samples), proof_threads(graph, count))


def proof_count(graph: Graph, wanted: int) -> int:
    """How many samples the runtimes are compared on: fewer than wanted of networks that take seconds for each."""
    return min(wanted, runs(graph, PROOF_WORK))


def proof_threads(graph: Graph, count: int) -> int:
    """How many threads run so many samples of the proof: another's process takes a while to start."""
    return min(THREADS, count) if work(graph) * count >= SHARED_WORK else 1


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
    return {"python": python_version(), **versions_of("edgeqwt", "numpy", "ai-edge-litert", "tflite-micro")}
