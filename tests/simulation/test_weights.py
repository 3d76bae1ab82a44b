"""Weights in studies."""

from __future__ import annotations

import pytest

from edgeqwt.rounding.codebook import Codebook
from edgeqwt.rounding.methods import Nearest
from edgeqwt.simulation.weights import coded


@pytest.mark.parametrize(("bits", "length"), [(4, 2), (3, 3), (2, 4)])
def test_a_codebook_has_a_byte_for_so_many_bits(bits: int, length: int) -> None:
    found = coded(Codebook(), bits)
    assert isinstance(found, Codebook)
    assert found.length == length


def test_the_ends_of_a_network_have_no_codebook() -> None:
    assert coded(Codebook(), 8) == Nearest()
