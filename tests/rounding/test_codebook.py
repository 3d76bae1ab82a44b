"""Codebooks of sub-vectors on cases where the answer is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from edgeqwt.graph.graph import Array
from edgeqwt.rounding.codebook import (
    LIMIT,
    Codebook,
    Fit,
    begun,
    calibrated,
    closest,
    in_integers,
    k_means,
    reassigned,
    refitted_codes,
)
from edgeqwt.rounding.methods import Layer

FREE = (np.full(24, 1e-30), np.full(24, np.inf))


def correlated(terms: int, seed: int = 0) -> Array:
    """The second moment of inputs of a few directions and some noise."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(200, 4)) @ rng.normal(size=(4, terms)) + 0.2 * rng.normal(size=(200, terms))
    return np.asarray(inputs.T @ inputs)


def start(length: int = 4, terms: int = 32, bits: int = 5, seed: int = 0) -> Fit:
    """Normal weights of 24 rows, codewords by k-means."""
    weights = np.random.default_rng(seed).normal(size=(24, terms))
    return begun(weights, correlated(terms, seed), FREE, Codebook(length=length, bits=bits))


def test_k_means_finds_exact_clusters() -> None:
    rng = np.random.default_rng(1)
    codes = rng.normal(size=(16, 3))
    vectors = codes[rng.permutation(np.repeat(np.arange(16), 9))]
    found, chosen = k_means(vectors, rng.uniform(0.5, 2, vectors.shape), 16, 5, seed=0)
    np.testing.assert_allclose(found[chosen], vectors, rtol=1e-12)  # means of equal numbers


def test_k_means_with_more_codewords_than_vectors() -> None:
    vectors = np.array([[1.0, 2.0], [3.0, 4.0]])
    found, chosen = k_means(vectors, np.ones_like(vectors), 8, 3, seed=0)
    np.testing.assert_array_equal(found[chosen], vectors)


def test_k_means_counts_errors_by_their_weights() -> None:
    # One codeword: the weighted mean, coordinate by coordinate.
    vectors, counts = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 3.0], [3.0, 1.0]])
    found, _ = k_means(vectors, counts, 1, 1, seed=0)
    np.testing.assert_allclose(found, [[0.75, 0.25]])
    # 0.6 is nearer to 1 in the first coordinate, which does not count.
    assert closest(np.array([[0.6, 0.1]]), np.array([[0.0, 1.0]]), vectors) == [0]


@pytest.mark.parametrize("length", [1, 3, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_no_step_of_the_calibration_raises_the_loss(length: int, seed: int) -> None:
    fit = start(length, seed=seed)
    losses = [fit.loss]
    for _ in range(4):
        fit = reassigned(fit)
        losses.append(fit.loss)
        fit = refitted_codes(fit)
        losses.append(fit.loss)
    # Relative: float64 sums of some thousand terms.
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(losses))
    assert losses[-1] < losses[0]


def test_codewords_are_the_least_squares_solution() -> None:
    fit = start(length=2, terms=8, bits=2)
    found = refitted_codes(fit)
    # The loss is a square in the codewords: at its least, no direction changes it to first order.
    slopes = []
    for k, j in product(range(4), range(2)):
        change = np.zeros_like(found.codes)
        change[k, j] = 1e-4
        more, less = (replace(found, codes=found.codes + sign * change).loss for sign in (1, -1))
        slopes.append((more - less) / 2e-4)
    before = replace(fit, codes=fit.codes).loss
    assert found.loss < before
    # 12 steps of conjugate gradients for 8 unknowns: exact but for rounding.
    np.testing.assert_allclose(slopes, 0, atol=1e-5 * before)


def test_one_piece_takes_the_best_codeword() -> None:
    fit = start(length=4, terms=4, bits=4)
    found = reassigned(fit)
    losses = [replace(fit, chosen=np.full_like(fit.chosen, k)) for k in range(16)]
    rows = [((one.error @ one.hessian) * one.error).sum(axis=1) for one in losses]
    np.testing.assert_array_equal(found.chosen[:, 0], np.argmin(rows, axis=0))


@pytest.mark.parametrize("length", [3, 4, 5])
def test_a_layer_of_few_sub_vectors_is_exact(length: int) -> None:
    # Weights that are scales times integer codewords are met but for the scale's own rounding.
    rng = np.random.default_rng(2)
    codes = rng.integers(-LIMIT, LIMIT + 1, (6, length)).astype(float)
    codes[0, 0] = LIMIT
    whole = codes[rng.integers(0, 6, (24, 16))].reshape(24, -1)
    weights = whole * 0.01
    layer = Layer(weights[None], np.full((1, 24), 0.02), LIMIT, correlated(weights.shape[1])[None])
    free = replace(layer, bounds=(FREE[0][None], FREE[1][None]))
    found = Codebook(length=length, bits=8, smallest=1, float_targets=False).round(free)
    # Rows have different root mean squares and so different scales: codewords times those, 127 steps each.
    error = found.integers[0] * found.scale[0][:, None] - weights
    assert np.square(error).sum() < 1e-4 * np.square(weights).sum()


@pytest.mark.parametrize("length", [3, 4])
def test_integers_are_few_sub_vectors_within_the_limits(length: int) -> None:
    fit = start(length, terms=32, bits=4)
    bounds = np.full(24, 1e-3), np.full(24, 0.02)
    found = in_integers(calibrated(fit, 2), bounds, 2)
    assert len(found.codes) == 16
    assert np.abs(found.codes).max() <= LIMIT
    np.testing.assert_array_equal(found.codes, np.rint(found.codes))
    assert ((found.scale >= bounds[0]) & (found.scale <= bounds[1])).all()


def test_better_than_as_many_bits_in_equal_steps() -> None:
    rng = np.random.default_rng(3)
    weights, hessian = rng.normal(size=(64, 64)), correlated(64)
    bounds = np.full((1, 64), 1e-30), np.full((1, 64), np.inf)
    layer = Layer(weights[None], np.full((1, 64), 0.02), LIMIT, hessian[None], bounds=bounds)
    found = Codebook(length=4, smallest=1, float_targets=False).round(layer)
    scale = np.abs(weights).max(axis=1)[:, None] / 1
    equal = np.clip(np.rint(weights / scale), -1, 1) * scale
    losses = [
        ((e @ hessian) * e).sum() for e in (found.integers[0] * found.scale[0][:, None] - weights, equal - weights)
    ]
    assert losses[0] < 0.1 * losses[1]


def test_small_layers_are_rounded_to_nearest() -> None:
    weights = np.random.default_rng(0).normal(size=(1, 4, 8))
    scale = np.abs(weights).max(axis=2) / LIMIT
    layer = Layer(weights, scale, LIMIT, np.eye(8)[None], bounds=(scale, scale))
    found = Codebook(float_targets=False).round(layer)
    np.testing.assert_array_equal(found.integers, np.rint(weights / scale[..., None]))


def test_same_seed_same_integers() -> None:
    first, second = (in_integers(calibrated(start(), 2), FREE, 1) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.scale, second.scale)
