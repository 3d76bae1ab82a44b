"""Rounding's mathematics on small problems whose answer is known, or can be found in another way."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from edgeqwt.graph.graph import Array
from edgeqwt.rounding import least_squares
from edgeqwt.rounding.least_squares import (
    Method,
    best_ridge,
    best_ridge_of_rows,
    damped,
    fitted_scale,
    half_by_half,
    loss,
    nearest,
    one_by_one,
    refined,
    refitted,
)

SEEDS = range(4)


def problem(seed: int, groups: int = 2, channels: int = 5, terms: int = 12, rank: int = 4) -> tuple[Array, ...]:
    """Weights, 4-bit scales, and inputs (groups, terms, samples) that correlate."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(groups, channels, terms))
    inputs = rng.normal(size=(groups, terms, rank)) @ rng.normal(size=(groups, rank, 200))
    inputs += 0.2 * rng.normal(size=inputs.shape)
    return weights, np.abs(weights).max(axis=2) / 7, inputs


def moment(inputs: Array) -> Array:
    return inputs @ inputs.swapaxes(-1, -2)


@pytest.mark.parametrize("seed", SEEDS)
def test_refitted_is_the_least_squares_solution_of_the_stacked_system(seed: int) -> None:
    """||W' X - W Y||^2 + l ||W' - W||^2 is one system: [X, sqrt(l) I]^T W'^T = [W Y, sqrt(l) W]^T."""
    weights, _, inputs = problem(seed)
    wanted = inputs + 0.3 * np.random.default_rng(100 + seed).normal(size=inputs.shape)
    found = refitted(weights, moment(inputs), wanted @ inputs.swapaxes(-1, -2), share=0.05)
    for w, x, y, solution in zip(weights, inputs, wanted, found, strict=True):
        ridge = np.sqrt(0.05 * np.square(x).sum() / len(x))  # the mean diagonal of x x^T is the sum over len(x)
        left = np.concatenate([x.T, ridge * np.eye(len(x))])
        right = np.concatenate([(w @ y).T, ridge * w.T])
        # Both solve equations with a condition number below 1e5 in float64.
        np.testing.assert_allclose(solution.T, np.linalg.lstsq(left, right)[0], atol=1e-9)


def test_right_inputs_need_no_refitting() -> None:
    weights, _, inputs = problem(0)
    np.testing.assert_allclose(refitted(weights, moment(inputs), moment(inputs), 0.1), weights, atol=1e-12)


def test_inputs_at_half_their_size_double_the_weights() -> None:
    weights, _, inputs = problem(0)
    found = refitted(weights, moment(inputs), 2 * moment(inputs), share=1e-9)
    # The ridge takes back a share of 1e-9 * (mean eigenvalue / smallest eigenvalue), here below 1e-6.
    np.testing.assert_allclose(found, 2 * weights, atol=1e-5)


def test_damping() -> None:
    hessian = np.stack([np.diag([1.0, 3.0]), np.zeros((2, 2))])
    np.testing.assert_array_equal(damped(hessian, 0.5), [np.diag([2.0, 4.0]), np.eye(2)])


@pytest.mark.parametrize("method", [one_by_one, half_by_half])
def test_independent_inputs_leave_nothing_to_make_up_for(method: Callable[[Array], Method]) -> None:
    weights, scale, _ = problem(1)
    hessian = np.stack([np.diag(np.arange(1.0, 13.0))] * 2)
    np.testing.assert_array_equal(method(hessian)(weights, scale, 7), nearest(weights, scale, 7))


@pytest.mark.parametrize("method", [one_by_one, half_by_half])
@pytest.mark.parametrize("seed", SEEDS)
def test_correlated_inputs_lose_less(method: Callable[[Array], Method], seed: int) -> None:
    weights, scale, inputs = problem(seed, channels=16, terms=32)
    hessian = damped(moment(inputs), 0.01)
    found = nearest(weights, scale, 7), method(hessian)(weights, scale, 7)
    before, after = (loss(weights, scale, integers, hessian).sum() for integers in found)
    # Four of 32 directions carry nearly all of the inputs; the others are free to take the errors.
    assert after < before / 2


@pytest.mark.parametrize("method", [one_by_one, half_by_half])
def test_each_group_by_itself(method: Callable[[Array], Method]) -> None:
    weights, scale, inputs = problem(2, groups=3)
    hessian = damped(moment(inputs), 0.01)
    together = method(hessian)(weights, scale, 7)
    for g in range(3):
        alone = method(hessian[g : g + 1])(weights[g : g + 1], scale[g : g + 1], 7)
        np.testing.assert_array_equal(together[g], alone[0])


