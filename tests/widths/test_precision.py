"""Names of precisions."""

from __future__ import annotations

import pytest

from edgeqwt.errors import RecipeError
from edgeqwt.widths.precision import FLOAT, FLOAT_TIME, Mixed, OpTimes, Precision, Widths, parse


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("w8a8", Precision()),
        ("w4a8", Precision(4, pack_int4=True)),
        ("w3a8", Precision(3, pack_int4=True)),
        ("w5a8", Precision(5)),
        ("w8a16", Precision(activation_bits=16)),
        ("w4a16", Precision(4, 16, pack_int4=True)),
        ("mixed", Precision(pack_int4=True)),
    ],
)
def test_names(name: str, precision: Precision) -> None:
    assert parse(name) == precision


@pytest.mark.parametrize("name", ["", "w8", "W8A8", "w1a8", "w9a8", "w8a4", "w8a32", "w8a8 ", "Mixed", "8x8"])
def test_other_names_are_refused_with_a_hint(name: str) -> None:
    with pytest.raises(RecipeError, match="there is no precision") as caught:
        parse(name)
    assert "w8a8" in caught.value.hint


def test_layers_go_first() -> None:
    precision = Precision(4, layers={"head": Widths(8, 16)})
    assert precision.of("head") == Widths(8, 16)
    assert precision.of("stem") == Widths(4, 8)


@pytest.mark.parametrize("limits", [{}, {"max_size": 1, "min_sqnr": 1.0}, {"max_latency": 1.0, "min_sqnr": 1.0}])
def test_mixed_takes_one_limit(limits: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="needs one limit"):
        Mixed(**limits)  # type: ignore[arg-type]


def test_the_pace_of_8_bits_is_one() -> None:
    assert OpTimes().multiplication(Widths()) == 1.0
    assert OpTimes(w8a16=2.0).multiplication(Widths(8, 16)) == 2.0
    assert OpTimes().multiplication(Widths(3)) == OpTimes().multiplication(Widths(4))
    assert OpTimes().multiplication(Widths(6)) == 1.0
    assert OpTimes().multiplication(Widths(8, FLOAT)) == FLOAT_TIME
