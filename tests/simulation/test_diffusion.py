"""Rules of papers on diffusion transformers where the right answer is known."""

from __future__ import annotations

import pytest
import torch

from edgeqwt.rounding.methods import Nearest
from edgeqwt.simulation.diffusion import Balanced, Grouped, Met, Rotated, SignedLog, hadamard, spearman
from edgeqwt.simulation.quantizers import Fitted, Uniform
from edgeqwt.simulation.weights import by_rows
from tests.simulation.test_quantizers import values

Tensor = torch.Tensor


def met(weights: Tensor, bits: int = 4) -> Met:
    return Met(weights, lambda rows: by_rows(rows, bits, Nearest()))


def test_balanced_channels_have_the_geometric_mean_in_both_operands() -> None:
    x = values(32, 6, 8) * torch.logspace(1, -1, 8)
    x = x.sign() * x.abs().amax((0, 1))  # each sample has the same salience
    weights = values(5, 8, seed=1)
    factors = Balanced().fit_layer(x, 8, met(weights)).factors
    assert factors is not None
    wanted = (x.abs().amax((0, 1)) * weights.abs().amax(0)).sqrt()
    torch.testing.assert_close((x / factors).abs().amax((0, 1)), wanted)
    torch.testing.assert_close((weights * factors).abs().amax(0), wanted)


def test_time_steps_count_by_how_little_their_channels_go_with_the_weights() -> None:
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    agrees, opposes = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([4.0, 3.0, 2.0, 1.0])
    x = torch.stack([agrees, opposes])[:, None]  # correlations of 1 and -1
    factors = Balanced().fit_layer(x, 8, met(weights)).factors
    assert factors is not None
    share = torch.tensor([-1.0, 1.0]).exp() / torch.tensor([-1.0, 1.0]).exp().sum()
    torch.testing.assert_close(factors, ((share[0] * agrees + share[1] * opposes) / weights[0]).sqrt())


def test_ranks_correlate_whatever_the_values() -> None:
    a = values(50)
    assert float(spearman(a, a.exp())) == pytest.approx(1)
    assert float(spearman(a, -(a**3))) == pytest.approx(-1)


def test_groups_become_finer_only_where_that_pays() -> None:
    alike, apart = values(40, 4, 64), values(40, 4, 64)
    apart[..., :16] *= 100
    weights = values(32, 64, seed=1)
    quiet = weights.clone()
    quiet[:, :16] /= 100  # the loud channels' share of the output is no larger
    rule = Grouped(sizes=(0, 32, 16), margin=0.5)
    assert rule.fit_layer(alike, 8, met(weights, 8)).group == 64
    found = rule.fit_layer(apart, 8, met(quiet, 8))
    assert found.group == 16
    whole = Grouped(sizes=(0,)).fit_layer(apart, 8, met(quiet, 8))
    assert met(quiet, 8).error(apart, found) < met(quiet, 8).error(apart, whole) / 10


@pytest.mark.parametrize("channels", [1, 3, 8, 12, 128])
def test_rotations_are_orthogonal(channels: int) -> None:
    torch.testing.assert_close(hadamard(channels) @ hadamard(channels).T, torch.eye(channels))


def test_inputs_are_rotated_where_outliers_spread_and_not_where_channels_are_exact() -> None:
    x = values(64, 4, 16)
    x[..., 3] = 20 * x[..., 3].sign()
    weights = values(8, 16, seed=1)
    rotated = Rotated().fit_layer(x, 4, met(weights, 8))
    assert rotated.rotation is not None
    assert met(weights, 8).error(x, rotated) < met(weights, 8).error(x, Uniform().fit(x, 4)) / 2
    steps = (values(64, 4, 16) * 3).round().clamp(-7, 7)  # integers already
    steps[..., 0] = -7
    steps[..., 1] = 8
    assert Rotated().fit_layer(steps, 4, met(weights, 8)).rotation is None


def test_what_factors_and_rotations_do_to_weights_is_undone() -> None:
    weights = values(5, 8).double()
    fitted = Fitted(lambda v: v, values(8, seed=1).abs() + 0.1, hadamard(8))
    torch.testing.assert_close(fitted.back(fitted.there(weights)), weights, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bits", [3, 4])
def test_signed_log_keeps_its_own_steps_with_a_scale_for_each_sign(bits: int) -> None:
    steps = 1.6 ** -torch.arange(2 ** (bits - 1), dtype=torch.float64)
    row = torch.cat([3 * steps, -0.7 * steps])[None]
    torch.testing.assert_close(SignedLog().round(row, bits), row)


def test_signed_log_on_few_values_errs_less_than_equal_steps_where_tails_are_long() -> None:
    rows = values(6, 4000).double() ** 3
    found = SignedLog().round(rows, 4)
    assert max(len(row.unique()) for row in found) <= 16
    assert bool(((found > 0) == (rows > 0)).all())
    equal = by_rows(rows, 4, Nearest())
    assert (found - rows).square().sum() < (equal - rows).square().sum() / 2
