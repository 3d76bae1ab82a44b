"""A function of one variable as a table: the op's own float kernel at each of 256 dequantized values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Quantization, Tensor
from edgeqwt.graph.whole_numbers import ROUNDING, is_whole
from edgeqwt.lowering.forms import is_number, variable_slot
from edgeqwt.runtime.boundary import limits, quantized, real
from edgeqwt.runtime.runners import xnnpack

LEVELS = np.arange(-128, 128).astype(np.int8)


def function_values(graph: Graph, ops: Sequence[int], x: Quantization) -> Array:
    """What float ops of one variable, one after the other, give for each int8 value of their input, shape (256,).

    Outside the function's domain (the square root of a negative value) the nearest value
    inside it stands in; infinities stay. What is cut off or rounded of an input that is whole is that of the whole
    number next to each value.
    """
    first = graph.ops[ops[0]]
    source, target = first.inputs[variable_slot(graph, first)], graph.ops[ops[-1]].outputs[0]
    alone = graph.slice(ops, [source], [target])
    ports = (alone.inputs[0], alone.outputs[0])
    computed = {*ports, *(t for op in alone.ops for t in op.outputs)}
    flat = {t: replace(alone.tensors[t], shape=(256,), shape_signature=None) for t in computed}
    flat |= {
        t: _number(tensor, alone)
        for t, tensor in enumerate(alone.tensors)
        if tensor.data is not None and tensor.is_float and is_number(tensor)
    }
    runner = xnnpack(alone.with_tensors(flat))
    steps = any(op.kind in ROUNDING or op.kind == "CAST" for op in alone.ops) and is_whole(graph, source)
    levels = np.rint(real(LEVELS, x)) if steps else real(LEVELS, x)
    values: Array = runner.run({ports[0]: levels})[ports[1]].reshape(-1)
    if values.dtype.kind == "f" and np.isnan(values).any():
        valid = np.flatnonzero(~np.isnan(values))
        if not valid.size:
            return np.zeros_like(values)
        nearest = np.abs(np.arange(256)[:, None] - valid).argmin(axis=1)
        values = values[valid[nearest]]
    return values


def _number(tensor: Tensor, alone: Graph) -> Tensor:
    """A constant of one number as the op wants it beside 256 values: ATAN2 does not repeat it by itself."""
    shape = (256,) if any(op.kind == "ATAN2" for op in alone.ops) else (1,)
    return replace(tensor, data=np.full(shape, tensor.stored.reshape(-1)[0]), shape=shape, shape_signature=None)


def to_int8(values: Array, y: Quantization) -> Array:
    """Real values, infinities included, at the output's scale."""
    scaled = np.clip(values.astype(np.float64) / float(y.scale[0]), -1e6, 1e6) + int(y.zero_point[0])
    return np.clip(np.rint(scaled), -128, 127).astype(np.int8)


def levels16(x: Quantization, y: Quantization) -> Array:
    """The int16 values, shape (256,), that stand for those of int8 at another scale."""
    found: Array = quantized(real(LEVELS, x), y, "int16")
    return found


def thresholds(kind: str, constant: Array, x: Quantization, dtype: str = "int8") -> Array:
    """int32 values c' with `q kind c'` true exactly where `real(q) kind constant` is, for every q of x's type."""
    low, high = limits(dtype)
    levels = real(np.arange(low, high + 1), x)
    at_or_below = np.searchsorted(levels, constant, side="right") + low - 1  # largest q with real(q) <= constant
    below = np.searchsorted(levels, constant, side="left") + low - 1
    if kind in ("GREATER", "LESS_EQUAL"):
        found = at_or_below
    elif kind in ("GREATER_EQUAL", "LESS"):
        found = below + 1
    else:
        found = np.where(at_or_below > below, at_or_below, 2 * high)  # equal to none: a value that no q has
    return np.asarray(found, np.int32)
