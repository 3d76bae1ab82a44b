"""Ridges that cross-validation chooses."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Array
from edgeqwt.rounding import ridge
from edgeqwt.rounding.least_squares import refitted
from edgeqwt.rounding.ridge import best_ridge, best_ridge_of_rows
from tests.rounding.test_least_squares import SEEDS, moment, problem

SHARES = (0.01, 0.1, 1.0, 10.0)


def folds(seed: int, noise: float, half: float, terms: int = 12) -> tuple[Array, list[tuple[Array, Array]]]:
    """Weights, and two folds' moments where inputs are the float network's, times `half`, with noise."""
    weights, _, inputs = problem(seed, terms=terms)
    rng = np.random.default_rng(200 + seed)
    found = []
    for part in np.split(inputs, 2, axis=2):
        ours = half * part + noise * rng.normal(size=part.shape)
        found.append((moment(ours), weights @ (part - ours) @ ours.swapaxes(-1, -2)))
    return weights, found


def test_what_every_fold_says_is_believed() -> None:
    assert best_ridge(folds(0, noise=0.0, half=0.5)[1], SHARES) == SHARES[0]


def test_without_an_error_weights_stay() -> None:
    assert best_ridge(folds(0, noise=0.0, half=1.0)[1], SHARES) == SHARES[-1]


@pytest.mark.parametrize("small", [ridge.SMALL, 0])
@pytest.mark.parametrize("terms", [12, 100])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_chosen_ridge_errs_least_on_the_other_fold(
    seed: int, terms: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ridge, "SMALL", small)
    weights, (first, second) = folds(seed, noise=0.5, half=0.9, terms=terms)

    def error(share: float) -> float:
        total = 0.0
        for (hessian, pull), (other, aim) in ((first, second), (second, first)):
            change = refitted(weights, hessian, pull, share) - weights
            total += float(np.einsum("gct,gtu,gcu->", change, other, change) - 2 * (aim * change).sum())
        return total

    chosen = best_ridge((first, second), SHARES)
    assert error(chosen) <= min(map(error, SHARES)) + 1e-9 * abs(error(chosen))


def test_a_krylov_space_of_few_directions_is_exact_where_the_inputs_have_no_more() -> None:
    weights, [(hessian, pull), _] = folds(0, noise=0.0, half=0.9, terms=60)
    ridges = [np.full(len(hessian), value) for value in (1.0, 100.0)]
    found = ridge._krylov(lambda q: q @ hessian, pull, ridges)
    for change, value in zip(found, ridges, strict=True):
        wanted = np.linalg.solve(hessian + value[0] * np.eye(60), pull.swapaxes(1, 2)).swapaxes(1, 2)
        # 64 directions, and rounding of sums of 60 products at condition numbers up to 1e4.
        np.testing.assert_allclose(change, wanted, atol=1e-6 * np.abs(wanted).max())
    assert weights.shape == found[0].shape


def test_mixtures_of_channels_have_their_squares_in_the_mean() -> None:
    signs = ridge._mixtures(100)
    values = np.random.default_rng(0).normal(size=(100, 4000))
    # 16 mixtures of 4000 values each; the mean square of one deviates by sqrt(2 / (16 * 4000)), about half a percent.
    assert abs(np.square(signs @ values).sum() / np.square(values).sum() - 1) < 0.03
    np.testing.assert_array_equal(ridge._mixtures(5), np.eye(5))


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_rows_choose_the_ridge_that_their_moments_choose(seed: int, noise: float) -> None:
    weights, _, inputs = problem(seed)
    rng = np.random.default_rng(300 + seed)
    rows = []
    for part in np.split(inputs, 25, axis=2)[:2]:  # fewer than terms
        ours = 0.9 * part + noise * rng.normal(size=part.shape)
        rows.append((ours.swapaxes(1, 2), (part - ours).swapaxes(1, 2) @ weights.swapaxes(1, 2)))
    moments = [(x.swapaxes(1, 2) @ x, e.swapaxes(1, 2) @ x) for x, e in rows]
    assert best_ridge_of_rows(rows, SHARES) == best_ridge(moments, SHARES)


def test_rows_of_zeros_choose_a_ridge() -> None:
    nothing = np.zeros((2, 5, 12)), np.zeros((2, 5, 3))
    assert best_ridge_of_rows([nothing] * 2, SHARES) == SHARES[-1]
