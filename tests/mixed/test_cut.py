"""Splits, against trying all of them."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
import pytest

from edgeqwt.mixed.cut import Split


def cost(high: set[int], low_costs: np.ndarray, high_costs: np.ndarray, pairs: np.ndarray) -> float:
    n = len(low_costs)
    own = sum(high_costs[i] if i in high else low_costs[i] for i in range(n))
    return float(own + sum(pairs[i, j] for i in range(n) for j in range(n) if i not in high and j in high))


@pytest.mark.parametrize("seed", range(20))
def test_the_split_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 7
    low_costs, high_costs = rng.exponential(size=(2, n))
    pairs = rng.exponential(0.5, (n, n)) * (rng.uniform(size=(n, n)) < 0.4)
    split = Split()
    for i in range(n):
        split.low(i, low_costs[i])
        split.high(i, high_costs[i])
        for j in range(n):
            if i != j and pairs[i, j]:
                split.apart(i, j, pairs[i, j])
    everything = [{i for i in range(n) if bits[i]} for bits in product((0, 1), repeat=n)]
    best = min(cost(high, low_costs, high_costs, pairs) for high in everything)
    found = {i for i in split.highs() if isinstance(i, int)}
    # Sums of 60 numbers around 1: rounding is far below this.
    assert cost(found, low_costs, high_costs, pairs) == pytest.approx(best, abs=1e-9)


def test_what_is_infinite_is_kept() -> None:
    split = Split()
    split.high("low", inf)
    split.low("low", 5.0)
    split.low("free", 3.0)
    split.apart("low", "free", inf)
    assert split.highs() == set()
    split = Split()
    split.low("high", inf)
    split.apart("free", "high", 1.0)
    split.high("free", 0.5)
    assert split.highs() == {"high", "free"}


def test_where_it_is_all_the_same_nodes_are_low() -> None:
    split = Split()
    split.low("a", 1.0)
    split.high("a", 1.0)
    split.apart("b", "a", 1.0)
    assert split.highs() == set()
