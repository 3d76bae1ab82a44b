"""Scales searched layer by layer on the error of each layer's output: EasyQuant, and PTQ4ViT's Hessian guide.

Both alternate between the scale of a layer's input and the scales of its weights' channels, and
differ in how they judge an output. Layers are looked at alone, on the float network's inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.scales.activations import affine
from edgeqwt.scales.layer_rows import Layer, LayerRows, searchable
from edgeqwt.scales.ranges import Range
from edgeqwt.scales.scales import Gradients, Problem, Scales, spans

# Wanted and found output, importance of squared errors, all (positions, channels); the axis to sum over, or all.
# Gives the badness of each channel, or of the whole: the smaller the better.
Metric = Callable[[Array, Array, Array, int | None], Array]


def cosine_distance(wanted: Array, found: Array, importance: Array, axis: int | None) -> Array:
    """1 - cos of the angle between the outputs; `importance` is not looked at."""
    norm = np.sqrt(np.square(wanted).sum(axis=axis) * np.square(found).sum(axis=axis))
    product = (wanted * found).sum(axis=axis)
    # A channel that a ReLU keeps at zero is the same at any scale.
    return np.asarray(np.where(norm > 0, 1 - product / np.where(norm > 0, norm, 1), 0.0))


def weighted_error(wanted: Array, found: Array, importance: Array, axis: int | None) -> Array:
    """Sum of importance times squared error."""
    return np.asarray((importance * np.square(found - wanted)).sum(axis=axis))


@dataclass(frozen=True)
class _Options:
    """What both methods have.

    Attributes:
        samples: to search on, at most.
        candidates: shares of a scale to try.
        narrowest, widest: the smallest and the largest share.
        rounds: turns between input and weights.
    """

    samples: Annotated[int, Ge(1)] = 32
    candidates: Annotated[int, Interval(ge=1, le=1024)] = 32
    narrowest: Annotated[float, Interval(ge=0.01, le=1)] = 0.5
    widest: Annotated[float, Interval(ge=1, le=4)] = 1.2
    rounds: Annotated[int, Interval(ge=1, le=16)] = 2


@dataclass(frozen=True)
class EasyQuant(_Options):
    """The largest cosine between float and quantized outputs (Wu et al. 2020, EasyQuant, algorithm 1).

    In turns, the input's scale and the weights' scales per channel are searched among shares of the ones
    that the rules choose. Where several layers read one input, the mean of their distances counts.

    Attributes:
        samples: to search on, at most.
        candidates: shares of a scale to try.
        narrowest, widest: the smallest and the largest share.
        rounds: turns between input and weights.
    """

    def propose(self, problem: Problem) -> list[Scales]:
        """See search.Method."""
        return _propose(problem, self, cosine_distance, None)


@dataclass(frozen=True)
class HessianGuided(_Options):
    """The least sum of (gradient x output error)^2 (Yuan et al. 2022, PTQ4ViT, section 3.3).

    The squared gradient of the loss at the layer's output stands for the Hessian's diagonal. Without
    gradients (`Problem.gradients`) all are taken for 1, and it is the output's squared error.

    Attributes:
        samples: to search on, at most.
        candidates: shares of a scale to try.
        narrowest, widest: the smallest and the largest share.
        rounds: turns between input and weights.
    """

    def propose(self, problem: Problem) -> list[Scales]:
        """See search.Method."""
        return _propose(problem, self, weighted_error, problem.gradients)


@dataclass(frozen=True, eq=False)
class _Site:
    """One layer, its weight scales as the rules chose them, and how its output is judged."""

    layer: Layer
    wanted: Array
    scale: Array
    limit: int
    metric: Metric

    def badness(self, limits: Range, scale: Array, axis: int | None) -> Array:
        """Of the output with the input's integers spanning `limits` and some weight scales."""
        found = self.layer.output(_stored(self.layer.x, limits), self._rounded(scale))
        return self.metric(self.wanted, found, self.layer.importance, axis)

    def best_scales(self, limits: Range, scale: Array, shares: Sequence[float]) -> Array:
        """The best of `scale` and shares of the rules' scales, channel by channel."""
        best, least = scale, self.badness(limits, scale, 0)
        for share in shares:
            badness = self.badness(limits, self.scale * share, 0)
            best, least = np.where(badness < least, self.scale * share, best), np.minimum(badness, least)
        return best

    def _rounded(self, scale: Array) -> Array:
        steps = scale.astype(np.float32).reshape(*self.layer.weights.shape[:2], 1)
        integers: Array = np.clip(np.rint(self.layer.weights / steps), -self.limit, self.limit)
        return integers * steps


