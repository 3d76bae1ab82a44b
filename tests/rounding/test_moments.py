"""Moments of what a layer reads, and the rows that are kept of wide layers."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Array
from edgeqwt.rounding import moments as module
from edgeqwt.rounding.moments import Moments, Rows, moments

CHUNK, COUNT, POSITIONS, TERMS, CHANNELS = 3, 11, 50, 13, 4


def inputs() -> tuple[Array, Array, Array]:
    """Rows x, what is missing, and weights of all samples; whole numbers, as x is in steps."""
    rng = np.random.default_rng(0)
    rows = COUNT * POSITIONS
    weights = rng.integers(0, 5, (2, rows, 1)) ** 2 / 4
    return rng.integers(-255, 256, (2, rows, TERMS)), rng.integers(-9, 9, (2, rows, CHANNELS)) / 4, weights


def found(weighted: bool, asked: bool = True, workers: int = 2) -> Moments:
    x, missing, weights = inputs()

    def rows(_: int, first: int) -> Rows:
        taken = slice(first * POSITIONS, (first + CHUNK) * POSITIONS)
        counted = weights[:, taken] if weighted else None
        return Rows(x[:, taken].astype(np.float32), missing[:, taken].astype(np.float32) if asked else None, counted)

    return moments([*range(workers)], rows, CHUNK, COUNT)


@pytest.mark.parametrize("threaded", [1, module.THREADED])
@pytest.mark.parametrize("wide", [1, module.WIDE])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_are_those_of_all_rows(weighted: bool, wide: int, threaded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDE", wide)
    monkeypatch.setattr(module, "THREADED", threaded)
    x, missing, weights = inputs()
    ours = x * weights if weighted else x
    result = found(weighted)
    assert result.pull is not None
    if weighted:  # float32 sums of at most 256 products
        np.testing.assert_allclose(result.hessian, x.swapaxes(1, 2) @ ours, atol=2.0**-16 * 255**2 * 4 * x.shape[1])
    else:  # exact, although float32 holds no larger integers than 2^24: the diagonal reaches 10^7
        np.testing.assert_array_equal(result.hessian, x.swapaxes(1, 2) @ ours)
    assert np.array_equal(result.hessian, result.hessian.swapaxes(1, 2))
    np.testing.assert_allclose(result.pull, missing.swapaxes(1, 2) @ ours, rtol=1e-4, atol=1)


def test_folds_are_every_other_chunk_and_sum_to_the_whole() -> None:
    x, missing, _ = inputs()
    result, size = found(weighted=False), CHUNK * POSITIONS
    first = np.r_[0:size, 2 * size : 3 * size]
    np.testing.assert_array_equal(result.folds[0][0], x[:, first].swapaxes(1, 2) @ x[:, first])
    np.testing.assert_array_equal(result.folds[0][0] + result.folds[1][0], result.hessian)
    assert missing.shape[-1] == result.folds[1][1].shape[1]


def test_same_sums_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "THREADED", 1)
    one, three = found(weighted=True, workers=1), found(weighted=True, workers=3)
    np.testing.assert_array_equal(one.hessian, three.hessian)


def test_rows_of_wide_layers_are_kept_by_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDE", 1)
    x, missing, weights = inputs()
    (first, second), size = found(weighted=True).rows, CHUNK * POSITIONS
    taken = np.r_[0:size, 2 * size : 3 * size]
    for kept, side in zip(first, (x, missing), strict=True):
        np.testing.assert_allclose(kept, (side * np.sqrt(weights))[:, taken], rtol=1e-6)
    assert second[0].shape[1] == COUNT * POSITIONS - 2 * size


def test_few_rows_are_kept_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WIDE", 1)
    monkeypatch.setattr(module, "ROWS", 50)
    assert [x.shape[1] for x, _ in found(weighted=False).rows] == [50, 42]  # every sixth of 300 and of 250


def test_without_the_float_network_there_is_no_pull() -> None:
    result = found(weighted=False, asked=False)
    assert (result.pull, result.folds, result.rows) == (None, (), ())
