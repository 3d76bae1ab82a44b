"""Rounding rules on cases where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Array
from edgeqwt.quantize.rounding import Gptq, Nearest

SCALE = np.array([0.5, 0.25])


def loss(weights: Array, integers: Array, scale: Array, hessian: Array) -> float:
    """Squared change of the outputs over the inputs that the Hessian sums up."""
    error = weights - integers * scale[:, None]
    return float(np.einsum("ct,ts,cs->", error, hessian, error))


def test_nearest() -> None:
    weights = np.array([[0.6, -0.6, 10.0], [0.13, 0.12, -9.0]])
    expected = [[1, -1, 7], [1, 0, -7]]
    np.testing.assert_array_equal(Nearest().round(weights, SCALE, np.eye(3), 7), expected)


def test_independent_inputs_leave_nothing_to_make_up_for() -> None:
    weights = np.random.default_rng(1).normal(size=(2, 9))
    hessian = np.diag(np.arange(1.0, 10.0))
    rounded = Gptq(damping=0.0).round(weights, SCALE, hessian, 127)
    np.testing.assert_array_equal(rounded, Nearest().round(weights, SCALE, hessian, 127))


def test_two_equal_inputs_share_the_error() -> None:
    # Both weights meet the same value, so only their sum counts: 0.3 + 0.3 = 0.6, nearest is 0.5, not 1.0.
    x = np.ones((8, 2))
    rounded = Gptq(damping=1e-6).round(np.array([[0.3, 0.3]]), np.array([0.5]), x.T @ x, 127)
    assert rounded.sum() == 1
    assert Nearest().round(np.array([[0.3, 0.3]]), np.array([0.5]), x.T @ x, 127).sum() == 2


@pytest.mark.parametrize("seed", range(5))
def test_correlated_inputs_lose_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 32)) + 0.1 * rng.normal(size=(400, 32))
    hessian, weights = inputs.T @ inputs, rng.normal(size=(16, 32))
    scale = np.abs(weights).max(axis=1) / 7
    losses = [loss(weights, rule.round(weights, scale, hessian, 7), scale, hessian) for rule in (Nearest(), Gptq())]
    # Six of 32 directions carry nearly all of the inputs; the others are free to take the errors.
    assert losses[1] < losses[0] / 2


def test_integers_stay_within_the_limit() -> None:
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(50, 8))
    rounded = Gptq().round(rng.normal(size=(2, 8)) * 100, SCALE, inputs.T @ inputs, 7)
    assert np.abs(rounded).max() == 7


def test_inputs_that_never_occur() -> None:
    weights = np.random.default_rng(3).normal(size=(2, 4))
    nothing = np.zeros((4, 4))
    np.testing.assert_array_equal(
        Gptq().round(weights, SCALE, nothing, 127), Nearest().round(weights, SCALE, nothing, 127)
    )
    once = np.diag([4.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(Gptq().round(weights, SCALE, once, 127), Nearest().round(weights, SCALE, once, 127))