def _propose(problem: Problem, options: _Options, metric: Metric, gradients: Gradients | None) -> list[Scales]:
    """Input ranges and weight scales together, and each alone."""
    graph, base = problem.graph, problem.lower(Scales())
    span, steps = spans(graph, base), _weight_scales(graph, base)
    ops = [i for i in searchable(graph) if slots(graph.ops[i]).data in span and i in steps]
    free = {t for group in problem.free_groups() for t in group}
    ranges: dict[int, Range] = {}
    weights: dict[int, Array] = {}

    def site(layer: Layer) -> _Site:
        wanted = layer.output(layer.x, layer.weights)
        return _Site(layer, wanted, steps[layer.op], _limit(problem, layer.op), metric)

    with ActivationStore() as store:
        rows = LayerRows(graph, ops, islice(problem.fit, options.samples), gradients, store)
        for group in problem.groups:
            members = [i for i in ops if slots(graph.ops[i]).data in group]
            if not members:
                continue
            t = group[0]
            found, scales = _alternated([site(rows.layer(i)) for i in members], span[t], t in free, options)
            ranges |= {t: found} if found != span[t] else {}
            weights |= {slots(graph.ops[i]).weight: scale for i, scale in zip(members, scales, strict=True)}
    return [Scales(ranges, weights), Scales(ranges), Scales(weights=weights)]


def _alternated(sites: Sequence[_Site], span: Range, movable: bool, options: _Options) -> tuple[Range, list[Array]]:
    """The best range of one input, if it may be moved, and the best weight scales of the layers that read it."""
    # 1 first: it wins ties.
    shares = [1.0, *np.linspace(options.narrowest, options.widest, options.candidates).tolist()]
    share, scales = 1.0, [site.scale for site in sites]
    for _ in range(options.rounds):
        if movable:
            share = min(shares, key=lambda f: _mean(sites, scales, (span[0] * f, span[1] * f)))
        limits = span[0] * share, span[1] * share
        scales = [site.best_scales(limits, scale, shares) for site, scale in zip(sites, scales, strict=True)]
    return (span[0] * share, span[1] * share), scales


def _mean(sites: Sequence[_Site], scales: Sequence[Array], limits: Range) -> float:
    return float(np.mean([site.badness(limits, scale, None) for site, scale in zip(sites, scales, strict=True)]))


def _stored(x: Array, limits: Range) -> Array:
    """Float32 values as int8 integers that span a range would give them back."""
    q = affine(*limits)
    scale, zero_point = q.scale[0], np.float32(q.zero_point[0])
    steps: Array = np.clip(np.rint(x / scale), -128 - zero_point, 127 - zero_point)
    values: Array = steps * scale
    return values


def _limit(problem: Problem, i: int) -> int:
    name = problem.graph.tensors[slots(problem.graph.ops[i]).output].name
    return int(2 ** (problem.precision.of(name).weights - 1) - 1)


def _weight_scales(graph: Graph, integer: Graph) -> dict[int, Array]:
    """By float op, the weight scales that its integer counterpart has."""
    counterparts = {integer.tensors[op.outputs[0]].name: op for op in integer.ops}
    found: dict[int, Array] = {}
    for i in searchable(graph):
        counterpart = counterparts.get(graph.tensors[graph.ops[i].outputs[0]].name)
        q = (
            integer.tensors[slots(counterpart).weight].quantization
            if counterpart and counterpart.kind == graph.ops[i].kind
            else None
        )
        if q is not None and q.axis is not None:
            found[i] = q.scale.astype(np.float64)
    return found
