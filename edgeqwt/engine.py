"""From a prepared float graph to an integer one, lever by lever, in the order in which they act.

Equalization changes the float graph; ranges, weight rules and a search choose scales, and with widths lower
it; rounding chooses the weights' integers, layer by layer, and learned rounding chooses them again,
together; compensation corrects what is left. What a lever needs of data it takes from the samples to
fit on; the samples held out decide what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from edgeqwt import trials
from edgeqwt.autograd.kernels import stops
from edgeqwt.calibration.observe import observe
from edgeqwt.compensate.constants import constant_ops
from edgeqwt.compensate.cwac import Outcome, compensate
from edgeqwt.converted import LearnedRanges
from edgeqwt.equalize.equalize import Equalized
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset import RULES, slots
from edgeqwt.job import Fed, Ground, Job, lowered, shown
from edgeqwt.progress import Advance, Stages
from edgeqwt.quantize.check import described
from edgeqwt.quantize.fake_quant import inserted
from edgeqwt.quantize.fake_quant import scales as learned_scales
from edgeqwt.quantize.importance import weight_importance
from edgeqwt.quantize.islands import Island
from edgeqwt.quantize.lower import assigned
from edgeqwt.quantize.ranges import MinMax
from edgeqwt.quantize.rounding import Nearest
from edgeqwt.quantize.row_weights import row_weights
from edgeqwt.quantize.scales import Scales
from edgeqwt.quantize.search import Found, NoSearch, search
from edgeqwt.quantize.search_problem import problem
from edgeqwt.quantize.structure import LayerStructure, Structure, account, structure, weight_scales
from edgeqwt.quantize.weight_scales import MinMaxWeights, ruled
from edgeqwt.recipes.recipe import Recipe
from edgeqwt.reconstruct.reconstruct import Reconstructed, reconstruct
from edgeqwt.target import missing_ops
from edgeqwt.trials import CurveChoice, JoinChoice, Widened
from edgeqwt.verify.layers import layer_quality


@dataclass(frozen=True, eq=False)
class Levers:
    """What each lever says that it did; None where the recipe has none.

    Attributes:
        islands: which islands have 16-bit activations.
        joins: whether inputs of joining ops have scales of their own; None where there was nothing to choose.
        curves: whether bounded functions are tables; None where there was nothing to choose.
        equalized: channels' factors.
        weighted: why ranges count all values alike although the recipe says otherwise; empty otherwise.
        searched: what the search for scales found.
        stopped: ops at which gradients stop, and what that affects, in sentences.
        rounded: why weights are rounded to nearest although the recipe says otherwise; empty otherwise.
        reconstructed: learned rounding.
        structure: what became of zeros and clusters that training had put into the weights, layer by layer.
    """

    islands: Widened | None = None
    joins: JoinChoice | None = None
    curves: CurveChoice | None = None
    equalized: Equalized | None = None
    weighted: str = ""
    searched: Found | None = None
    stopped: tuple[str, ...] = ()
    rounded: str = ""
    reconstructed: Reconstructed | None = None
    structure: tuple[LayerStructure, ...] = ()


@dataclass(frozen=True, eq=False)
class Made:
    """An integer graph and how it came about.

    Attributes:
        recipe: with the widths that were chosen.
        reference: the float graph that was lowered: the prepared one, equalized.
        uncompensated: the integer graph before compensation.
        outcome: what compensation did; None where the recipe has none.
        levers: what the others did.
    """

    recipe: Recipe
    reference: Graph
    uncompensated: Graph
    outcome: Outcome | None
    levers: Levers

    @property
    def graph(self) -> Graph:
        """The last integer graph."""
        return self.uncompensated if self.outcome is None else self.outcome.graph


def make(job: Job, recipe: Recipe, stages: Stages) -> Made:
    """The integer graph that a recipe makes of a float graph.

    Raises:
        UnsupportedError: an op has no integer form.
        InputError: the samples or the graph's constants cannot be used.
    """
    with stages("calibrate") as advance:
        statistics, _ = observe(job.graph, job.feeds(shown(job.fit, advance)))
    learned = job.model.learned
    kept = structure(job.graph, frozenset(recipe.preserve))
    scales = _clustered(job.graph, recipe, kept) if learned is None else learned_scales(job.graph, learned)
    ground = Ground(job.graph, statistics, recipe, scales, kept)
    if kept.clusters:  # factors of inputs, and scales searched weight by weight, would take them apart
        recipe = replace(recipe, equalization=None, search=NoSearch())
        ground = replace(ground, recipe=recipe)
    wide: tuple[Island, ...] = ()
    islands = equalized = joins = curves = None
    if recipe.islands is not None:
        with stages("widen"):
            ground, wide, islands = trials.wide_islands(job, ground, recipe.islands)
    if recipe.joins is not None:
        with stages("join"):
            ground, joins = trials.finer_joins(job, ground, recipe.joins)
    if recipe.curves is not None:
        with stages("curves"):
            ground, curves = trials.finer_curves(job, ground, recipe.curves)
    if recipe.equalization is not None:
        with stages("equalize"):
            ground, equalized = trials.equalized(job, ground, wide, recipe.equalization)
    weighted = ""
    if recipe.weighting is not None:
        with stages("weigh ranges"):
            ground, weighted = trials.weighted_ranges(job, ground, recipe.weighting)
    if recipe.islands is not None and wide:
        with stages("widen"):
            ground, islands = trials.worthwhile_islands(job, ground, recipe.islands)
        if not any(role.wide for role in islands.roles):
            # What was done for their sake must go as well.
            made = make(job, replace(recipe, islands=None), stages)
            return replace(made, levers=replace(made.levers, islands=islands))
    return _rounded(job, ground, stages, Levers(islands, joins, curves, equalized, weighted))


def _rounded(job: Job, ground: Ground, stages: Stages, levers: Levers) -> Made:
    """What follows once the float graph and the widths stand: scales, rounding, compensation."""
    recipe, reference, statistics = ground.recipe, ground.graph, ground.statistics
    levers = replace(levers, stopped=_stopped(reference, recipe, job.model.places))
    if job.model.learned is not None:
        return _as_trained(job, ground, job.model.learned, stages)
    if not isinstance(recipe.weights, MinMaxWeights):
        with stages("choose weight scales"):
            importance = weight_importance(reference, job.feeds(job.fit))
            ruled_scales = Scales(weights=ruled(reference, recipe.precision, recipe.weights, importance))
            ground = replace(ground, scales=ground.scales.over(ruled_scales))
    if not isinstance(recipe.search, NoSearch):
        with stages("search scales"):
            found = _searched(job, ground)
            ground = replace(ground, scales=found.scales.over(ground.scales))
            levers = replace(levers, searched=found)
    with stages("quantize"):
        plain = lowered(job, ground)
    rounds = not isinstance(recipe.rounding, Nearest)
    scaled = [reference.ops[i].outputs[0] for i in constant_ops(reference)] if recipe.compensate else []
    felt = row_weights(reference, trials.ends(reference), scaled) if rounds or recipe.compensate else None
    if rounds:
        with stages("round") as advance:
            plain, why = trials.rounded(job, ground, plain, recipe.rounding, felt, advance)
            levers = replace(levers, rounded=why)
    if recipe.reconstruction is not None:
        with stages("learn rounding") as advance:
            data = job.feeds(job.samples)
            learned = reconstruct(plain, reference, data, recipe.reconstruction, recipe.precision, advance, ground.kept)
            plain, levers = learned.graph, replace(levers, reconstructed=learned)
    outcome = None
    if recipe.compensate:
        with stages("compensate") as advance:
            data = job.feeds(job.samples)
            options = recipe.compensation
            outcome = compensate(plain, reference, data, statistics, recipe.ranges, options, advance, felt)
    made = Made(recipe, reference, plain, outcome, levers)
    rows = account(job.graph, made.graph, ground.kept)
    return replace(made, levers=replace(levers, structure=rows))


def _clustered(graph: Graph, recipe: Recipe, kept: Structure) -> Scales:
    """The scales at which clustered weights stay clustered."""
    found = {}
    for op in graph.ops:
        if op.kind in RULES and RULES[op.kind].linear:
            name = graph.tensors[slots(op).output].name
            scale = weight_scales(kept, name, recipe.precision.of(name).weights)
            if scale is not None:
                found[slots(op).weight] = scale
    return Scales(weights=found)


def _as_trained(job: Job, ground: Ground, learned: LearnedRanges, stages: Stages) -> Made:
    """A network that was trained with quantization, at the scales that it was trained with.

    What lowering changes all the same (int32 biases, ranges that several tensors share, tables) is compensated,
    against the network that rounds as it was trained.
    """
    reference = inserted(ground.graph, learned)
    with stages("quantize"):
        plain = lowered(job, ground)
    outcome = None
    if ground.recipe.compensate:
        with stages("compensate") as advance:
            options = replace(ground.recipe.compensation, rewrite_scales=False)
            data = job.feeds(job.samples)
            outcome = compensate(plain, reference, data, ground.statistics, ground.recipe.ranges, options, advance)
    made = Made(ground.recipe, reference, plain, outcome, Levers())
    return replace(made, levers=Levers(structure=account(job.graph, made.graph, ground.kept)))


def _stopped(graph: Graph, recipe: Recipe, places: Mapping[str, str]) -> tuple[str, ...]:
    """Where gradients stop on their way from the outputs, and what counts as if the outputs did not depend on it."""
    parts = {
        "equalization": recipe.equalization is not None,
        "weighted ranges": recipe.weighting is not None,
        "token weights": recipe.compensate or not isinstance(recipe.rounding, Nearest),
    }
    used = ", ".join(name for name, is_used in parts.items() if is_used)
    if not used:
        return ()
    return tuple(
        f"{described(graph, i, places)} has no gradient: for {used}, the outputs do not depend on {count} "
        f"activation{'s' if count > 1 else ''} before it"
        for i, count in stops(graph, trials.ends(graph)).items()
    )


def _searched(job: Job, ground: Ground) -> Found:
    """What the recipe's search finds, starting from the rules' scales."""
    recipe = ground.recipe

    def at(found: Scales) -> Graph:
        return lowered(job, replace(ground, scales=found.over(ground.scales)))

    lacking16 = missing_ops(job.target)[1]
    assignment = assigned(ground.graph, ground.statistics, recipe.ranges, recipe.precision, lacking16, ground.scales)
    fit, held_out = (Fed(job, samples) for samples in (job.fit, job.held_out))
    given = problem(ground.graph, ground.statistics, recipe.precision, at, assignment, fit, held_out)
    return search(recipe.search, given)


LEVERS: Mapping[str, Callable[[Recipe], Recipe]] = MappingProxyType(
    {
        "islands": lambda recipe: replace(recipe, islands=None),
        "joins": lambda recipe: replace(recipe, joins=None),
        "curves": lambda recipe: replace(recipe, curves=None),
        "equalization": lambda recipe: replace(recipe, equalization=None),
        "ranges": lambda recipe: replace(recipe, ranges=MinMax()),
        "weighted ranges": lambda recipe: replace(recipe, weighting=None),
        "weight scales": lambda recipe: replace(recipe, weights=MinMaxWeights()),
        "search": lambda recipe: replace(recipe, search=NoSearch()),
        "rounding": lambda recipe: replace(recipe, rounding=Nearest()),
        "learned rounding": lambda recipe: replace(recipe, reconstruction=None),
        "compensation": lambda recipe: replace(recipe, compensate=False),
    }
)
"""Each lever's name, and the recipe without it."""


