"""When sums over samples stand."""

from __future__ import annotations

import numpy as np

from edgeqwt.autograd.halves import AGREED, LEAST, Halves


def test_samples_that_say_the_same_are_enough_at_once() -> None:
    halves = Halves()
    said = [halves.agree({0: np.array([1.0, 3.0])}, 1) for _ in range(LEAST)]
    assert said == [False] * (LEAST - 1) + [True]


def test_samples_whose_halves_differ_are_not_enough() -> None:
    halves = Halves()
    # Of the sum, 4, the halves differ by 2: by more than is agreed, however many there are.
    assert AGREED < 0.5
    assert not any(halves.agree({0: np.array([1.0 + 2 * (k % 2)])}, 1) for k in range(4 * LEAST))


def test_what_nothing_depends_on_keeps_nobody_waiting() -> None:
    halves = Halves(least=2)
    assert [halves.agree({0: np.zeros(3)}, 1) for _ in range(2)] == [False, True]
    assert Halves(least=1).agree({}, 1)
