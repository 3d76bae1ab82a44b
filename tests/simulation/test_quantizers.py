"""Quantizers of studies where the right answer is known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from edgeqwt.simulation.methods import METHODS
from edgeqwt.simulation.quantizers import (
    Dynamic,
    Focused,
    Logarithmic,
    Noisy,
    Quantizer,
    Reparameterized,
    Smoothed,
    Tangent,
    TwoRanges,
    Uniform,
    uniform,
)
from edgeqwt.simulation.sites import Role

Tensor = torch.Tensor


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(seed: int = 0) -> Tensor:
    return (3 * values(8, 6, 6, seed=seed)).softmax(-1)


def test_uniform_steps_are_where_the_formula_has_them() -> None:
    low, high = torch.tensor(-1.0), torch.tensor(2.0)  # 2 bits: a step of 1, the integer of 0 is 1
    x = torch.tensor([-3.0, -1.0, -0.4, 0.0, 0.6, 1.4, 9.0])
    assert uniform(x, low, high, 2).tolist() == [-1, -1, 0, 0, 1, 1, 2]


def test_the_extremes_are_kept_by_minmax_and_given_up_where_that_errs_less() -> None:
    x = torch.cat([values(10_000), torch.tensor([60.0])])[None]
    minmax, mse = (Uniform(search).fit(x, 4).rounds(x) for search in ("minmax", "mse"))  # type: ignore[arg-type]
    assert minmax.max() == pytest.approx(60, abs=2)
    assert (mse - x)[:, :-1].square().mean() < (minmax - x)[:, :-1].square().mean() / 2
    cosine = Uniform("cosine").fit(x, 4).rounds(x)
    angle = [torch.nn.functional.cosine_similarity(x, found).item() for found in (cosine, minmax, mse)]
    assert angle[0] >= max(angle[1:])  # what it looks for


@pytest.mark.parametrize(
    ("rule", "along"),
    [
        (Uniform("minmax"), None),
        (Uniform("percentile"), None),
        (Uniform("mse", "position"), 1),
        (Uniform("cosine", "channel"), 2),
        (Reparameterized(), 2),
        (Reparameterized("median", "mse"), 2),
        (Smoothed(), 2),
        (Noisy(), 2),
        (TwoRanges(), None),
        (Focused(), None),
    ],
)
@pytest.mark.parametrize("bits", [3, 4])
def test_no_more_values_than_the_bits_can_tell_apart(rule: Quantizer, along: int | None, bits: int) -> None:
    x = values(20, 6, 8) * torch.linspace(0.1, 4, 8)
    found = rule.fit(x, bits).rounds(x)
    parts = [found] if along is None else found.unbind(along)
    # Floats that differ in their last bits are one value; a zero between two ranges has two integers.
    assert max(len(part.mul(1e5).round().unique()) for part in parts) <= 2**bits
    assert (found - x).square().mean() < x.square().mean()


@pytest.mark.parametrize("rule", [Logarithmic(), Logarithmic(2.0), Tangent(), TwoRanges(), Focused()])
def test_attention_weights_on_few_values(rule: Quantizer) -> None:
    x = attention()
    found = rule.fit(x, 4).rounds(x)
    assert len(found.unique()) <= 16
    assert found.min() >= 0
    assert found.max() <= x.max() + 1e-6


def test_logarithmic_steps_keep_powers_of_their_base() -> None:
    exact = torch.tensor([[2.0 * 2 ** (-k / 2) for k in range(16)]])
    assert torch.allclose(Logarithmic().fit(exact, 4).rounds(exact), exact, rtol=1e-5)
    shifted = exact - 0.17
    assert torch.allclose(Logarithmic(2**0.5, 0.17).fit(shifted, 4).rounds(shifted), shifted, atol=1e-5)


def test_tangent_steps_shrink_towards_the_largest_value() -> None:
    rule = Tangent(angles=(1.3,))
    x = torch.linspace(0, 1, 2000)[None]
    levels = rule.fit(x, 4).rounds(x).unique()
    steps = [float(b - a) for a, b in pairwise(levels)]
    assert all(later < earlier for earlier, later in pairwise(steps))


def test_two_ranges_have_steps_that_differ_by_a_power_of_two() -> None:
    x = torch.nn.functional.gelu(2 * values(16, 6, 8))
    levels = TwoRanges().fit(x, 4).rounds(x).unique()
    fine, coarse = float(levels[1] - levels[0]), float(levels[-1] - levels[-2])
    assert levels.min() < 0 < levels.max()
    ratio = torch.tensor(coarse / fine).log2()
    assert abs(float(ratio - ratio.round())) < 1e-3


def test_each_token_has_a_range_of_its_own_at_run_time() -> None:
    x = values(4, 6, 8) * torch.logspace(-2, 2, 6)[:, None]
    found = Dynamic().fit(x[:1], 8).rounds(x)
    step = (x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)) / 255
    # Half a step, and half a step more where the rounded zero point moves an end of the range.
    assert bool(((found - x).abs() <= 1.01 * step).all())


def test_reparameterized_channels_are_those_of_a_range_each() -> None:
    x = values(32, 6, 8) * torch.logspace(-1, 1, 8)
    fitted = Reparameterized(clip="minmax").fit(x, 6)
    assert torch.equal(fitted.rounds(x), Uniform("minmax", "channel").fit(x, 6).rounds(x))
    assert fitted.factors is not None
    # With the factors taken out, all channels have one step.
    ranges = (x.amax((0, 1)) - x.amin((0, 1))) / fitted.factors
    assert torch.allclose(ranges, ranges[0].expand(8), rtol=1e-5)
    median = Reparameterized("median", "minmax").fit(x, 6).factors
    assert median is not None
    assert float(median.median()) == pytest.approx(1)


def test_smoothing_moves_range_from_activations_to_weights() -> None:
    x = values(64, 6, 8) * torch.tensor([1.0] * 7 + [50.0])
    fitted = Smoothed().fit(x, 8)
    assert fitted.factors is not None
    plain = Uniform("mse").fit(x, 8).rounds(x)
    quiet = slice(0, 7)
    assert (fitted.rounds(x) - x)[..., quiet].square().mean() < (plain - x)[..., quiet].square().mean() / 4
    assert fitted.factors.log().mean() == pytest.approx(0, abs=1e-6)


def test_every_method_has_a_quantizer_for_every_role_and_names_its_source() -> None:
    for name, method in METHODS.items():
        assert {isinstance(method.quantizer(role), Quantizer) for role in Role} == {True}
        assert method.paper or name in ("plain", "percentile", "mse")
        assert method.what
