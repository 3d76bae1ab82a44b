"""How many bits the integers have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeqwt.errors import RecipeError

NAMES = re.compile(r"w([2-8])a(8|16)")
PACKED_BITS = 4


@dataclass(frozen=True)
class Widths:
    """The widths of one op.

    Attributes:
        weights: bits of its weights, if it has any, 2 to 8.
        activations: bits of what it reads and computes, 8 or 16.
    """

    weights: int = 8
    activations: int = 8


@dataclass(frozen=True)
class Precision:
    """How many bits weights and activations use.

    Attributes:
        weight_bits: 2 to 8; the integers are stored in int8 whatever their width.
        activation_bits: 8 or 16, of every op that has such a form, and of the model's inputs and outputs.
        pack_int4: store weights of at most 4 bits as packed int4 where the kernels take it
            (see `quantize.packing`).
        layers: other widths for the ops that compute some float tensors, by the tensor's name.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    pack_int4: bool = False
    layers: Mapping[str, Widths] = field(default_factory=dict)

    def of(self, tensor: str) -> Widths:
        """The widths of the op that computes a float tensor."""
        return self.layers.get(tensor, Widths(self.weight_bits, self.activation_bits))


def parse(name: str) -> Precision:
    """The precision that a name stands for: w8a8, w4a8, w8a16, w3a8 and so on.

    Weights of at most 4 bits are stored as packed int4 where the kernels take it.

    Raises:
        RecipeError: there is no such precision.
    """
    found = NAMES.fullmatch(name)
    if found is None:
        hint = "Write wNaM with N from 2 to 8 and M 8 or 16, such as w8a8, w4a8 or w8a16."
        raise RecipeError(f"there is no precision {name!r}", hint)
    weights, activations = (int(bits) for bits in found.groups())
    return Precision(weights, activations, pack_int4=weights <= PACKED_BITS)
