"""Rounding's mathematics on small problems whose answer is known, or can be found in another way."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from edgeqwt.graph.graph import Array
from edgeqwt.rounding.least_squares import (
    Method,
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
    found = refitted(weights, moment(inputs), weights @ (wanted - inputs) @ inputs.swapaxes(-1, -2), share=0.05)
    for w, x, y, solution in zip(weights, inputs, wanted, found, strict=True):
        ridge = np.sqrt(0.05 * np.square(x).sum() / len(x))  # the mean diagonal of x x^T is the sum over len(x)
        left = np.concatenate([x.T, ridge * np.eye(len(x))])
        right = np.concatenate([(w @ y).T, ridge * w.T])
        # Both solve equations with a condition number below 1e5 in float64.
        np.testing.assert_allclose(solution.T, np.linalg.lstsq(left, right)[0], atol=1e-9)


def test_right_inputs_need_no_refitting() -> None:
    weights, _, inputs = problem(0)
    np.testing.assert_array_equal(refitted(weights, moment(inputs), np.zeros_like(weights), 0.1), weights)


def test_inputs_at_half_their_size_double_the_weights() -> None:
    weights, _, inputs = problem(0)
    found = refitted(weights, moment(inputs), weights @ moment(inputs), share=1e-9)
    # The ridge takes back a share of 1e-9 * (mean eigenvalue / smallest eigenvalue), here below 1e-6.
    np.testing.assert_allclose(found, 2 * weights, atol=1e-5)


def test_damping() -> None:
    hessian = np.stack([np.diag([1.0, 3.0]), np.zeros((2, 2))])
    np.testing.assert_array_equal(damped(hessian, 0.5), [np.diag([2.0, 4.0]), np.eye(2)])


@pytest.mark.parametrize("method", [one_by_one, half_by_half])
def test_independent_inputs_leave_nothing_to_make_up_for(method: Callable[[Array], Method]) -> None:
    weights, scale, _ = problem(1)
    hessian = np.stack([np.diag(np.arange(1.0, 13.0))] * 2)
    np.testing.assert_array_equal(method(hessian)(weights, scale, 7)[0], nearest(weights, scale, 7))


@pytest.mark.parametrize("method", [one_by_one, half_by_half])
@pytest.mark.parametrize("seed", SEEDS)
def test_correlated_inputs_lose_less(method: Callable[[Array], Method], seed: int) -> None:
    weights, scale, inputs = problem(seed, channels=16, terms=32)
    hessian = damped(moment(inputs), 0.01)
    rounded, said = method(hessian)(weights, scale, 7)
    found = nearest(weights, scale, 7), rounded
    before, after = (loss(weights, scale, integers, hessian).sum() for integers in found)
    # Sums of 32 products each, and a condition number below 1e4.
    np.testing.assert_allclose(said, loss(weights, scale, rounded, hessian), rtol=1e-10)
    # Four of 32 directions carry nearly all of the inputs; the others are free to take the errors.
    assert after < before / 2


@pytest.mark.parametrize("method", [one_by_one, half_by_half])
def test_each_group_by_itself(method: Callable[[Array], Method]) -> None:
    weights, scale, inputs = problem(2, groups=3)
    hessian = damped(moment(inputs), 0.01)
    together, _ = method(hessian)(weights, scale, 7)
    for g in range(3):
        alone, _ = method(hessian[g : g + 1])(weights[g : g + 1], scale[g : g + 1], 7)
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
    np.testing.assert_array_equal(one_by_one(hessian)(weights, scale, 7)[0][0, 0], expected)


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
    found = fitted_scale(integers, weights @ hessian, integers @ hessian, scale)
    least = loss(weights, found, integers, hessian)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert np.all(loss(weights, factor * found, integers, hessian) > least)


def test_channels_without_a_best_scale_keep_theirs() -> None:
    weights, hessian = np.array([[[1.0, 1.0], [1.0, 1.0]]]), np.eye(2)[None]
    integers = np.array([[[0.0, 0.0], [-1.0, -1.0]]])
    found = fitted_scale(integers, weights @ hessian, integers @ hessian, np.full((1, 2), 3.0))
    np.testing.assert_array_equal(found, [[3.0, 3.0]])


def test_loss_is_the_squared_change_of_the_outputs() -> None:
    weights, scale, inputs = problem(0)
    integers = nearest(weights, scale, 7)
    change = (integers * scale[..., None] - weights) @ inputs
    np.testing.assert_allclose(loss(weights, scale, integers, moment(inputs)), np.square(change).sum(axis=2))
