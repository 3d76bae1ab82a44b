"""How many bits the integers have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Precision:
    """How many bits weights use; activations use 8.

    Attributes:
        weight_bits: 2 to 8; the integers are stored in int8 whatever their width.
    """

    weight_bits: int = 8
