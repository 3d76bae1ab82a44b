"""The measured problem: cost and degradation of each width of each part, on samples to fit on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from edgeqwt.calibration.observe import observe
from edgeqwt.equalize.equalize import Equalization, equalize
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lower import assigned, lower
from edgeqwt.mixed.cost import Costs, file_size, latency, size, total
from edgeqwt.mixed.degradation import degradations, with_rounded_activation, with_rounded_weights
from edgeqwt.mixed.nuclear import nuclear_degradations
from edgeqwt.mixed.width_groups import Parts, parts
from edgeqwt.passes.context import Context
from edgeqwt.progress import Advance
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.rounding.methods import Gptq
from edgeqwt.rounding.reround import reround
from edgeqwt.techniques.weight_rounding import Rounding
from edgeqwt.verify.quality import layer_quality
from edgeqwt.widths.plan import Plan, planned
from edgeqwt.widths.precision import Mixed, Precision

WEIGHTS = (8, 4)  # bits to choose among, the least degrading first
SIXTEEN = 2.0**-16  # degradation of rounding to 16 bits, times that of 8: steps are 2^8 times as small
SCALES = 4  # that the cheap form of rounding tries
EQUALIZED_WITH = 16  # samples: the build equalizes anew, with all that its recipe asks for


@dataclass(frozen=True, eq=False)
class Measure:
    """What is limited.

    Attributes:
        costs: what parts cost; sums of them are a model.
        exact: what all of a precision costs, copies included.
        per_cost: what one of `costs` is in the unit of `exact`.
        unit: of `exact`, for messages.
        digits: behind the point, for messages.
    """

    costs: Costs
    exact: Callable[[Precision], float]
    per_cost: float
    unit: str
    digits: int


@dataclass(frozen=True, eq=False)
class Problem:
    """What there is to choose from.

    Attributes:
        parts: of the equalized float graph.
        weights: degradation of rounding a layer's weights, by name and bits: squared error at the outputs
            relative to their signal, of the float graph with that alone rounded, or what `goal.sensitivity` says.
        activations: degradation of rounding an activation to 8 bits, by tensor index; empty where all have 8 bits.
        floor: degradation of all activations at 8 bits where `activations` is empty, else 0.
        size: bytes of the file, exact.
        time: the model's time of a run, relative to 8 bits everywhere.
        plan: widths of the ops under a precision.
    """

    parts: Parts
    weights: Mapping[str, Mapping[int, float]]
    activations: Mapping[int, float]
    floor: float
    size: Measure
    time: Measure
    plan: Callable[[Precision], Plan]

    def activation_degradation(self, precision: Precision) -> float:
        """The degradation by the activations' rounding under a precision."""
        rounded = self.parts.rounded(self.plan(precision)) if self.activations else {}
        return self.floor + sum(
            degradation * (1 if rounded[t] == 8 else SIXTEEN) for t, degradation in self.activations.items()
        )


def measured(context: Context, recipe: Recipe, goal: Mixed, advance: Advance) -> Problem:
    """Measures the problem; as many runs of the float graph as there are layers and activations to round.

    Args:
        context: the graph and its samples, of which `goal.samples` to fit on are used.
        recipe: its ranges, equalization and rounding count; weights are rounded by GPTQ unless it rounds to nearest.
        goal: see Mixed.
        advance: receives how many variants of the graph have run.
    """
    fit, ranges = context.fit.head(goal.samples), context.rule(recipe.ranges)
    reference = _equalized(context, recipe, fit_samples=goal.samples)
    statistics, _ = observe(reference, fit)

    def integer(precision: Precision) -> Graph:
        return lower(reference, statistics, ranges, precision, context.kernels)

    wide = Precision(activation_bits=16)
    kept = assigned(reference, statistics, ranges, wide, context.kernels).plan.kept
    found = parts(reference, kept)
    plan = partial(planned, reference, kernels=context.kernels, narrow=kept)
    rounded = {bits: _rounded(context, recipe, goal, reference, integer(Precision(bits)), bits) for bits in WEIGHTS}
    scales = assigned(reference, statistics, ranges, Precision()).quantization
    may_widen = goal.wide or goal.max_latency > 0
    sources = [s.tensor for s in found.sources if may_widen and s.tensor in scales]
    alone = goal.sensitivity == "outputs"
    layers = found.layers if alone else ()
    variants = [partial(with_rounded_weights, reference, la.weight, g) for la in layers for g in rounded.values()]
    variants += [partial(with_rounded_activation, reference, t, scales[t]) for t in sources]
    results = iter(degradations(reference, variants, fit, advance))
    weights = {layer.name: {bits: next(results) for bits in WEIGHTS} for layer in layers}
    if not alone:
        weights = nuclear_degradations(reference, found.layers, rounded, fit, advance)
    activations = {t: next(results) for t in sources}
    floor = 0.0
    if not may_widen:
        whole = layer_quality(reference, {"": rounded[8]}, fit)[""]
        error = sum(10 ** (-output.closeness.judged_db / 10) for output in whole.decisive)
        floor = max(0.0, error - sum(degradation[8] for degradation in weights.values()))

    def file(precision: Precision) -> float:
        return float(file_size(integer(precision), replace(recipe, precision=precision), context.target))

    bytes_of = Measure(size(reference, "tflm" in context.target.runtimes), file, 1.0, "bytes", 0)
    return Problem(found, weights, activations, floor, bytes_of, _time(found, goal, plan), plan)


def _time(found: Parts, goal: Mixed, plan: Callable[[Precision], Plan]) -> Measure:
    """The model of latency."""
    costs = latency(found.graph, goal.op_times)

    def time(precision: Precision) -> float:
        bits = {layer.name: precision.of(layer.name).weights for layer in found.layers}
        return total(found.graph, costs, found.layers, bits, plan(precision))

    eight = max(time(Precision()), 1.0)
    return Measure(costs, lambda precision: time(precision) / eight, 1 / eight, "times the time at 8 bits", 2)


def _equalized(context: Context, recipe: Recipe, fit_samples: int) -> Graph:
    """The float graph that sensitivity is measured on."""
    found = recipe.find(Equalization)
    if found is None:
        return context.graph
    fit = context.fit.head(fit_samples)
    options = replace(found, samples=min(found.samples, EQUALIZED_WITH))
    statistics, _ = observe(context.graph, fit)
    return equalize(context.graph, fit, statistics, options, Precision(min(WEIGHTS))).graph


def _rounded(context: Context, recipe: Recipe, goal: Mixed, reference: Graph, graph: Graph, bits: int) -> Graph:
    """An integer graph with its weights rounded as well as is cheap, where they are few bits."""
    if bits == max(WEIGHTS) or recipe.find(Rounding) is None:
        return graph
    rule = Gptq(samples=goal.samples, scales=SCALES)
    return reround(graph, reference, context.fit.head(goal.samples), rule, Precision(bits))
