"""A build up to its techniques: a proved, observed float graph, which goes through them one by one.

`pipeline.build` begins with the same `begun`, and its loop (`passes.run.make`) calls the same functions as `Job` does;
a program that calls `Job` step by step gets the integers that a build makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeqwt.calibration.observations import Observations
from edgeqwt.calibration.sample_warnings import sample_warnings
from edgeqwt.calibration.samples import Samples, split
from edgeqwt.calibration.shards import LOCAL, observe_in_shards
from edgeqwt.calibration.validate import validated
from edgeqwt.converted import ConvertedModel
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.interface.columns import column_warnings
from edgeqwt.interface.scaled_twice import scaled_twice
from edgeqwt.mixed.cost import stored
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import apply, lowered_for, start, suited
from edgeqwt.passes.state import Account, State
from edgeqwt.passes.technique import Technique, Techniques, plain
from edgeqwt.prepare.prepare import Prepared
from edgeqwt.profile import TargetProfile
from edgeqwt.progress import Stages
from edgeqwt.proved import Proved, prove, unlike_states
from edgeqwt.recipe.layers import Resolved, resolved
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.verify.feeds import feeds
from edgeqwt.verify.first_layer import scale_warnings
from edgeqwt.verify.parity import Parity


@dataclass(frozen=True, eq=False)
class Job:
    """A model on its way from float to integers, between two techniques.

    Attributes:
        model: what the converter handed over.
        samples: calibration samples, validated.
        total: how many of them there are.
        recipe: what to do, with widths by the tensors of this graph.
        target: what must be able to run the result.
        prepared: the float graph in canonical form, and what was rewritten in it.
        parity: that graph against the source model.
        context: what techniques may ask for, the gate with the held-out samples included.
        warnings: what of the samples speaks against deciding by them.
        stages: shows and times the steps.
    """

    model: ConvertedModel
    samples: Samples
    total: int
    recipe: Recipe
    target: TargetProfile
    prepared: Prepared
    parity: Parity
    context: Context = field(repr=False)
    warnings: tuple[str, ...]
    stages: Stages = field(repr=False)

    def __repr__(self) -> str:
        """A line: what is to be done to what."""
        names = ", ".join(technique.name for technique in self.techniques)
        return f"Job({len(self.prepared.graph.ops)} float ops for {self.target.name}: {names})"

    def start(self) -> State:
        """The model before any technique: the prepared float graph, observed on the samples to fit on."""
        with self.stages("calibrate") as advance:
            return start(self.context.showing(advance), self.recipe.precision)

    def observations(self, shards: int = 1, on: str = LOCAL) -> Observations:
        """What was observed of the prepared float graph; `save` it for a later build on the same samples.

        Args:
            shards: parts of the samples that processes observe side by side; what is observed does not depend on it.
            on: "local", "ray" or the address of a Ray cluster, as for sweeps.

        Raises:
            InputError: there are fewer samples to fit on than shards.
            ToolError: there is no cluster, or it lost a shard.
        """
        graph, fit, deciding = self.context.graph, self.context.fit, self.model.deciding
        if shards == 1 and on == LOCAL:
            statistics = self.start().statistics
        else:
            size = sum(1 for _ in fit.samples) if fit.samples.count is None else fit.samples.count
            with self.stages("calibrate"):
                statistics = observe_in_shards(graph, fit, size, shards, deciding, on)
        return Observations.of(graph, fit.samples, deciding, statistics)

    @property
    def techniques(self) -> Techniques:
        """The recipe's techniques in their order, but for those that do not suit a model trained with quantization."""
        return suited(self.recipe.techniques, self.context, self.recipe.precision)

    def apply(self, technique: Technique, state: State) -> tuple[State, Account]:
        """The model after a technique, and what that did; the same state where it did not help.

        Where the account's `withdraws` names techniques, a build starts again without them.
        """
        state = lowered_for(technique, state, self.context, self.stages)
        _, after, account = apply(technique, state, self.context, self.stages)
        return after, account

    def integer(self, state: State) -> Graph:
        """The integer graph of a state: lowered, weights to nearest, where no technique made one yet."""
        with self.stages("quantize"):
            return self.context.with_integer(state).integer_graph

    def gain_db(self, before: State, after: State) -> float:
        """Decibels at the decision tensors that a state has more than another one, on held-out samples."""
        return self.context.gate.gain_db(self.integer(before), self.integer(after))

    def to_bytes(self, state: State) -> bytes:
        """The .tflite file of a state, with the borders and the packed weights that the recipe wants."""
        return flatbuffer.to_bytes(stored(self.integer(state), self.recipe, self.target))

    def save(self, state: State, path: str | Path) -> None:
        """Writes the .tflite file of a state.

        Raises:
            InputError: the file cannot be written.
        """
        flatbuffer.write(stored(self.integer(state), self.recipe, self.target), Path(path))


