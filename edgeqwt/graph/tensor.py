"""Tensors of a TFLite model, and how their integers stand for real values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES: Mapping[str, type[np.generic]] = MappingProxyType(
    {
        "float32": np.float32,
        "float16": np.float16,
        "float64": np.float64,
        "int4": np.int8,  # one value per element in memory; packed two to a byte in the file
        "int8": np.int8,
        "uint8": np.uint8,
        "int16": np.int16,
        "uint16": np.uint16,
        "int32": np.int32,
        "uint32": np.uint32,
        "int64": np.int64,
        "uint64": np.uint64,
        "bool": np.bool_,
        "complex64": np.complex64,
        "complex128": np.complex128,
    }
)
"""TFLite's element types by their lower-case names, and the numpy type that holds one element."""

HANDLES = ("resource", "variant")
"""Element types without values: an interpreter that is asked for one may end its process."""


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale * (integer - zero_point), per tensor (axis None) or per slice along `axis`.

    Attributes:
        scale: float32, shape (1,) per tensor or (channels,); finite, and positive but for dead channels
            of other tools' files, which may have 0.
        zero_point: int64, the shape of `scale`.
        axis: the axis that the scales run along, or None.
    """

    scale: Array
    zero_point: Array
    axis: int | None = None

    @staticmethod
    def per_tensor(scale: float, zero_point: int) -> Quantization:
        """One scale and zero point for the whole tensor."""
        return Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))

    @staticmethod
    def per_channel(scale: Array, axis: int) -> Quantization:
        """Symmetric: scale of shape (channels,) along `axis`, zero point 0."""
        scale = np.ascontiguousarray(scale, np.float32)
        return Quantization(scale, np.zeros(scale.shape, np.int64), axis)

    def broadcast(self, rank: int) -> tuple[Array, Array]:
        """Scale and zero point in float64 and int64, shaped to broadcast over a tensor of this rank."""
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = -1
        return self.scale.astype(np.float64).reshape(shape), self.zero_point.reshape(shape)

    def real(self, integers: Array) -> Array:
        """scale * (integers - zero_point), float64."""
        scale, zero_point = self.broadcast(integers.ndim)
        # Exact: float64 holds all integers that TFLite has, but for those of 64 bits.
        found: Array = np.array(integers, np.int64 if integers.dtype.itemsize == 8 else np.float64)
        found -= zero_point
        if found.dtype.kind == "i":
            return np.asarray(found * scale)
        found *= scale
        return found

    def same_as(self, other: Quantization | None) -> bool:
        """Whether both map the same integers to the same reals, bit for bit."""
        return (
            other is not None
            and self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a subgraph.

    Attributes:
        name: as in the file; unique names are not promised by the format.
        shape: static shape; () for scalars.
        dtype: a key of `DTYPES`, or another of TFLite's type names in lower case.
        data: the constant's value, shape `shape`, read-only; None for activations.
        quantization: None when the tensor has none.
        shape_signature: the file's own record of dynamic dimensions (-1), or None.
        is_variable: state that survives between invocations.
        extra: schema fields that edgeqwt does not interpret, carried through.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Array | None = None
    quantization: Quantization | None = None
    shape_signature: tuple[int, ...] | None = None
    is_variable: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # LiteRT's Python interface and numpy give scalars for values of rank 0. Their memory is not their own: two that
        # are looked at one after the other seem to lie in the same place, and would become one buffer of the file.
        if self.data is not None and not isinstance(self.data, np.ndarray):
            object.__setattr__(self, "data", np.array(self.data))

    @property
    def is_constant(self) -> bool:
        """Whether the tensor's value is in the file."""
        return self.data is not None

    @property
    def is_float(self) -> bool:
        """Whether the elements are float32 (the only float type that is lowered)."""
        return self.dtype == "float32"

    @property
    def real(self) -> Array:
        """A constant's real values; float64 where they are stored as integers."""
        return self.stored if self.quantization is None else self.quantization.real(self.stored)

    @property
    def stored(self) -> Array:
        """A constant's value as the file has it."""
        assert self.data is not None
        return self.data

    @property
    def grid(self) -> Quantization:
        """How the integers of a quantized tensor stand for real values."""
        assert self.quantization is not None
        return self.quantization

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def is_number(self, number: float) -> bool:
        """Whether it is a constant of one element, which is a given number."""
        return self.data is not None and self.data.size == 1 and float(self.data.reshape(-1)[0]) == number

    @property
    def bytes(self) -> int:
        """Of the elements, two of int4 in one; one for each element of a type whose size nobody knows."""
        if self.dtype == "int4":
            return math.ceil(self.size / 2)
        return self.size * np.dtype(DTYPES.get(self.dtype, np.uint8)).itemsize


def problem(tensor: Tensor) -> str:
    """The first rule that a tensor by itself breaks, in words; empty where there is none."""
    return _data_problem(tensor) or _quantization_problem(tensor)


def _data_problem(tensor: Tensor) -> str:
    if tensor.data is None:
        return ""
    if tensor.data.shape != tensor.shape:
        return f"shape {tensor.shape}, data {tensor.data.shape}"
    if tensor.is_variable:
        return "a variable with a constant value"
    if tensor.data.dtype != DTYPES.get(tensor.dtype):
        return f"type {tensor.dtype}, data {tensor.data.dtype}"
    return ""


def _quantization_problem(tensor: Tensor) -> str:
    if (q := tensor.quantization) is None:
        return ""
    if q.scale.ndim != 1 or q.scale.shape != q.zero_point.shape:
        return f"scales of shape {q.scale.shape}, zero points of shape {q.zero_point.shape}"
    if q.axis is None:
        return "" if q.scale.size == 1 else f"{q.scale.size} scales without an axis"
    if not 0 <= q.axis < len(tensor.shape) or tensor.shape[q.axis] != q.scale.size:
        return f"{q.scale.size} scales along axis {q.axis} of shape {tensor.shape}"
    return ""
