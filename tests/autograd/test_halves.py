"""When sums over samples stand."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.autograd import halves as halving
from edgeqwt.autograd.halves import AGREED, Halves
from edgeqwt.graph.linear import work
from tests import small

LEAST = 16


@pytest.fixture(autouse=True)
def costly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that no more samples than the least are worth."""
    monkeypatch.setattr(halving, "WORK", 0)


def test_of_a_cheap_network_more_samples_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small.graph()
    monkeypatch.setattr(halving, "WORK", 5 * work(graph))
    assert (Halves(graph, 2).least, Halves(graph, 9).least) == (5, 9)


def test_samples_that_say_the_same_are_enough_at_once() -> None:
    halves = Halves(small.graph(), LEAST)
    said = [halves.agree({0: np.array([1.0, 3.0])}, 1) for _ in range(LEAST)]
    assert said == [False] * (LEAST - 1) + [True]


def test_samples_whose_halves_differ_are_not_enough() -> None:
    halves = Halves(small.graph(), LEAST)
    # Of the sum, 4, the halves differ by 2: by more than is agreed, however many there are.
    assert AGREED < 0.5
    assert not any(halves.agree({0: np.array([1.0 + 2 * (k % 2)])}, 1) for k in range(4 * LEAST))


def test_what_nothing_depends_on_keeps_nobody_waiting() -> None:
    halves = Halves(small.graph(), 2)
    assert [halves.agree({0: np.zeros(3)}, 1) for _ in range(2)] == [False, True]
    assert Halves(small.graph(), 1).agree({}, 1)