def begun(
    model: ConvertedModel,
    samples: Samples,
    recipe: Recipe,
    target: TargetProfile,
    stages: Stages,
    proved: Proved | None = None,
    observations: Observations | None = None,
) -> Job:
    """A converted model, ready for techniques.

    Args:
        model: from a converter.
        samples: calibration samples in the source model's layout.
        recipe: what to do; with a single sample only its range rule, as nothing could confirm that more is better.
        target: what must be able to run the result.
        stages: shows and times the steps.
        proved: what `prove` returned of this model, where it was called already.
        observations: what was observed of this model on these samples before, see `Job.observations`.

    Raises:
        EdgeqwtError: ParityError, where the float graph does not compute what the source does, is the usual one.
    """
    samples = validated(samples, [binding.spec for binding in model.inputs])
    with stages("look at samples"):
        total, warnings = sample_warnings(samples, {b.spec.name: b.permutation == (0, 2, 3, 1) for b in model.inputs})
        unlike = column_warnings(model, samples, recipe.precision)
        warnings = (*warnings, *(warning.sentence for warning in unlike.values()), *scaled_twice(model, samples))
    if total == 1:
        recipe = replace(recipe, techniques=plain(recipe.techniques))
    if proved is None or proved.source is not model.graph:
        proved = prove(model, samples, recipe, target, stages)
    graph = proved.prepared.graph
    notes = (*model.notes, *unlike_states(model, graph, split(samples)[0]))
    model = replace(model, notes=tuple(dict.fromkeys(notes)), locations=located(model.locations, graph))
    found = _resolved(model, graph, recipe, target)
    recipe = replace(recipe, precision=found.precision)
    context = Context.of(model, graph, samples, target, recipe.preserve, found.ranges)
    context = context if observations is None else context.with_observations(observations)
    warnings = (*warnings, *scale_warnings(graph, feeds(model, graph, samples)))
    return Job(model, samples, total, recipe, target, proved.prepared, proved.parity, context, warnings, stages)


def located(locations: Mapping[str, str], graph: Graph) -> dict[str, str]:
    """Where the source computes tensors, also those that rewrites made of others: NAME/what serves NAME.

    Args:
        locations: by tensor name, as a converter knows them.
        graph: after all rewrites.
    """
    made = [(graph.tensors[t].name, op.kind) for op in graph.ops for t in op.outputs]
    names, found = {name for name, _ in made}, dict(locations)
    for name, kind in made:
        base = name
        while base and base not in locations:
            base = base.rpartition("/")[0]
        if base and base != name:  # in place of it, or beside it
            found[name] = locations[base] if base not in names else f"{locations[base].split(' (')[0]} ({kind})"
    return found


def _resolved(model: ConvertedModel, graph: Graph, recipe: Recipe, target: TargetProfile) -> Resolved:
    """What the recipe says of single layers, by the tensors of the prepared graph."""
    names = [graph.tensors[t].name for op in graph.ops for t in op.outputs]
    sources = {name: model.locations.get(name, "") for name in names}
    return resolved(recipe.precision, recipe.layers, sources, target, graph)
