"""Scales per group of samples: one file with a signature per group, whose weights are the same bytes.

Made from the static scales per group of time steps that diffusion transformers need (Q-DiT, PTQ4DiT and others): the
ranges of activations follow the time step, weights do not. An input of one value, such as the time step, selects the
group. Weights are rounded once, on all samples; ranges, biases and compensation are those of the group's samples. A
group keeps the file's own scales where its held-out samples do not say that others are better.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.converted import ConvertedModel
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Graph, Tensor
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.job import Job
from edgeqwt.judgement import COMPENSATED, PLAIN, UNCOMPENSATED, Judgement
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import Made
from edgeqwt.passes.state import State
from edgeqwt.passes.technique import COMPENSATION
from edgeqwt.profile import TargetProfile
from edgeqwt.progress import Stages
from edgeqwt.scales.scales import Scales
from edgeqwt.verify.bitexact import BitExactness
from edgeqwt.verify.choice import choose, gain_at
from edgeqwt.verify.quality import Quality

LEAST = 8
"""Samples of a group: two of them are held out then."""
WORTH = 0.5
"""dB that scales of its own must gain a group on held-out samples: they cost bytes for every channel of every layer."""
ONE = "one set of scales"
SIGNATURE = "group_{}"
"""The key of a group's signature, by its number from 0."""


MOST_GROUPS = 1024
"""Each is a graph in the file, and needs samples of its own."""


@dataclass(frozen=True)
class Grouping:
    """What selects the scales.

    Attributes:
        input: an input of one value.
        count: how many groups there are to be.
    """

    input: str
    count: int

    @classmethod
    def parse(cls, text: str) -> Grouping:
        """From text such as "t=5".

        Raises:
            InputError: it is another one.
        """
        found = re.fullmatch(r"(.+)=([1-9]\d*)", text.strip())
        if found is None or not 2 <= int(found[2]) <= MOST_GROUPS:
            hint = f"Name an input of one value and a number of groups, 2 to {MOST_GROUPS}: t=5."
            raise InputError(f"{text!r} says of no groups what they are", hint)
        return cls(found[1], int(found[2]))


@dataclass(frozen=True, eq=False)
class Part:
    """Samples of a group, and the values of the input that select it: from `lowest` up to, without it, `below`."""

    lowest: float
    below: float
    samples: Samples