def as_trained(recipe: Recipe) -> Recipe:
    """The recipe for a network that was trained with quantization: scales and weights stay, CWAC repairs."""
    return replace(bare(recipe), compensate=recipe.compensate, leave_one_out=0)


def bare(recipe: Recipe) -> Recipe:
    """The recipe with no lever but its ranges: plain post-training quantization."""
    unsearched = replace(recipe, weights=MinMaxWeights(), search=NoSearch(), weighting=None, islands=None, joins=None)
    return replace(
        unsearched, curves=None, equalization=None, rounding=Nearest(), reconstruction=None, compensate=False
    )


@dataclass(frozen=True)
class Gain:
    """What one lever gains.

    Attributes:
        lever: its name.
        without_db: SQNR at the outputs, before a softmax, of a build without it.
        gain_db: how much more it is with it.
    """

    lever: str
    without_db: float
    gain_db: float


def leave_one_out(job: Job, recipe: Recipe, samples: int, advance: Advance) -> tuple[Gain, ...]:
    """What each lever of the recipe gains, by leaving out one at a time.

    All builds are without learned rounding, which takes minutes each time; the build itself measures what that gains.

    Args:
        job: the graph and its samples.
        recipe: as the build used it.
        samples: the first so many calibration samples are fitted on and judged by, in all builds alike.
        advance: told how many builds are done.
    """
    small = replace(job, samples=job.samples.head(samples))
    recipe = replace(recipe, reconstruction=None)
    used = {name: without(recipe) for name, without in LEVERS.items() if without(recipe) != recipe}
    found: dict[str, float] = {}
    for name, variant in {"": recipe, **used}.items():
        made = make(small, variant, Stages())
        found[name] = layer_quality(made.reference, {"": made.graph}, job.feeds(job.held_out))[""].worst_db
        advance(len(found), len(used) + 1)
    return tuple(Gain(name, found[name], found[""] - found[name]) for name in used)
