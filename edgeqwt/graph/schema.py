"""The TFLite schema's names and its small print, for the reader and the writer of files."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType, ModuleType

import numpy as np

from edgeqwt.graph.graph import Array

IDENTIFIER = b"TFL3"
VERSION = 3
BUFFER_ALIGNMENT = 16  # schema.fbs: `data:[ubyte] (force_align: 16)`

# Option fields that hold an enum, and the enum's name in the schema.
ENUM_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "fusedActivationFunction": "ActivationFunctionType",
        "padding": "Padding",
        "weightsFormat": "FullyConnectedOptionsWeightsFormat",
        "inDataType": "TensorType",
        "outDataType": "TensorType",
        "quantizedBiasType": "TensorType",
        "outputType": "TensorType",
        "outType": "TensorType",
        "idxOutType": "TensorType",
    }
)

# Ops whose options table is not the one named like the op.
_SHARED_OPTIONS = {
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_ALL": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
    "RANDOM_STANDARD_NORMAL": "RandomOptions",
    "RANDOM_UNIFORM": "RandomOptions",
    "MULTINOMIAL": "RandomOptions",
}


@cache
def schema() -> ModuleType:
    """The generated module, whose classes and enums are named as in schema.fbs."""
    return importlib.import_module("ai_edge_litert.schema_py_generated")


@cache
def enum_names(enum: str) -> Mapping[int, str]:
    """An enum's names by their values."""
    return {v: k for k, v in vars(getattr(schema(), enum)).items() if isinstance(v, int)}


def enum_value(enum: str, name: str) -> int:
    """The number that stands for a name of an enum."""
    return int(getattr(schema(), enum).__dict__[name])


@cache
def options_type(kind: str) -> str:
    """The name of the options table that goes with an op; "NONE" where it has no options."""
    by_letters = {name.lower(): name for name in enum_names("BuiltinOptions").values()}
    return _SHARED_OPTIONS.get(kind) or by_letters.get(kind.replace("_", "").lower() + "options", "NONE")


def unpack_int4(packed: Array, count: int) -> Array:
    """Two values a byte, low nibble first, sign-extended; an odd count has one nibble of padding.

    Args:
        packed: uint8, shape ((count + 1) // 2,).
        count: number of values.
    """
    nibbles = np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(-1)[:count]
    values: Array = (nibbles.astype(np.int8) ^ 8) - 8
    return values


def pack_int4(values: Array) -> bytes:
    """The inverse of `unpack_int4`, for int8 values of any shape from -8 to 7."""
    nibbles = values.reshape(-1).astype(np.uint8) & 0xF
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    return (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()
