"""From a prepared float graph to an integer one, lever by lever, in the order in which they act.

Equalization changes the float graph; ranges, weight rules and a search choose scales, and with widths lower
it; rounding chooses the weights' integers, layer by layer, and learned rounding chooses them again,
together; compensation corrects what is left. What a lever needs of data it takes from the samples to
fit on; the samples held out decide what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.samples import Samples, split
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.compensate.cwac import Outcome, compensate
from edgeqwt.converted import ConvertedModel
from edgeqwt.equalize.equalize import Equalization, Equalized, equalize
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.progress import Advance, Stages, counted
from edgeqwt.quantize.importance import weight_importance
from edgeqwt.quantize.lower import assigned, lower
from edgeqwt.quantize.ranges import MinMax
from edgeqwt.quantize.reround import reround
from edgeqwt.quantize.rounding import Nearest
from edgeqwt.quantize.scales import RULED, Scales
from edgeqwt.quantize.search import Found, NoSearch, search
from edgeqwt.quantize.search_problem import problem
from edgeqwt.quantize.weight_scales import MinMaxWeights, ruled
from edgeqwt.recipes.recipe import Recipe
from edgeqwt.reconstruct.reconstruct import Reconstructed, reconstruct
from edgeqwt.target import TargetProfile
from edgeqwt.verify.binding import feed
from edgeqwt.verify.layers import layer_quality

EQUALIZATION_LOSS_DB = 1.5  # more than one unusual sample among few held out makes of it


@dataclass(frozen=True, eq=False)
class Job:
    """What every step needs to know.

    Attributes:
        model: what the converter handed over.
        graph: the prepared float graph.
        samples: all calibration samples, validated.
        target: what must be able to run the result.
    """

    model: ConvertedModel
    graph: Graph
    samples: Samples
    target: TargetProfile

    @property
    def fit(self) -> Samples:
        """The samples to fit on."""
        return split(self.samples)[0]

    @property
    def held_out(self) -> Samples:
        """The samples to judge by."""
        return split(self.samples)[1]

    def feeds(self, samples: Samples) -> Iterator[dict[int, Array]]:
        """Samples as real values by input tensor; the same for every float graph made of `graph`."""
        return feeds(self.model, self.graph, samples)


@dataclass(frozen=True, eq=False)
class Made:
    """An integer graph and how it came about.

    Attributes:
        reference: the float graph that was lowered: the prepared one, equalized.
        uncompensated: the integer graph before compensation.
        outcome: what compensation did; None where the recipe has none.
        equalized: what equalization did; None where the recipe has none.
        searched: what the search for scales found; None where the recipe has none.
        reconstructed: what learned rounding did; None where the recipe has none.
    """

    reference: Graph
    uncompensated: Graph
    outcome: Outcome | None
    equalized: Equalized | None
    searched: Found | None
    reconstructed: Reconstructed | None

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
    equalized, reference = None, job.graph
    if recipe.equalization is not None:
        with stages("equalize"):
            equalized = _equalized(job, recipe, recipe.equalization, statistics)
            reference = equalized.graph
            if not equalized.skipped:
                statistics, _ = observe(reference, job.feeds(job.fit))
    scales = RULED
    if not isinstance(recipe.weights, MinMaxWeights):
        with stages("choose weight scales"):
            importance = weight_importance(reference, job.feeds(job.fit))
            scales = Scales(weights=ruled(reference, recipe.precision, recipe.weights, importance))
    searched = None
    if not isinstance(recipe.search, NoSearch):
        with stages("search scales"):
            searched = _searched(job, reference, statistics, recipe, scales)
            scales = searched.scales.over(scales)
    with stages("quantize"):
        plain = _lowered(job, reference, statistics, recipe, scales)
    if not isinstance(recipe.rounding, Nearest):
        with stages("round") as advance:
            plain = reround(plain, reference, job.feeds(job.fit), recipe.rounding, recipe.precision, advance)
    reconstructed = None
    if recipe.reconstruction is not None:
        with stages("learn rounding") as advance:
            data = job.feeds(job.samples)
            reconstructed = reconstruct(plain, reference, data, recipe.reconstruction, recipe.precision, advance)
            plain = reconstructed.graph
    outcome = None
    if recipe.compensate:
        with stages("compensate") as advance:
            data = job.feeds(job.samples)
            outcome = compensate(plain, reference, data, statistics, recipe.ranges, recipe.compensation, advance)
    return Made(reference, plain, outcome, equalized, searched, reconstructed)


def _equalized(job: Job, recipe: Recipe, options: Equalization, statistics: Mapping[int, Statistics]) -> Equalized:
    """The equalized graph, unless it clearly loses when both are lowered and no other lever acts.

    The levers that follow gain from it even where it makes no difference yet.
    """
    found = equalize(job.graph, Fed(job, job.fit), statistics, options, recipe.precision)
    if found.skipped:
        return found
    again, _ = observe(found.graph, job.feeds(job.fit))
    lowered = {
        "without": _lowered(job, job.graph, statistics, recipe),
        "with": _lowered(job, found.graph, again, recipe),
    }
    quality = layer_quality(job.graph, lowered, job.feeds(job.held_out))
    before, after = (quality[name].worst_db for name in lowered)
    if after >= before - EQUALIZATION_LOSS_DB:  # false for nan
        return found
    told = f"it does not help: {before:.2f} dB without it, {after:.2f} dB with it, on held-out samples"
    return Equalized(job.graph, skipped=told)


def _searched(
    job: Job, reference: Graph, statistics: Mapping[int, Statistics], recipe: Recipe, scales: Scales
) -> Found:
    """What the recipe's search finds, starting from the rules' scales."""

    def lowered(found: Scales) -> Graph:
        return _lowered(job, reference, statistics, recipe, found.over(scales))

    lacking16 = missing_ops(job.target)[1]
    assignment = assigned(reference, statistics, recipe.ranges, recipe.precision, lacking16, scales)
    fit, held_out = (Fed(job, samples) for samples in (job.fit, job.held_out))
    given = problem(reference, statistics, recipe.precision, lowered, assignment, fit, held_out)
    return search(recipe.search, given)


def _lowered(
    job: Job, reference: Graph, statistics: Mapping[int, Statistics], recipe: Recipe, scales: Scales = RULED
) -> Graph:
    lacking, lacking16 = missing_ops(job.target)
    places, name = job.model.places, job.target.name
    return lower(reference, statistics, recipe.ranges, recipe.precision, places, name, lacking, lacking16, scales)


@dataclass(frozen=True, eq=False)
class Fed:
    """Samples as real values by input tensor, to be read again and again."""

    job: Job
    samples: Samples

    def __iter__(self) -> Iterator[dict[int, Array]]:
        return self.job.feeds(self.samples)


def missing_ops(target: TargetProfile) -> tuple[frozenset[str], frozenset[str]]:
    """Kinds of ops that the target's runtime lacks with 8-bit and with 16-bit activations."""
    if "tflm" not in target.runtimes:
        return frozenset(), frozenset()
    return tuple(frozenset(kind for kind, row in rows.items() if not row.tflm) for rows in (RULES, RULES16))  # type: ignore[return-value]


