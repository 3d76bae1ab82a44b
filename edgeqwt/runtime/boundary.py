"""Real values in and out of a graph whose inputs and outputs may be integers.

The arithmetic is that of TFLite's reference QUANTIZE and DEQUANTIZE kernels, so that a
file with int8 inputs and one with float inputs see the same integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeqwt.graph.graph import DTYPES, Array, Graph, Quantization, Tensor


def quantized(array: Array, quantization: Quantization, dtype: str) -> Array:
    """Real values as integers: round(x / scale) + zero_point, saturated.

    The division is in float32 and halves round away from zero, as in TFLite's reference
    kernel (tensorflow/lite/kernels/internal/reference/quantize.h).

    The kernel's result is undefined beyond 2^31 steps; here it saturates.

    Args:
        array: real values, any shape, no NaN.
        quantization: per tensor, or along one axis of `array`.
        dtype: the integer type, a key of `DTYPES`; "int4" saturates at -8 and 7.
    """
    scale, zero_point = quantization.broadcast(array.ndim)
    ratio = np.asarray(array, np.float32) / scale.astype(np.float32)
    # float32 would lose halves above 2^23, where values saturate anyway for 8 and 16 bits; float64 is exact.
    steps = np.trunc(ratio.astype(np.float64) + np.copysign(0.5, ratio)) + zero_point
    integers: Array = np.clip(steps, *limits(dtype)).astype(DTYPES[dtype])
    return integers


def real(array: Array, quantization: Quantization) -> Array:
    """Integers as float32 real values: scale * (q - zero_point), rounded once."""
    return quantization.real(array).astype(np.float32)


def limits(dtype: str) -> tuple[int, int]:
    """Smallest and largest value of an integer type of `DTYPES`."""
    if dtype == "int4":
        return -8, 7
    info = np.iinfo(np.dtype(DTYPES[dtype]))
    return int(info.min), int(info.max)


def described(tensor: Tensor) -> dict[str, Any]:
    """A file's input or output for whoever writes the code around it: its shape and type, and what its integers mean.

    Scale and zero point are null where it is float; the limits of its integers too, and where those are of 32 bits.
    """
    q = None if tensor.is_float else tensor.quantization
    quantized = q is not None and tensor.dtype in ("int8", "uint8", "int16")
    lowest, highest = limits(tensor.dtype) if quantized else (None, None)
    return {
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": float(q.scale[0]) if q is not None else None,
        "zero_point": int(q.zero_point[0]) if q is not None else None,
        "lowest": lowest,
        "highest": highest,
    }


def graph_feed(graph: Graph, values: Mapping[int, Array]) -> dict[int, Array]:
    """Real-valued arrays by tensor index as what an interpreter of the graph is fed.

    An array for a quantized tensor is quantized unless it has the tensor's own integer
    type already; any other array is converted to the tensor's type (token ids, float32).
    """
    return {t: _into(graph, t, array) for t, array in values.items()}


def feed_as(graph: Graph, reference: Graph, values: Mapping[int, Array]) -> dict[int, Array]:
    """What an interpreter of `graph` is fed, from real values by the input tensors of `reference`.

    The two graphs' inputs correspond by position.
    """
    return graph_feed(graph, {t: values[theirs] for t, theirs in zip(graph.inputs, reference.inputs, strict=True)})


def to_real(graph: Graph, tensor: int, array: Array) -> Array:
    """One tensor's values as real values: dequantized where the tensor is quantized, complex ones as pairs."""
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag], axis=-1)
    quantization = graph.tensors[tensor].quantization
    return array if quantization is None or array.dtype.kind == "f" else real(array, quantization)


def _into(graph: Graph, tensor: int, array: Array) -> Array:
    wanted = graph.tensors[tensor]
    dtype = DTYPES[wanted.dtype]
    if array.dtype == dtype:
        return array
    if wanted.quantization is None or np.dtype(dtype).kind == "f":
        return array.astype(dtype)
    return quantized(array, wanted.quantization, wanted.dtype)