@dataclass(frozen=True, eq=False)
class Group:
    """One group of a build.

    Attributes:
        key: of its signature.
        lowest: the smallest value that selects it; -inf for the first group.
        below: the smallest value that selects the next one; inf for the last one.
        samples: its calibration samples.
        graph: its integer graph, as the file has it.
        own: whether it has scales of its own.
        quality: on its held-out samples.
        before: the same of the file with one set of scales.
        gain_db: what scales of its own gain, or would, at the output that decides; the least of several outputs.
        runtimes: its graph in the runtimes, on its own held-out samples; None until that is compared.
    """

    key: str
    lowest: float
    below: float
    samples: Samples
    graph: Graph
    own: bool
    quality: Quality
    before: Quality
    gain_db: float
    runtimes: BitExactness | None = None


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of a build: `input` selects one of them; empty, with the reason, where one set of scales is kept."""

    input: str
    found: tuple[Group, ...]
    reason: str = ""

    @property
    def graphs(self) -> dict[str, Graph]:
        """The integer graphs by the keys of their signatures."""
        return {group.key: group.graph for group in self.found}


def require_signatures(text: str, target: TargetProfile) -> Grouping:
    """What selects the groups, where the target's runtime knows signatures.

    Raises:
        InputError: it does not, or the text names no groups.
    """
    if "xnnpack" not in target.runtimes:
        hint = "Build for a target with LiteRT, such as tflite."
        raise InputError(f"--groups is not for the target {target.name}: its runtime runs one graph of a file", hint)
    return Grouping.parse(text)


Written = Callable[[Graph], tuple[Graph, tuple[str, ...]]]


def grouped(job: Job, made: Made, judgement: Judgement, wanted: Grouping, stages: Stages, written: Written) -> Groups:
    """Scales for each group of a build's samples, where held-out samples of the group say that they pay.

    Args:
        job: of the build.
        made: the integer graph of all samples.
        judgement: which of its variants is kept.
        wanted: what selects the groups.
        stages: shows and times the step.
        written: makes of an integer graph what the file has.

    Raises:
        InputError: the input is not there, has several values, or there are too few samples for the groups.
    """
    with stages("groups") as advance:
        parts = parted(job.samples, job.model, wanted)
        if judgement.choice.name == PLAIN or job.model.learned is not None:
            why = "scales that training chose stay" if job.model.learned else "plain quantization is kept"
            return Groups(wanted.input, (), f"{why}: one set of scales serves all values of {wanted.input!r}")
        kept, found = judgement.variants[judgement.choice.name], []
        for k, part in enumerate(parts):
            found.append(_group(job, made, kept, part, SIGNATURE.format(k), written))
            advance(k + 1, len(parts))
    if not any(group.own for group in found):
        return Groups(wanted.input, (), _unmoved(wanted, found))
    return Groups(wanted.input, tuple(found))


def _unmoved(wanted: Grouping, found: Sequence[Group]) -> str:
    gain = max(group.gain_db for group in found)
    return f"no group of {wanted.input!r} gains {WORTH:g} dB by scales of its own beyond chance: at most {gain:.2f}"


def parted(samples: Samples, model: ConvertedModel, wanted: Grouping) -> tuple[Part, ...]:
    """The samples by the value of an input, in groups of about as many samples each.

    Raises:
        InputError: see `grouped`.
    """
    names = [binding.spec.name for binding in model.inputs]
    if wanted.input not in names:
        raise InputError(f"the model has no input {wanted.input!r} that selects groups", f"It has {', '.join(names)}.")
    if model.graph.states:
        raise InputError("a model with states has one set of scales", "Groups would hand states on at other scales.")
    values = np.array([_value(sample, wanted.input) for sample in samples])
    distinct, counts = np.unique(values, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(values)  # of each value, among all samples
    group = np.minimum((middle * wanted.count).astype(int), wanted.count - 1)
    number = np.array([counts[group == k].sum() for k in range(wanted.count)])
    if number.min() < LEAST:
        what = (
            f"{len(values)} samples with {len(distinct)} values of {wanted.input!r}: too few for {wanted.count} groups"
        )
        raise InputError(what, f"Each needs {LEAST} samples: ask for fewer, or give more samples.")
    # Values between those of two groups go to the nearer one.
    between = [(distinct[group < k].max() + distinct[group >= k].min()) / 2 for k in range(1, wanted.count)]
    edges = [-math.inf, *(float(edge) for edge in between), math.inf]
    return tuple(Part(low, high, _within(samples, wanted.input, low, high)) for low, high in pairwise(edges))


def _value(sample: Sample, name: str) -> float:
    if sample[name].size != 1:
        what = f"input {name!r} has {sample[name].size} values in a sample, so that it selects no group"
        raise InputError(what, "Name an input of one value, such as a time step.")
    return float(sample[name].reshape(()))


def _within(samples: Samples, name: str, low: float, high: float) -> Samples:
    origin = f"{samples.origin} ({name} from {low:g} to below {high:g})"
    return Samples(origin, lambda: (s for s in samples if low <= _value(s, name) < high))


def _group(job: Job, made: Made, kept: Graph, part: Part, key: str, written: Written) -> Group:
    """The better of two graphs on the held-out samples of a group: with its own scales, or those of all samples."""
    whole = job.context
    context = Context.of(job.model, whole.graph, part.samples, job.target, whole.preserve, whole.ranges)
    graphs = {name: written(graph)[0] for name, graph in _candidates(made, context).items()}
    quality = context.gate.quality(made.reference, {ONE: kept, **graphs})
    name = choose(quality).name
    found = [gain_at(quality[ONE], quality[name], k) for k in range(len(quality[ONE].decisive))]
    gain = min(g.db for g in found)
    own = name != ONE and gain >= WORTH and all(g.certain for g in found)
    graph, judged = (graphs[name], quality[name]) if own else (kept, quality[ONE])
    return Group(key, part.lowest, part.below, part.samples, graph, own, judged, quality[ONE], gain)


def _candidates(made: Made, context: Context) -> dict[str, Graph]:
    """Integer graphs of one group: before and after compensation, where the build has it."""
    before = regrouped(made, context)
    found = {UNCOMPENSATED: before.integer}
    correction = next((step.technique for step in made.steps if step.technique.role == COMPENSATION), None)
    if correction is not None:
        found[COMPENSATED] = correction.apply(before, context)[0].integer
    return {name: graph for name, graph in found.items() if graph is not None}


def regrouped(made: Made, context: Context) -> State:
    """The model with the weights' integers that all samples gave, and ranges of the context's samples."""
    state, whole = made.state, made.uncompensated
    statistics = context.observed(state.graph)
    known = {tensor.name: tensor for tensor in whole.tensors if tensor.is_constant}
    weights = {
        t: known[name].quantization.scale.astype(np.float64)  # type: ignore[union-attr]
        for t, name in _weights(state.graph).items()
        if name in known and known[name].quantization is not None
    }
    fresh = replace(state, statistics=statistics, scales=Scales({}, weights), integer=None)
    lowered = context.lowered(fresh)
    return replace(fresh, integer=_with_integers(lowered, known, {*_weights(state.graph).values()}))


def _weights(graph: Graph) -> dict[int, str]:
    """The constant weights of linear ops by index, with their names, which integer graphs keep."""
    found = {slots(op).weight for op in graph.ops if is_linear(op)}
    return {t: graph.tensors[t].name for t in found if graph.tensors[t].is_constant}


def _with_integers(graph: Graph, known: Mapping[str, Tensor], names: set[str]) -> Graph:
    """The graph with the integers that weights have elsewhere at the same scales."""

    def same(tensor: Tensor) -> bool:
        other = known.get(tensor.name) if tensor.name in names and tensor.is_constant else None
        fits = other is not None and (other.dtype, other.shape) == (tensor.dtype, tensor.shape)
        return (
            fits
            and other is not None
            and other.quantization is not None
            and other.quantization.same_as(tensor.quantization)
        )

    changes = {i: replace(t, data=known[t.name].data) for i, t in enumerate(graph.tensors) if same(t)}
    return graph.with_tensors(changes)