def feeds(model: ConvertedModel, graph: Graph, samples: Samples) -> Iterator[dict[int, Array]]:
    """Samples as real values by input tensor of a graph whose inputs are in the model's order."""
    return (feed(model, graph, sample) for sample in samples)


def shown(samples: Samples, advance: Advance) -> Samples:
    """The samples, with a progress bar that follows each pass over them."""
    return replace(samples, open=lambda: counted(samples.open(), advance, samples.count))


LEVERS: Mapping[str, Callable[[Recipe], Recipe]] = MappingProxyType(
    {
        "equalization": lambda recipe: replace(recipe, equalization=None),
        "ranges": lambda recipe: replace(recipe, ranges=MinMax()),
        "weight scales": lambda recipe: replace(recipe, weights=MinMaxWeights()),
        "search": lambda recipe: replace(recipe, search=NoSearch()),
        "rounding": lambda recipe: replace(recipe, rounding=Nearest()),
        "learned rounding": lambda recipe: replace(recipe, reconstruction=None),
        "compensation": lambda recipe: replace(recipe, compensate=False),
    }
)
"""Each lever's name, and the recipe without it."""


def bare(recipe: Recipe) -> Recipe:
    """The recipe with no lever but its ranges: plain post-training quantization."""
    unsearched = replace(recipe, weights=MinMaxWeights(), search=NoSearch())
    return replace(unsearched, equalization=None, rounding=Nearest(), reconstruction=None, compensate=False)


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