def test_one_by_one_follows_the_inverse_hessian() -> None:
    """Optimal Brain Surgeon by its definition: after each rounding the rest moves by the constrained optimum."""
    weights, scale, inputs = problem(3, groups=1, channels=1, terms=6)
    hessian = damped(moment(inputs), 0.01)
    real, free, expected = weights[0, 0].copy(), list(np.argsort(-np.diag(hessian[0]))), np.zeros(6)
    while free:
        k, *rest = free
        expected[k] = np.clip(np.rint(real[k] / scale[0, 0]), -7, 7)
        inverse = np.linalg.inv(hessian[0][np.ix_(free, free)])
        real[rest] -= (real[k] - expected[k] * scale[0, 0]) / inverse[0, 0] * inverse[0, 1:]
        free = rest
    np.testing.assert_array_equal(one_by_one(hessian)(weights, scale, 7)[0, 0], expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_refined_never_loses_and_leaves_no_better_step(seed: int) -> None:
    weights, scale, inputs = problem(seed)
    hessian = damped(moment(inputs), 0.01)
    start = nearest(weights, scale, 7)
    found = refined(weights, scale, start, hessian, 7)
    least = loss(weights, scale, found, hessian)
    assert np.all(least <= loss(weights, scale, start, hessian))
    assert np.abs(found).max() <= 7
    for term, step in itertools.product(range(weights.shape[2]), (-1, 1)):
        moved = found.copy()
        moved[:, :, term] += step
        inside = np.abs(moved[:, :, term]) <= 7
        assert np.all((loss(weights, scale, moved, hessian) >= least * (1 - 1e-9)) | ~inside)


def test_refined_finds_the_best_of_two_equal_inputs() -> None:
    # Only the sum counts, and 0.3 + 0.3 is nearer to 0.5 than to 1.
    hessian = np.ones((1, 2, 2))
    found = refined(np.full((1, 1, 2), 0.3), np.full((1, 1), 0.5), np.ones((1, 1, 2)), hessian, 7)
    assert found.sum() == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_no_scale_is_better_than_the_fitted_one(seed: int) -> None:
    weights, scale, inputs = problem(seed)
    hessian, integers = moment(inputs), nearest(weights, scale, 7)
    found = fitted_scale(weights, integers, hessian, scale)
    least = loss(weights, found, integers, hessian)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert np.all(loss(weights, factor * found, integers, hessian) > least)


def test_channels_without_a_best_scale_keep_theirs() -> None:
    weights, hessian = np.array([[[1.0, 1.0], [1.0, 1.0]]]), np.eye(2)[None]
    integers = np.array([[[0.0, 0.0], [-1.0, -1.0]]])
    np.testing.assert_array_equal(fitted_scale(weights, integers, hessian, np.full((1, 2), 3.0)), [[3.0, 3.0]])


def test_loss_is_the_squared_change_of_the_outputs() -> None:
    weights, scale, inputs = problem(0)
    integers = nearest(weights, scale, 7)
    change = (integers * scale[..., None] - weights) @ inputs
    np.testing.assert_allclose(loss(weights, scale, integers, moment(inputs)), np.square(change).sum(axis=2))


SHARES = (0.01, 0.1, 1.0, 10.0)


def folds(seed: int, noise: float, half: float) -> tuple[Array, list[tuple[Array, Array]]]:
    """Weights, and two folds' moments where inputs are the float network's, times `half`, with noise."""
    weights, _, inputs = problem(seed)
    rng = np.random.default_rng(200 + seed)
    found = []
    for part in np.split(inputs, 2, axis=2):
        ours = half * part + noise * rng.normal(size=part.shape)
        found.append((moment(ours), part @ ours.swapaxes(-1, -2)))
    return weights, found


def test_what_every_fold_says_is_believed() -> None:
    assert best_ridge(*folds(0, noise=0.0, half=0.5), SHARES) == SHARES[0]


def test_without_an_error_weights_stay() -> None:
    weights, parts = folds(0, noise=0.0, half=1.0)
    assert best_ridge(weights, parts, SHARES) == SHARES[-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_chosen_ridge_errs_least_on_the_other_fold(seed: int) -> None:
    weights, (first, second) = folds(seed, noise=0.5, half=0.9)

    def error(share: float) -> float:
        total = 0.0
        for (hessian, cross), (other, aim) in ((first, second), (second, first)):
            moved = refitted(weights, hessian, cross, share)
            total += float(np.einsum("gct,gtu,gcu->", moved, other, moved) - 2 * (weights @ aim * moved).sum())
        return total

    chosen = best_ridge(weights, (first, second), SHARES)
    assert error(chosen) <= min(map(error, SHARES)) + 1e-9 * abs(error(chosen))


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_rows_choose_the_ridge_that_their_moments_choose(seed: int, noise: float) -> None:
    weights, _, inputs = problem(seed)
    rng = np.random.default_rng(300 + seed)
    rows = []
    for part in np.split(inputs, 25, axis=2)[:2]:  # fewer than terms
        ours = 0.9 * part + noise * rng.normal(size=part.shape)
        rows.append((ours.swapaxes(1, 2), part.swapaxes(1, 2)))
    moments = [(moment(x.swapaxes(1, 2)), y.swapaxes(1, 2) @ x) for x, y in rows]
    assert best_ridge_of_rows(weights, rows, SHARES) == best_ridge(weights, moments, SHARES)


def test_rows_of_zeros_choose_a_ridge() -> None:
    weights, *_ = problem(0)
    nothing = np.zeros((2, 5, 12))
    assert best_ridge_of_rows(weights, [(nothing, nothing)] * 2, SHARES) == SHARES[-1]


def test_triangles_are_inverted_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "WIDE", 8)
    upper = np.triu(np.random.default_rng(0).normal(size=(2, 37, 37))) + 20 * np.eye(37)
    found = least_squares._upper_inverse(upper)
    # Condition numbers of about 2, and products of 37 terms.
    np.testing.assert_allclose(found @ upper, np.broadcast_to(np.eye(37), upper.shape), atol=100 * 2.0**-52)
    assert np.array_equal(found, np.triu(found))
