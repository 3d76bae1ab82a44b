"""Corrections of studies where the right answer is known."""

from __future__ import annotations

import pytest
import torch

from edgeqwt.simulation.corrections import Correction, Cwac, Linear, LowRank, Offset, confirmed


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, Y = values(12, 5, 6), values(12, 5, 4, seed=1)
GAIN, OFFSET = torch.tensor([0.5, 1.0, 2.0, -1.0]), torch.tensor([1.0, 0.0, -3.0, 2.0])


def test_an_affine_error_is_taken_away_whole() -> None:
    wanted = Y * GAIN + OFFSET
    found = Cwac().fit(X, Y, wanted)
    assert torch.allclose(found.apply(X, Y), wanted, atol=1e-5)
    assert found.parameters == 0
    offset = Offset().fit(X, Y, Y + OFFSET)
    assert torch.allclose(offset.apply(X, Y), Y + OFFSET, atol=1e-5)
    ratio = Cwac(ratio=True).fit(X, Y, Y * GAIN.abs())
    assert torch.allclose(ratio.apply(X, Y), Y * GAIN.abs(), atol=1e-5)


def test_noise_shrinks_the_gain_of_least_squares_and_not_that_of_deviations() -> None:
    noisy = Y + 0.5 * values(*Y.shape, seed=2)
    squares, ratio = (rule.fit(X, noisy, Y).apply(X, noisy) for rule in (Cwac(), Cwac(ratio=True)))
    assert (squares - Y).square().mean() < (ratio - Y).square().mean()  # what least squares is for
    assert torch.allclose(ratio.flatten(0, 1).std(0), Y.flatten(0, 1).std(0), rtol=1e-3)


def test_an_error_that_is_linear_in_the_input_is_taken_away() -> None:
    matrix = values(6, 4, seed=3)
    wanted = Y + X @ matrix + OFFSET
    found = Linear(ridge=1e-9).fit(X, Y, wanted)
    assert torch.allclose(found.apply(X, Y), wanted, atol=1e-4)
    assert found.parameters == 6 * 4 + 4


def test_low_rank_takes_away_an_error_of_that_rank_and_no_more() -> None:
    thin = values(6, 1, seed=4) @ values(1, 4, seed=5)
    wanted = Y + X @ thin
    found = LowRank(rank=1, ridge=1e-9).fit(X, Y, wanted)
    assert torch.allclose(found.apply(X, Y), wanted, atol=1e-4)
    assert found.parameters == 6 + 4
    full = Y + X @ values(6, 4, seed=6)
    assert not torch.allclose(LowRank(rank=1, ridge=1e-9).fit(X, Y, full).apply(X, Y), full, atol=1e-1)


@pytest.mark.parametrize("rule", [Offset(), Cwac(), LowRank(), Linear()])
def test_what_the_samples_that_confirm_do_not_bear_out_is_dropped(rule: Correction) -> None:
    wanted = Y.clone()
    fits = torch.arange(len(Y)) % 4 != 1
    wanted[fits] += 5.0  # an error that only the samples to fit on have
    assert confirmed(rule, X, Y, wanted) is None
    assert confirmed(rule, X[:1], Y[:1], wanted[:1]) is None  # nothing confirms
    assert confirmed(rule, X, Y, Y + OFFSET) is not None
