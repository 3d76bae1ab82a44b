"""Names of precisions."""

from __future__ import annotations

import pytest

from edgeqwt.errors import RecipeError
from edgeqwt.quantize.precision import Precision, Widths, parse


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("w8a8", Precision()),
        ("w4a8", Precision(4, pack_int4=True)),
        ("w3a8", Precision(3, pack_int4=True)),
        ("w5a8", Precision(5)),
        ("w8a16", Precision(activation_bits=16)),
        ("w4a16", Precision(4, 16, pack_int4=True)),
    ],
)
def test_names(name: str, precision: Precision) -> None:
    assert parse(name) == precision


@pytest.mark.parametrize("name", ["", "w8", "W8A8", "w1a8", "w9a8", "w8a4", "w8a32", "w8a8 ", "mixed", "8x8"])
def test_other_names_are_refused_with_a_hint(name: str) -> None:
    with pytest.raises(RecipeError, match="there is no precision") as caught:
        parse(name)
    assert "w8a8" in caught.value.hint


def test_layers_go_first() -> None:
    precision = Precision(4, layers={"head": Widths(8, 16)})
    assert precision.of("head") == Widths(8, 16)
    assert precision.of("stem") == Widths(4, 8)
