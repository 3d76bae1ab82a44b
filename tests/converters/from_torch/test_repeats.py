"""Modules that draw random numbers are refused with what draws, and its line."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402, N812 (its usual name)

from edgeqwt.converters.from_torch import source as torch_source  # noqa: E402
from edgeqwt.converters.from_torch.states import require_none  # noqa: E402
from edgeqwt.errors import InputError  # noqa: E402

SAMPLE = {"x": np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)}


class Calls(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Calls a function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def checked(function: Callable[[Any], Any]) -> None:
    model = torch_source.from_module("net", Calls(function), SAMPLE)
    require_none("net", model.module, lambda: model.run(SAMPLE))


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: F.dropout(x.relu()), "torch.nn.functional.dropout"),
        (lambda x: x + torch.randn_like(x), "torch.randn_like"),
        (lambda x: torch.distributions.Normal(x, 1.0).rsample(), r"torch.Tensor.normal_"),
        (lambda x: x + torch.rand(64), "torch.rand"),
    ],
)
def test_what_draws_is_named_with_its_line(function: Callable[[Any], Any], named: str) -> None:
    with pytest.raises(InputError, match=rf"{named} \(.*test_repeats\.py:\d+\) draws random numbers") as caught:
        checked(function)
    assert "training=self.training" in caught.value.hint


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_other_generators(draw: Callable[[], float]) -> None:
    with pytest.raises(InputError, match="draws random numbers"):
        checked(lambda x: x * draw())


def test_what_repeats_passes() -> None:
    checked(lambda x: F.dropout(x, training=False) + 0 * torch.rand(64))
    checked(lambda x: x.masked_fill(x > 0, float("-inf")))
