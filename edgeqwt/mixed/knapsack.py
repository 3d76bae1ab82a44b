"""Which layers get how many bits, under a budget, from the cost and the degradation measured for each width.

A multiple-choice knapsack: each layer takes one of its options; costs and degradations add up. Degradations of layers
add up to first order, as rounding errors of different layers are nearly independent (Dong et al. 2020, HAWQ-V2, section
3.1). Small problems are solved exactly, partial sum by partial sum; large ones greedily along each layer's lower convex
hull of (cost, degradation), best gain per cost first.

What layers cost together (copies between widths) is not a sum over layers: it is charged to the
budget after the choice, and the choice made again with what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgeqwt.errors import RecipeError
from edgeqwt.widths.precision import Widths

FRONT = 5_000  # partial sums that an exact search may keep


@dataclass(frozen=True)
class Choice:
    """What a layer can be.

    Attributes:
        widths: of its weights and activations.
        cost: in the budget's unit (bytes, multiplications, seconds), 0 or more.
        degradation: measured damage to the model's output, 0 or more, such as its squared error.
    """

    widths: Widths
    cost: float
    degradation: float


@dataclass(frozen=True, slots=True)
class _Sum:
    """Cost and degradation of the first layers with some choice of options."""

    cost: float
    degradation: float
    before: _Sum | None = None
    last: Choice | None = None

    def picked(self) -> list[Choice]:
        """The options, in the order of the layers."""
        found, entry = [], self
        while entry.before is not None and entry.last is not None:
            found.append(entry.last)
            entry = entry.before
        return found[::-1]


def choose(
    options: Mapping[str, Sequence[Choice]],
    budget: float,
    extra: Callable[[Mapping[str, Choice]], float] = lambda chosen: 0.0,
) -> dict[str, Choice]:
    """The option of each layer with the least degradation in all, within the budget.

    Args:
        options: of each layer, at least one; by the name of the tensor that it computes.
        budget: largest sum of costs.
        extra: what a choice costs besides, in the same unit; 0 or more.

    Returns:
        By layer. The sum of costs and `extra` is within the budget. Without `extra` it is the best
        choice while no more than `FRONT` partial sums are worth keeping, else a greedy one.

    Raises:
        RecipeError: even the cheapest options cost more than the budget.
    """
    useful = {name: _undominated(found) for name, found in options.items()}
    cheapest = {name: found[0] for name, found in useful.items()}
    left = budget
    while left >= cost_of(cheapest):
        chosen = _exact(useful, left) or _greedy({name: _hull(found) for name, found in useful.items()}, left)
        over = cost_of(chosen) + extra(chosen) - budget
        if over <= 0:
            return chosen
        left = cost_of(chosen) - over
    needed = cost_of(cheapest) + extra(cheapest)
    if needed > budget:
        hint = f"Allow at least {needed:g}."
        raise RecipeError(f"the budget is {budget:g}, and the smallest widths need {needed:g}", hint)
    return cheapest


def cost_of(chosen: Mapping[str, Choice]) -> float:
    """The sum of the layers' own costs."""
    return sum(option.cost for option in chosen.values())


def _undominated(options: Sequence[Choice]) -> list[Choice]:
    """The options, cheapest first, without those that cost and degrade as much as another."""
    kept: list[Choice] = []
    for option in sorted(options, key=lambda o: (o.cost, o.degradation)):
        if not kept or option.degradation < kept[-1].degradation:
            kept.append(option)
    return kept


def _hull(options: Sequence[Choice]) -> list[Choice]:
    """Of undominated options, those on the lower convex hull: each next one buys less degradation per cost."""
    hull: list[Choice] = []
    for option in options:
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _gain(old: Choice, new: Choice) -> float:
    """Degradation that a unit of cost takes away."""
    return (old.degradation - new.degradation) / (new.cost - old.cost)


def _greedy(hulls: Mapping[str, Sequence[Choice]], budget: float) -> dict[str, Choice]:
    """The best gains per cost first, as long as they fit."""
    steps = [(_gain(a, b), name, b) for name, hull in hulls.items() for a, b in pairwise(hull)]
    chosen = {name: hull[0] for name, hull in hulls.items()}
    left = budget - sum(option.cost for option in chosen.values())
    stopped: set[str] = set()
    # On a hull gains fall from step to step, so that each layer's steps come in their order.
    for _, name, option in sorted(steps, key=lambda step: -step[0]):
        more = option.cost - chosen[name].cost
        if name not in stopped and more <= left:
            chosen[name], left = option, left - more
        else:
            stopped.add(name)
    return chosen


def _exact(options: Mapping[str, Sequence[Choice]], budget: float) -> dict[str, Choice] | None:
    """The best combination, found layer by layer; None where too many partial sums are not beaten by another."""
    front: list[_Sum] = [_Sum(0.0, 0.0)]
    for found in options.values():
        sums = [_Sum(old.cost + o.cost, old.degradation + o.degradation, old, o) for old in front for o in found]
        front = []
        for entry in sorted(sums, key=lambda entry: (entry.cost, entry.degradation)):
            if entry.cost <= budget and (not front or entry.degradation < front[-1].degradation):
                front.append(entry)
        if len(front) > FRONT:
            return None
    return dict(zip(options, front[-1].picked(), strict=True))
