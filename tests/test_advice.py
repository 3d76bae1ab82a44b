"""What helps a poor model depends on where its error is born."""

from __future__ import annotations

import pytest

from edgeqwt.advice import advice
from edgeqwt.recipes import recipe
from edgeqwt.verify.layers import Quality
from edgeqwt.verify.own import OpError, OwnErrors


@pytest.mark.parametrize("kind", ["LOG", "EXP"])
def test_a_logarithm_belongs_into_the_application(kind: str) -> None:
    op = OpError(3, kind, "power", "power", -9.5, 2.0, bias=0.86, clipping=0.0, rounding=0.14, moves=False)
    said = advice(Quality(8, (), (), ()), OwnErrors(8, (op,), 0), recipe.load("fast"))
    assert f"{kind} 'power' errs most" in said
    assert ("the logarithm as the model's input" in said) == (kind == "LOG")
