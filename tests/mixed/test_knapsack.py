"""Choosing widths under a budget, against trying every combination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product

import numpy as np
import pytest

from edgeqwt.errors import RecipeError
from edgeqwt.mixed import knapsack
from edgeqwt.mixed.knapsack import Choice, choose
from edgeqwt.widths.precision import Widths

OPTIONS = (Widths(4, 8), Widths(8, 8), Widths(8, 16))


def problem(layers: int, seed: int) -> dict[str, list[Choice]]:
    """Layers of different sizes and sensitivities; more bits cost more and mostly degrade less."""
    rng = np.random.default_rng(seed)
    found = {}
    for k in range(layers):
        size, weight = rng.integers(1, 40), rng.exponential()
        degradations = weight * np.array([1.0, 0.08, 0.02]) * rng.uniform(0.3, 2.0, 3)
        costs = size * np.array([4.0, 8.0, 11.0])
        found[f"layer{k}"] = [
            Choice(w, float(c), float(h)) for w, c, h in zip(OPTIONS, costs, degradations, strict=True)
        ]
    return found


def cost(chosen: Mapping[str, Choice]) -> float:
    return sum(o.cost for o in chosen.values())


def degradation(chosen: Mapping[str, Choice]) -> float:
    return sum(o.degradation for o in chosen.values())


def best(options: Mapping[str, Sequence[Choice]], budget: float) -> float:
    """The least degradation of all combinations within the budget."""
    return min(degradation(d) for picked in product(*options.values())
               if cost(d := dict(zip(options, picked, strict=True))) <= budget)  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_small_problems_are_solved_exactly(seed: int, share: float) -> None:
    options = problem(6, seed)
    least, most = (sum(end(o.cost for o in found) for found in options.values()) for end in (min, max))
    budget = least + share * (most - least)
    chosen = choose(options, budget)
    assert cost(chosen) <= budget
    assert degradation(chosen) == pytest.approx(best(options, budget))


@pytest.mark.parametrize("seed", range(10))
def test_greedy_is_within_one_step_of_the_best(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options = problem(6, seed)
    budget = 1.5 * sum(min(o.cost for o in found) for found in options.values())
    monkeypatch.setattr(knapsack, "FRONT", 0)
    chosen = choose(options, budget)
    assert cost(chosen) <= budget
    # The hulls' relaxation splits one layer's step at most, so the greedy choice lacks less than the largest step.
    largest = max(max(o.degradation for o in found) - min(o.degradation for o in found) for found in options.values())
    assert best(options, budget) <= degradation(chosen) + 1e-12
    assert degradation(chosen) <= best(options, budget) + largest


def test_many_layers_take_no_time_and_use_the_budget() -> None:
    options = problem(200, 0)
    least = sum(min(o.cost for o in found) for found in options.values())
    chosen = choose(options, 1.7 * least)
    assert cost(chosen) <= 1.7 * least
    assert cost(chosen) > 1.65 * least


def test_what_costs_more_and_spoils_more_is_never_taken() -> None:
    options = {"a": [Choice(Widths(8, 8), 1.0, 1.0), Choice(Widths(8, 16), 2.0, 1.5)]}
    assert choose(options, 10.0)["a"].widths == Widths(8, 8)


def test_copies_between_widths_are_charged() -> None:
    options = {name: [Choice(Widths(8, 8), 10.0, 1.0), Choice(Widths(8, 16), 12.0, 0.1)] for name in "abcd"}

    def copies(chosen: Mapping[str, Choice]) -> float:
        widths = [8, *(o.widths.activations for o in chosen.values()), 8]
        return 3.0 * sum(x != y for x, y in pairwise(widths))

    for budget in (40.0, 45.0, 47.0, 48.0, 51.0, 54.0):
        chosen = choose(options, budget, copies)
        assert cost(chosen) + copies(chosen) <= budget
    assert {o.widths.activations for o in choose(options, 54.0, copies).values()} == {16}


def test_a_budget_that_nothing_fits_is_refused_with_what_it_takes() -> None:
    options = {"a": [Choice(Widths(4, 8), 5.0, 1.0)], "b": [Choice(Widths(4, 8), 7.0, 1.0)]}
    with pytest.raises(RecipeError, match="the smallest widths need 12") as caught:
        choose(options, 11.0)
    assert caught.value.hint == "Allow at least 12."
