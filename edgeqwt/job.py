"""What every lever needs to know of a build: the model, its samples, the target; and how to lower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from edgeqwt.calibration.samples import Samples, split
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.calibration.validate import named
from edgeqwt.converted import ConvertedModel
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.interface.bind import bound as bind
from edgeqwt.interface.options import ALL, Interface
from edgeqwt.interface.split import split_outputs
from edgeqwt.progress import Advance, counted
from edgeqwt.quantize.lower import lower
from edgeqwt.quantize.scales import RULED, Scales
from edgeqwt.quantize.structure import UNSTRUCTURED, Structure
from edgeqwt.recipes.recipe import Recipe
from edgeqwt.runtime.overwritten import protected
from edgeqwt.target import TargetProfile, missing_ops
from edgeqwt.verify.binding import feed


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
class Fed:
    """Samples as real values by input tensor, to be read again and again."""

    job: Job
    samples: Samples

    def __iter__(self) -> Iterator[dict[int, Array]]:
        return self.job.feeds(self.samples)


@dataclass(frozen=True, eq=False)
class Ground:
    """What is to be lowered, and how.

    Attributes:
        graph: float, made of the job's.
        statistics: of its activations.
        recipe: with the widths as they are by now.
        scales: in place of those that the recipe's rules choose.
        kept: structure of the weights that stays.
    """

    graph: Graph
    statistics: Mapping[int, Statistics]
    recipe: Recipe
    scales: Scales = RULED
    kept: Structure = UNSTRUCTURED


def bound(model: ConvertedModel, samples: Samples, recipe: Recipe) -> tuple[ConvertedModel, Recipe]:
    """The model and the recipe with inputs and outputs as the recipe's interface asks for them.

    Raises:
        InputError: see `interface.bind.bound`.
    """
    if recipe.interface.split:
        model = split_outputs(model)
    everything = Interface({ALL: "float"}, {ALL: "float"}) if recipe.float_io else Interface()
    found = bind(model, named(samples, [b.spec.name for b in model.inputs]), recipe.interface.over(everything))
    return found.model, replace(recipe, precision=replace(recipe.precision, ports=found.ports))


def lowered(job: Job, ground: Ground) -> Graph:
    """The integer graph, weights rounded to nearest, no activation of which LiteRT overwrites before its time.

    Whatever the target: LiteRT judges every file.
    """
    lacking, lacking16 = missing_ops(job.target)
    recipe, places, name = ground.recipe, job.model.places, job.target.name
    return protected(lower(
        ground.graph, ground.statistics, recipe.ranges, recipe.precision, places, name, lacking, lacking16,
        ground.scales,
    ))  # fmt: skip


def feeds(model: ConvertedModel, graph: Graph, samples: Samples) -> Iterator[dict[int, Array]]:
    """Samples as real values by input tensor of a graph whose inputs are in the model's order."""
    return (feed(model, graph, sample) for sample in samples)


def shown(samples: Samples, advance: Advance) -> Samples:
    """The samples, with a progress bar that follows each pass over them."""
    return replace(samples, open=lambda: counted(samples.open(), advance, samples.count))
