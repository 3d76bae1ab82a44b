"""The best widths within a limit, for a measured problem.

Which ops have 16-bit activations is a minimum cut for every price of harm; weights are then a knapsack
with the exact cost of the file or of the plan, copies included, as its last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from edgeqwt.errors import RecipeError
from edgeqwt.mixed.cut import Split
from edgeqwt.mixed.parts import NARROW, Layer
from edgeqwt.mixed.problem import SIXTEEN, WEIGHTS, Measure, Problem
from edgeqwt.quantize.precision import Precision, Widths
from edgeqwt.quantize.sensitivity import Choice, choose

PRICES = np.geomspace(1e-5, 1e5, 41)  # of all harm, in all cost


@dataclass(frozen=True)
class Solution:
    """A choice of widths.

    Attributes:
        precision: the widths.
        options: of each layer, by name.
        chosen: of each layer, by name.
        cost: exact, in the unit of what is limited.
        harm: predicted.
    """

    precision: Precision
    options: Mapping[str, tuple[Choice, ...]]
    chosen: Mapping[str, Choice]
    cost: float
    harm: float


def within_cost(problem: Problem, measure: Measure, limit: float) -> Solution:
    """The solution with the least predicted harm whose exact cost is within a limit.

    Raises:
        RecipeError: the cheapest widths cost more; the message says how much.
    """
    best: Solution | None = None
    least = inf
    for wide in _wide_sets(problem, measure):
        options = _options(problem, measure, wide)
        cheapest = {name: min(found, key=lambda o: (o.cost, o.harm)) for name, found in options.items()}
        smallest = measure.exact(_precision(problem, cheapest, wide))
        least = min(least, smallest)
        if smallest > limit:
            continue
        # What is not a layer's own is charged to the limit, in the unit of the options' costs.
        fixed = smallest / measure.per_cost - _cost(cheapest)

        def extra(chosen: Mapping[str, Choice], wide: frozenset[int] = wide, fixed: float = fixed) -> float:
            exact = measure.exact(_precision(problem, chosen, wide)) / measure.per_cost
            return max(0.0, exact - fixed - _cost(chosen))

        chosen = choose(options, limit / measure.per_cost - fixed, extra)
        found = _solution(problem, measure, options, chosen, wide)
        if best is None or (found.harm, found.cost) < (best.harm, best.cost):
            best = found
    if best is None:
        needed = ceil(least * 10**measure.digits) / 10**measure.digits
        told = f"at most {limit:.{measure.digits}f} {measure.unit}"
        raise RecipeError(f"no widths take {told}: the smallest take {needed:.{measure.digits}f}", "Allow so much.")
    return best


def within_harm(problem: Problem, measure: Measure, limit: float) -> Solution:
    """The cheapest solution whose predicted harm is within a limit, or the one with the least where there is none."""
    solutions: list[Solution] = []
    for wide in _wide_sets(problem, measure):
        options = _options(problem, measure, wide)
        harmless = {name: min(found, key=lambda o: (o.harm, o.cost)) for name, found in options.items()}
        base = problem.activation_harm(_precision(problem, harmless, wide))
        # A knapsack again, with costs and harms in each other's place.
        swapped = {name: [_swapped(o) for o in found] for name, found in options.items()}
        try:
            chosen = {name: _swapped(o) for name, o in choose(swapped, limit - base).items()}
        except RecipeError:
            chosen = harmless
        solutions.append(_solution(problem, measure, options, chosen, wide))
    good = [s for s in solutions if s.harm <= limit]
    return min(good, key=lambda s: (s.cost, s.harm)) if good else min(solutions, key=lambda s: (s.harm, s.cost))


def _swapped(option: Choice) -> Choice:
    return Choice(option.widths, option.harm, option.cost)


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
    harm = problem.activation_harm(precision) + sum(o.harm for o in chosen.values())
    return Solution(precision, options, chosen, measure.exact(precision), harm)


def _cost(chosen: Mapping[str, Choice]) -> float:
    return sum(option.cost for option in chosen.values())


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
    """Sets of groups that are worth 16 bits at some price of harm; none of them first."""
    if not problem.activations:
        return [frozenset()]
    cost = sum(measure.costs.layer(layer, Widths()) for layer in problem.parts.layers) or 1.0
    cost += sum(measure.costs.op(i, 8) for i in range(len(problem.parts.graph.ops)))
    harm = sum(problem.activations.values()) + sum(max(found.values()) for found in problem.weights.values())
    found = [frozenset[int]()]
    found += [_widened(problem, measure, price * cost / harm) for price in PRICES if harm > 0]
    return list(dict.fromkeys(found))


def _widened(problem: Problem, measure: Measure, price: float) -> frozenset[int]:
    """The groups with 16-bit activations when a unit of harm costs so much: a minimum cut, low is 8 and high 16."""
    split, parts = Split(), problem.parts
    split.high(NARROW, inf)
    for layer in parts.layers:
        at = {a: [_option(problem, measure, layer, w, a) for w in WEIGHTS] for a in (8, 16)}
        low, high = (min(o.cost + price * o.harm for o in found) for found in at.values())
        split.low(layer.group, low)
        split.high(layer.group, high)
    for i, group in enumerate(parts.groups):
        split.low(group, measure.costs.op(i, 8))
        split.high(group, measure.costs.op(i, 16))
    for s in parts.sources:
        harm = problem.activations.get(s.tensor, 0.0) * price
        # Rounded to 8 bits where anything about it has 8 bits.
        rounded, to8, to16 = (f"{what} of {s.tensor}" for what in ("rounding", "copy to 8", "copy to 16"))
        split.low(rounded, harm * (1 - SIXTEEN))
        split.apart(s.group, rounded, inf)
        split.apart(to8, s.group, measure.costs.copy(s.tensor, 8))
        split.apart(s.group, to16, measure.costs.copy(s.tensor, 16))
        for reader in s.readers:
            split.apart(reader, rounded, inf)
            split.apart(reader, to8, inf)
            split.apart(to16, reader, inf)
    return frozenset(name for name in split.highs() if isinstance(name, int))
