"""LAPQ's parts where the minimum is known."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.scales.ranges import Lp, Range
from edgeqwt.scales.search_outputs import POWERS, best_power, descend, lowest


def observed(seed: int) -> Statistics:
    """Laplace distributed values."""
    statistics = Statistics()
    statistics.add(np.random.default_rng(seed).laplace(size=20_000).astype(np.float32))
    return statistics


def test_lowest_is_the_vertex_of_a_parabola() -> None:
    assert lowest([(x, 3 * (x - 1.3) ** 2 + 7) for x in (0.0, 1.0, 2.5)]) == pytest.approx(1.3)
    assert lowest([(x, 1e-9 * (x - 1.3) ** 2) for x in (0.9, 1.0, 1.1, 5.0)]) == pytest.approx(1.3)
    assert lowest([(0.0, 1.0), (1.0, 2.0), (2.0, 1.0)]) is None
    assert lowest([(0.0, 1.0), (1.0, 0.0)]) is None


def test_descent_finds_the_minimum_of_a_separable_bowl() -> None:
    wanted = {1: 0.8, 2: 1.5, 3: 1.02}

    def error(ranges: Mapping[int, Range]) -> float:
        return sum((ranges[t][1] / 10 - share) ** 2 for t, share in wanted.items()) + 0.1

    start = dict.fromkeys(wanted, (-5.0, 10.0))
    found = descend(start, 0.1, error)
    for t, share in wanted.items():
        # Moves are at most 20 % of what there is, and rounds go on while they gain: it gets there exactly.
        assert found[t] == pytest.approx((-5 * share, 10 * share), rel=1e-3)


def test_descent_follows_a_valley_that_no_single_range_leads_along() -> None:
    def error(ranges: Mapping[int, Range]) -> float:
        a, b = math.log(ranges[0][1]), math.log(ranges[1][1])
        return 10 * (a - b) ** 2 + (a - 0.5) ** 2 + (b - 0.5) ** 2

    found = descend({0: (0.0, 1.0), 1: (0.0, 1.0)}, 0.1, error)
    assert found[0][1] == pytest.approx(math.exp(0.5), rel=0.05)
    assert found[1][1] == pytest.approx(math.exp(0.5), rel=0.05)


def test_descent_asks_no_more_than_it_may() -> None:
    left = 10

    def error(ranges: Mapping[int, Range]) -> float:
        nonlocal left
        left -= 1
        return (ranges[0][1] - 2) ** 2 if left >= 0 else math.inf

    start = {0: (0.0, 1.0), 1: (0.0, 1.0)}
    found = descend(start, 0.1, error)
    assert 1 < found[0][1] <= 2
    assert found[1] == (0.0, 1.0)
    assert descend(start, 0.1, lambda ranges: math.inf) == start


def test_the_best_power_is_found_between_the_tried_ones() -> None:
    statistics = {0: observed(0), 1: observed(1)}
    wanted = Lp(2.7).choose(statistics[0], 256)

    def error(ranges: Mapping[int, Range]) -> float:
        return 1 + sum((a - b) ** 2 for a, b in zip(ranges[0], wanted, strict=True))

    plain = {0: (-1.0, 1.0), 1: (-1.0, 1.0)}
    found = best_power(statistics, [(0,), (1,)], plain, error)
    best_tried = min(error({0: Lp(p).choose(statistics[0], 256)}) for p in POWERS)
    assert error(found) <= best_tried
    assert found[1][0] < 0 < found[1][1]
    # Where the plain ranges are the best, they stay.
    assert best_power(statistics, [(0,), (1,)], plain, lambda ranges: abs(ranges[0][1] - 1)) == plain
