"""The best widths within a limit, for a measured problem.

Which ops have 16-bit activations is a minimum cut for every price of degradation; weights are then a knapsack
with the exact cost of the file or of the plan, copies included, as its last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from edgeqwt.errors import RecipeError
from edgeqwt.mixed.cut import Split
from edgeqwt.mixed.knapsack import Choice, choose, cost_of
from edgeqwt.mixed.problem import SIXTEEN, WEIGHTS, Measure, Problem
from edgeqwt.mixed.width_groups import NARROW, Layer
from edgeqwt.widths.precision import Precision, Widths

PRICES = np.geomspace(1e-5, 1e5, 41)  # of all degradation, in all cost


@dataclass(frozen=True)
class Solution:
    """A choice of widths.

    Attributes:
        precision: the widths.
        options: of each layer, by name.
        chosen: of each layer, by name.
        cost: exact, in the unit of what is limited.
        degradation: predicted.
    """

    precision: Precision
    options: Mapping[str, tuple[Choice, ...]]
    chosen: Mapping[str, Choice]
    cost: float
    degradation: float


def within_cost(problem: Problem, measure: Measure, limit: float) -> Solution:
    """The solution with the least predicted degradation whose exact cost is within a limit.

    Raises:
        RecipeError: the cheapest widths cost more; the message says how much.
    """
    best: Solution | None = None
    least = inf
    for wide in _wide_sets(problem, measure):
        options = _options(problem, measure, wide)
        cheapest = {name: min(found, key=lambda o: (o.cost, o.degradation)) for name, found in options.items()}
        smallest = measure.exact(_precision(problem, cheapest, wide))
        least = min(least, smallest)
        if smallest > limit:
            continue
        # What is not a layer's own is charged to the limit, in the unit of the options' costs.
        fixed = smallest / measure.per_cost - cost_of(cheapest)

        def extra(chosen: Mapping[str, Choice], wide: frozenset[int] = wide, fixed: float = fixed) -> float:
            exact = measure.exact(_precision(problem, chosen, wide)) / measure.per_cost
            return max(0.0, exact - fixed - cost_of(chosen))

        chosen = choose(options, limit / measure.per_cost - fixed, extra)
        found = _solution(problem, measure, options, chosen, wide)
        if best is None or (found.degradation, found.cost) < (best.degradation, best.cost):
            best = found
    if best is None:
        needed = ceil(least * 10**measure.digits) / 10**measure.digits
        bound = f"at most {limit:.{measure.digits}f} {measure.unit}"
        raise RecipeError(f"no widths take {bound}: the smallest take {needed:.{measure.digits}f}", "Allow so much.")
    return best


def within_degradation(problem: Problem, measure: Measure, limit: float) -> Solution:
    """The cheapest solution within a limit of predicted degradation, or the least degraded where there is none."""
    solutions: list[Solution] = []
    for wide in _wide_sets(problem, measure):
        options = _options(problem, measure, wide)
        least_degraded = {name: min(found, key=lambda o: (o.degradation, o.cost)) for name, found in options.items()}
        base = problem.activation_degradation(_precision(problem, least_degraded, wide))
        # A knapsack again, with costs and degradations exchanged.
        swapped = {name: [_swapped(o) for o in found] for name, found in options.items()}
        try:
            chosen = {name: _swapped(o) for name, o in choose(swapped, limit - base).items()}
        except RecipeError:
            chosen = least_degraded
        solutions.append(_solution(problem, measure, options, chosen, wide))
    good = [s for s in solutions if s.degradation <= limit]
    return (
        min(good, key=lambda s: (s.cost, s.degradation))
        if good
        else min(solutions, key=lambda s: (s.degradation, s.cost))
    )


def _swapped(option: Choice) -> Choice:
    return Choice(option.widths, option.degradation, option.cost)


def _precision(problem: Problem, chosen: Mapping[str, Choice], wide: frozenset[int]) -> Precision:
    return problem.parts.precision({name: o.widths.weights for name, o in chosen.items()}, wide)


def _solution(
    problem: Problem,
    measure: Measure,
    options: Mapping[str, tuple[Choice, ...]],
    chosen: Mapping[str, Choice],
    wide: frozenset[int],
) -> Solution:
    precision = _precision(problem, chosen, wide)
    degradation = problem.activation_degradation(precision) + sum(o.degradation for o in chosen.values())
    return Solution(precision, options, chosen, measure.exact(precision), degradation)


def _options(problem: Problem, measure: Measure, wide: frozenset[int]) -> dict[str, tuple[Choice, ...]]:
    """What each layer's weights can be, given which groups have 16-bit activations."""
    return {
        layer.name: tuple(_option(problem, measure, layer, bits, 16 if layer.group in wide else 8) for bits in WEIGHTS)
        for layer in problem.parts.layers
    }


def _option(problem: Problem, measure: Measure, layer: Layer, weights: int, activations: int) -> Choice:
    widths = Widths(weights, activations)
    return Choice(widths, measure.costs.layer(layer, widths), problem.weights[layer.name][weights])


def _wide_sets(problem: Problem, measure: Measure) -> list[frozenset[int]]:
    """Sets of groups that are worth 16 bits at some price of degradation; none of them first."""
    if not problem.activations:
        return [frozenset()]
    cost = sum(measure.costs.layer(layer, Widths()) for layer in problem.parts.layers) or 1.0
    cost += sum(measure.costs.op(i, 8) for i in range(len(problem.parts.graph.ops)))
    degradation = sum(problem.activations.values()) + sum(max(found.values()) for found in problem.weights.values())
    found = [frozenset[int]()]
    found += [_widened(problem, measure, price * cost / degradation) for price in PRICES if degradation > 0]
    return list(dict.fromkeys(found))


def _widened(problem: Problem, measure: Measure, price: float) -> frozenset[int]:
    """The groups with 16-bit activations at a price per unit of degradation: a minimum cut, low is 8, high 16."""
    split, parts = Split(), problem.parts
    split.high(NARROW, inf)
    for layer in parts.layers:
        at = {a: [_option(problem, measure, layer, w, a) for w in WEIGHTS] for a in (8, 16)}
        low, high = (min(o.cost + price * o.degradation for o in found) for found in at.values())
        split.low(layer.group, low)
        split.high(layer.group, high)
    for i, group in enumerate(parts.groups):
        split.low(group, measure.costs.op(i, 8))
        split.high(group, measure.costs.op(i, 16))
    for s in parts.sources:
        degradation = problem.activations.get(s.tensor, 0.0) * price
        # Rounded to 8 bits where anything about it has 8 bits.
        rounded, to8, to16 = (f"{what} of {s.tensor}" for what in ("rounding", "copy to 8", "copy to 16"))
        split.low(rounded, degradation * (1 - SIXTEEN))
        split.apart(s.group, rounded, inf)
        split.apart(to8, s.group, measure.costs.copy(s.tensor, 8))
        split.apart(s.group, to16, measure.costs.copy(s.tensor, 16))
        for reader in s.readers:
            split.apart(reader, rounded, inf)
            split.apart(reader, to8, inf)
            split.apart(to16, reader, inf)
    return frozenset(name for name in split.highs() if isinstance(name, int))
