"""From a converted model to a float graph in canonical form that is proved to compute what the source does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.calibration.samples import Samples
from edgeqwt.calibration.validate import named, validated
from edgeqwt.converted import ConvertedModel
from edgeqwt.errors import ParityError
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import runs
from edgeqwt.interface.bind import bound as bind
from edgeqwt.interface.bind import deciding
from edgeqwt.interface.input_normalization import prepared as with_folded_inputs
from edgeqwt.interface.options import ALL, Interface
from edgeqwt.interface.split import split_outputs
from edgeqwt.prepare import masks
from edgeqwt.prepare.joins import in_trees
from edgeqwt.prepare.prepare import Prepared, sentence
from edgeqwt.profile import TargetProfile
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.verify.feeds import feeds
from edgeqwt.verify.parity import Parity, check_parity

PARITY_WORK = 1 << 34
"""Multiplications of the float graph that are worth holding against its source, which takes as many runs again, and
those with moved weights. One sample of a network that large has millions of values that would show what is wrong."""
LEAST_PARITY = 4  # samples, of those that are asked for
STATE_SAMPLES = 64
"""Samples that are run to see states come out."""
UNLIKE = 2.0
"""How many times larger a state may come out than samples have it, before a sentence says so."""


@dataclass(frozen=True, eq=False)
class Proved:
    """A converted model that computes what its source does.

    Attributes:
        source: the graph as it was converted.
        prepared: in canonical form, and what was rewritten in it.
        parity: that graph against the source model.
    """

    source: Graph
    prepared: Prepared
    parity: Parity


def bound(model: ConvertedModel, samples: Samples, recipe: Recipe) -> tuple[ConvertedModel, Recipe]:
    """The model and the recipe with inputs and outputs as the recipe's interface asks for them.

    Raises:
        InputError: see `interface.bind.bound` and `interface.bind.deciding`.
    """
    if recipe.interface.split:
        model = split_outputs(model)
    everything = Interface({ALL: "float"}, {ALL: "float"}) if recipe.float_io else Interface()
    found = bind(model, named(samples, [b.spec.name for b in model.inputs]), recipe.interface.over(everything))
    widths = replace(recipe.precision, ports=found.ports)
    return deciding(found.model, recipe.outputs), replace(recipe, precision=widths)


def prove(model: ConvertedModel, samples: Samples, recipe: Recipe, target: TargetProfile, stages: Stages) -> Proved:
    """Prepares a converted model and holds it against its source, on real samples.

    Args:
        model: from a converter.
        samples: calibration samples in the source model's layout.
        recipe: says how many of them.
        target: see `for_target`.
        stages: shows and times the steps.

    Raises:
        ParityError: it computes something else.
        InputError: the samples do not fit the model.
        ToolError: LiteRT refuses the graph.
    """
    samples = validated(samples, [binding.spec for binding in model.inputs])
    few = samples.head(parity_count(model.graph, recipe.verify.parity_samples))
    with stages("prepare"):
        prepared = for_target(with_folded_inputs(model, recipe.precision.ports), target)
    with stages("check parity"):
        try:
            parity = check_parity(model, prepared.graph, few)
        except ParityError:
            # The one rewrite that is right only where samples do not show otherwise is that of masks.
            tried = next(_with_right_masks(model, prepared, few, recipe, target), None)
            if tried is None:
                raise
            prepared, parity = tried
    return Proved(model.graph, prepared, parity)


def parity_count(graph: Graph, wanted: int) -> int:
    """How many samples a graph is held against its source on: fewer than wanted of networks that take long for each."""
    return min(wanted, runs(graph, PARITY_WORK, LEAST_PARITY))


def _with_right_masks(
    model: ConvertedModel, prepared: Prepared, few: Samples, recipe: Recipe, target: TargetProfile
) -> Iterator[tuple[Prepared, Parity]]:
    """Float graphs whose masks hide more, or whole rows, that compute what the source does."""
    for hidden in masks.DEEPER:
        graph, names = masks.deepened(prepared.graph, hidden)
        if names:
            done = sentence(f"Masks hide scores by {-hidden:g}, as some lie far above those that are visible", names)
            with suppress(ParityError):
                yield Prepared(graph, (*prepared.changes, done)), check_parity(model, graph, few)
    graph, names = masks.chosen(model.graph)
    if names:
        found = for_target(with_folded_inputs(replace(model, graph=graph), recipe.precision.ports), target)
        done = sentence("Masks that hide whole rows choose scores instead of being added to them", names)
        yield replace(found, changes=(done, *found.changes)), check_parity(model, found.graph, few)


def for_target(prepared: Prepared, target: TargetProfile) -> Prepared:
    """The float graph with what a target takes only in another form in that form, where that changes no value."""
    most = target.limits.get("joined_inputs")
    if not isinstance(most, int):
        return prepared
    graph, names = in_trees(prepared.graph, most)
    messages = (sentence(f"CONCATENATION of more than {most} tensors became a tree of them", names),) if names else ()
    return Prepared(graph, (*prepared.changes, *messages))


def unlike_states(model: ConvertedModel, graph: Graph, samples: Samples) -> Iterator[str]:
    """Sentences on states that the calibration samples do not show as they come out of the model.

    What lies behind them is calibrated with what the samples say, and clips what is fed back.
    """
    pairs = graph.state_tensors()
    if not pairs:
        return
    runner = xnnpack(graph)
    reach = {t: 0.0 for pair in pairs for t in pair}
    for feed in feeds(model, graph, samples.head(STATE_SAMPLES)):
        values = {**feed, **runner.run(feed)}
        reach |= {t: max(reach[t], float(np.abs(values[t]).max(initial=0.0))) for t in reach}
    for before, after in pairs:
        if reach[after] > UNLIKE * reach[before]:
            yield (
                f"state {graph.tensors[before].name!r} reaches {reach[before]:.3g} in the calibration samples, and "
                f"{reach[after]:.3g} where it comes out: calibrate with states as they are when they are fed back"
            )
