"""Rounding rules on cases where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph.graph import Array
from edgeqwt.rounding import methods
from edgeqwt.rounding.least_squares import damped, loss, refitted
from edgeqwt.rounding.methods import Erq, Gptq, Layer, Nearest, RoundingRule

SCALE = np.array([[0.5, 0.25]])
SEEDS = range(4)


def layer(weights: Array, inputs: Array, scale: Array = SCALE, limit: int = 127, wanted: Array | None = None) -> Layer:
    """One group whose weights meet `inputs`, shape (samples, terms), and should have met `wanted`."""
    pull = None if wanted is None else (weights @ (wanted - inputs).T @ inputs)[None]
    return Layer(weights[None], scale, limit, (inputs.T @ inputs)[None], pull)


def hard(seed: int, noise: float = 0.0) -> tuple[Layer, Array, Array]:
    """Correlated inputs, 4-bit weights, free scales; the inputs, and what they should be but for some noise."""
    rng = np.random.default_rng(seed)
    wanted = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 32)) + 0.1 * rng.normal(size=(400, 32))
    inputs = wanted + noise * rng.normal(size=wanted.shape) * wanted.std(axis=0)
    weights = rng.normal(size=(16, 32))
    made = layer(weights, inputs, np.abs(weights).max(axis=1)[None] / 7, 7, wanted)
    free = (np.full(made.scale.shape, 1e-30), np.full(made.scale.shape, np.inf))
    return replace(made, bounds=free), inputs, wanted


def test_nearest() -> None:
    weights = np.array([[0.6, -0.6, 10.0], [0.13, 0.12, -9.0]])
    rounded = Nearest().round(layer(weights, np.eye(3), limit=7))
    np.testing.assert_array_equal(rounded.integers[0], [[1, -1, 7], [1, 0, -7]])
    np.testing.assert_array_equal(rounded.scale, SCALE)


@pytest.mark.parametrize("rule", [Gptq(damping=1e-6), Erq(damping=1e-6), Gptq(refine=True)])
def test_two_equal_inputs_share_the_error(rule: RoundingRule) -> None:
    # Both weights meet the same value, so only their sum counts: 0.3 + 0.3 = 0.6, nearest is 0.5, not 1.0.
    one = layer(np.array([[0.3, 0.3]]), np.ones((8, 2)), np.array([[0.5]]))
    assert rule.round(one).integers.sum() == 1
    assert Nearest().round(one).integers.sum() == 2


@pytest.mark.parametrize("rule", [Gptq(), Gptq(float_targets=True, scales=5, refine=True), Erq()])
def test_integers_stay_within_the_limit(rule: RoundingRule) -> None:
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(50, 8))
    rounded = rule.round(layer(rng.normal(size=(2, 8)) * 100, inputs, limit=7, wanted=1.5 * inputs))
    assert np.abs(rounded.integers).max() == 7


@pytest.mark.parametrize("rule", [Gptq(), Gptq(refine=True), Erq()])
def test_inputs_that_never_occur(rule: RoundingRule) -> None:
    weights = np.random.default_rng(3).normal(size=(2, 4))
    for inputs in (np.zeros((1, 4)), np.diag([2.0, 0.0, 0.0, 0.0])):
        one = layer(weights, inputs, wanted=inputs)
        np.testing.assert_array_equal(rule.round(one).integers, Nearest().round(one).integers)


@pytest.mark.parametrize("seed", SEEDS)
def test_searched_scales_never_lose_in_the_rules_own_objective(seed: int) -> None:
    one, _, _ = hard(seed)
    one = replace(one, pull=None)
    hessian = damped(one.hessian, 0.01)
    plain, searched, refined = (r.round(one) for r in (Gptq(), Gptq(scales=9), Gptq(scales=9, refine=True)))
    losses = [loss(one.weights, r.scale, r.integers, hessian) for r in (plain, searched, refined)]
    assert np.all(losses[1] <= losses[0])
    assert np.all(losses[2] <= losses[1])
    assert losses[1].sum() < 0.95 * losses[0].sum()  # and it is not for nothing


@pytest.mark.parametrize("limit", [7, 127])
@pytest.mark.parametrize("seed", SEEDS)
def test_channels_are_done_when_no_other_scale_suits_them(
    seed: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of all scales, each tried alone; at 8 bits by fewer of them, as narrow ones lose many times as much."""
    if limit == 127:
        monkeypatch.setattr(methods, "MANY", 1)
    one, _, _ = hard(seed)
    one = replace(one, pull=None, limit=limit, scale=one.scale * 7 / limit)
    hessian = damped(one.hessian, 0.01)
    widest = np.abs(one.weights).max(axis=2) / limit
    alone = [Gptq().round(replace(one, scale=scale * widest, bounds=None)) for scale in np.linspace(1, 0.6, 9)]
    losses = [loss(one.weights, r.scale, r.integers, hessian) for r in alone]
    found = Gptq(scales=9).round(one)
    np.testing.assert_allclose(loss(one.weights, found.scale, found.integers, hessian), np.min(losses, axis=0))


def test_scales_stay_where_they_cannot_change() -> None:
    one, _, _ = hard(0)
    np.testing.assert_array_equal(Gptq(scales=9).round(replace(one, bounds=None)).scale, one.scale)
    smallest = replace(one, bounds=(one.scale, 2 * one.scale))
    assert np.all(Gptq(scales=9).round(smallest).scale >= one.scale)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rule", [Gptq(float_targets=True), Gptq(float_targets=True, scales=5, refine=True), Erq()])
def test_float_targets_make_up_for_wrong_inputs(rule: RoundingRule, seed: int) -> None:
    """The output on the inputs that the layer gets comes closer to the float layer's on the right inputs."""
    one, inputs, wanted = hard(seed, noise=0.5)
    targets = wanted @ one.weights[0].T

    def error(found: RoundingRule, problem: Layer) -> float:
        rounded = found.round(problem)
        return float(np.square(inputs @ (rounded.integers * rounded.scale[..., None])[0].T - targets).sum())

    own = error(Gptq(), replace(one, pull=None))
    assert error(rule, one) < 0.9 * own
    # The real solution, without rounding, is the bound.
    assert one.pull is not None
    best = refitted(one.weights, one.hessian, one.pull, 1e-9)
    assert error(rule, one) > np.square(inputs @ best[0].T - targets).sum()


def test_every_rule_says_what_it_needs() -> None:
    for rule in (Nearest(), Gptq(), Erq()):
        assert rule.samples >= 1
        assert isinstance(rule.float_targets, bool)
