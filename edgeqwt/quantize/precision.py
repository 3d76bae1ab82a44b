"""How many bits the integers have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Precision:
    """How many bits weights use; activations use 8.

    Attributes:
        weight_bits: 2 to 8; the integers are stored in int8 whatever their width.
        pack_int4: store weights of at most 4 bits as packed int4 where the kernels take it
            (see `quantize.packing`).
    """

    weight_bits: int = 8
    pack_int4: bool = False
