"""Moments of layers with many terms, and the rows that are kept of them."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Array
from edgeqwt.rounding import wide_layers
from edgeqwt.rounding.wide_layers import Sides, wide_moments

CHUNK, COUNT, POSITIONS, TERMS = 3, 11, 5, 13


def inputs() -> tuple[Array, Array, Array]:
    """Rows x, y and weights of all samples, whole numbers as the rounding rules have them."""
    rng = np.random.default_rng(0)
    shape = (2, COUNT * POSITIONS, TERMS)
    weights = rng.integers(0, 5, (2, COUNT * POSITIONS, 1)) ** 2 / 4
    return rng.integers(-255, 256, shape).astype(float), rng.integers(-999, 999, shape) / 256, weights


def chunks(weighted: bool, sides: int = 2) -> tuple[list[Array], wide_layers.Kept]:
    x, y, weights = inputs()

    def rows(_: int, first: int) -> Sides:
        taken = slice(first * POSITIONS, (first + CHUNK) * POSITIONS)
        return [side[:, taken] for side in (x, y)[:sides]], weights[:, taken] if weighted else None

    return wide_moments([0, 1], rows, CHUNK, COUNT)


@pytest.mark.parametrize("summed", [1, 20, 10_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_are_those_of_all_rows(weighted: bool, summed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide_layers, "SUMMED", summed)
    x, y, weights = inputs()
    ours = x * weights if weighted else x
    (hessian, cross), _ = chunks(weighted)
    # Exact: sums of quarters and of 1/1024 below 2^53 of them.
    np.testing.assert_array_equal(hessian, x.swapaxes(1, 2) @ ours)
    np.testing.assert_array_equal(cross, y.swapaxes(1, 2) @ ours)


def test_every_other_chunk_is_a_fold() -> None:
    x, y, weights = inputs()
    _, (first, second) = chunks(weighted=True)
    size = CHUNK * POSITIONS
    for found, side in zip(first, (x, y), strict=True):
        wanted = (side * np.sqrt(weights))[:, [*range(size), *range(2 * size, 3 * size)]]
        np.testing.assert_array_equal(found, wanted.astype(np.float32))
    assert second[0].shape[1] == COUNT * POSITIONS - 2 * size


def test_few_rows_are_kept_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide_layers, "ROWS", 5)
    _, kept = chunks(weighted=False)
    assert [x.shape[1] for x, _ in kept] == [6, 5]  # every sixth: 60 rows for two folds of five


def test_without_the_float_network_no_rows_are_kept() -> None:
    totals, kept = chunks(weighted=False, sides=1)
    assert len(totals) == 1
    assert kept == ()
