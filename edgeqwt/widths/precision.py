"""How many bits the integers have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from edgeqwt.errors import RecipeError
from edgeqwt.widths.ports import Port

NAMES = re.compile(r"w([2-8])a(8|16)")
DYNAMIC = re.compile(r"w([2-8])-dynamic")
MIXED = "mixed"
PACKED_BITS = 4
FLOAT = 32
"""The width of ops that stay float32; see `Precision.floats`."""
FLOAT_TIME = 2.0
"""Of a multiplication in float32, about: it is the same in all that is compared."""


@dataclass(frozen=True)
class Widths:
    """The widths of one op.

    Attributes:
        weights: bits of its weights, if it has any, 2 to 8.
        activations: bits of what it reads and computes, 8 or 16; `FLOAT` where they are quantized at run time.
    """

    weights: int = 8
    activations: int = 8


@dataclass(frozen=True)
class Precision:
    """How many bits weights and activations use.

    Attributes:
        weight_bits: 2 to 8; the integers are stored in int8 whatever their width.
        activation_bits: 8 or 16, of every op that has such a form, and of the model's inputs and outputs; `FLOAT` where
            kernels round what they read at run time, row by row, and everything else stays float32 (see `dynamic`).
        pack_int4: store weights of at most 4 bits as packed int4 where the kernels take it
            (see `lowering.int4`).
        layers: other widths for the ops that compute some float tensors, by the tensor's name.
        floats: names of float tensors that are computed in float32: their ops stay as they are, weights included.
        finer_joins: let inputs of ops that join tensors keep finer scales of their own (see `scales.joined_inputs`).
        finer_curves: let TANH and LOGISTIC be tables where their values have a small range (see `scales.curves`).
        ports: what some inputs and outputs are like, by the float tensor's name.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    pack_int4: bool = False
    layers: Mapping[str, Widths] = field(default_factory=dict)
    floats: frozenset[str] = frozenset()
    finer_joins: bool = False
    finer_curves: bool = False
    ports: Mapping[str, Port] = field(default_factory=dict)

    @property
    def dynamic(self) -> bool:
        """Whether activations are quantized at run time: weights alone are integers in the file."""
        return self.activation_bits == FLOAT

    @property
    def least_weight_bits(self) -> int:
        """Of all layers."""
        return min([self.weight_bits, *(widths.weights for widths in self.layers.values())])

    @property
    def name(self) -> str:
        """As `parse` takes it, but for widths of single layers."""
        return f"w{self.weight_bits}-dynamic" if self.dynamic else f"w{self.weight_bits}a{self.activation_bits}"

    def of(self, tensor: str) -> Widths:
        """The widths of the op that computes a float tensor."""
        return self.layers.get(tensor, Widths(self.weight_bits, self.activation_bits))


Times = Annotated[float, Interval(ge=1e-6, le=1e6)]


@dataclass(frozen=True)
class OpTimes:
    """How long things take, in the time of one multiplication with 8-bit weights and activations.

    The defaults were measured in LiteRT 2.1 on one x86-64 core (3x3 convolutions, 32 channels, 16x16): XNNPACK has
    neither int4 weights nor 16-bit activations, and the kernels that do are slow. Microcontrollers and NPUs differ
    by more than an order of magnitude: give their own.

    Attributes:
        w4a8, w8a16, w4a16: a multiplication at these widths.
        element: an element that any other op computes with 8-bit activations.
        element16: the same with 16-bit activations.
        copy: an element that is copied to another width.
    """

    w4a8: Times = 2.3
    w8a16: Times = 36.0
    w4a16: Times = 44.0
    element: Times = 8.0
    element16: Times = 110.0
    copy: Times = 270.0

    def multiplication(self, widths: Widths) -> float:
        """One multiplication; weights of other than 4 or 8 bits are stored in the next of these."""
        if widths.activations == FLOAT:
            return FLOAT_TIME
        found = {(8, 8): 1.0, (4, 8): self.w4a8, (8, 16): self.w8a16, (4, 16): self.w4a16}
        return found[PACKED_BITS if widths.weights <= PACKED_BITS else 8, widths.activations]


@dataclass(frozen=True)
class Mixed:
    """What a choice of widths, layer by layer, has to hold: one of the first three.

    Attributes:
        max_size: bytes of the file, at most; 0: any.
        max_latency: time of a run, at most, in that of the same model with 8 bits everywhere, by `op_times`; 0: any.
        min_sqnr: decibels of what varies at the outputs, at least, measured on samples to fit on; the smallest
            file that was found to reach it is taken; 0: any.
        wide: with `max_size` and `min_sqnr`: whether ops may have 16-bit activations. They cost a file few bytes,
            so that under a limit of size alone most ops would have them, and time. Under one of time they may.
        samples: how many samples sensitivity is measured with, at most.
        op_times: what `max_latency` is reckoned with.
        sensitivity: how weights' rounding is judged: "outputs": by its error at the model's outputs; "nuclear_norm": by
            that of the layer's own output, times its nuclear norm (Liu et al. 2021).

    Raises:
        RecipeError: on construction, unless exactly one limit is given.
    """

    max_size: Annotated[int, Ge(0)] = 0
    max_latency: Annotated[float, Ge(0)] = 0.0
    min_sqnr: Annotated[float, Ge(0)] = 0.0
    wide: bool = False
    samples: Annotated[int, Ge(1)] = 64
    op_times: OpTimes = field(default_factory=OpTimes)
    sensitivity: Literal["outputs", "nuclear_norm"] = "outputs"

    def __post_init__(self) -> None:
        if sum(limit != 0 for limit in (self.max_size, self.max_latency, self.min_sqnr)) != 1:
            hint = "Give one of max_size (bytes), max_latency (1 is 8 bits everywhere) and min_sqnr (dB)."
            raise RecipeError("mixed precision needs one limit", hint)


def parse(name: str) -> Precision:
    """The precision that a name stands for: w8a8, w4a8, w8a16, w3a8 and so on, or w8-dynamic, w4-dynamic.

    Weights of at most 4 bits are stored as packed int4 where the kernels take it. "mixed" is 8 bits until
    a choice names layers (`edgeqwt.mixed`).

    Raises:
        RecipeError: there is no such precision.
    """
    if name == MIXED:
        return Precision(pack_int4=True)
    if found := DYNAMIC.fullmatch(name):
        return Precision(int(found[1]), FLOAT, pack_int4=int(found[1]) <= PACKED_BITS)
    found = NAMES.fullmatch(name)
    if found is None:
        hint = (
            "Write wNaM with N from 2 to 8 and M 8 or 16, such as w8a8, w4a8 or w8a16; wN-dynamic, whose activations "
            "are quantized at run time; or mixed."
        )
        raise RecipeError(f"there is no precision {name!r}", hint)
    weights, activations = (int(bits) for bits in found.groups())
    return Precision(weights, activations, pack_int4=weights <= PACKED_BITS)
