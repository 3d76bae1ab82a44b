"""How much memory a model needs at least, from its tensors alone; the package measures the real arena."""

from __future__ import annotations

import numpy as np

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Tensor
from edgeqwt.target.model import Model


def bytes_of(tensor: Tensor, bits: int, floating: bool) -> int:
    """Bytes of a tensor's elements: of a float model, as the integers that it will have."""
    return tensor.size * bits // 8 if floating and tensor.is_float else tensor.bytes


def peak(model: Model) -> tuple[int, int]:
    """The most bytes of activations that exist at the same time, and the op while which they do.

    A lower bound of the arena: it holds them all, and the interpreter's records and the kernels' scratch besides.
    """
    graph, floating = model.graph, model.is_float
    dies = {t: i for i, op in enumerate(graph.ops) for t in op.inputs if t >= 0}
    forever = len(graph.ops)
    dies |= dict.fromkeys(graph.outputs, forever) | {t: forever for t, x in enumerate(graph.tensors) if x.is_variable}
    live = {*graph.inputs, *(t for t, x in enumerate(graph.tensors) if x.is_variable)}
    most, where = 0, -1
    for i, op in enumerate(graph.ops):
        live |= set(op.outputs)
        needed = sum(bytes_of(graph.tensors[t], model.bits, floating) for t in live)
        if needed > most:
            most, where = needed, i
        live = {t for t in live if dies.get(t, -1) > i}
    return most, where


def flash(model: Model) -> tuple[int, int]:
    """Bytes of the file, and the op with the most bytes of constants; of a float model, its weights as int8."""
    graph, floating = model.graph, model.is_float
    constants = [
        sum(bytes_of(graph.tensors[t], 8, floating) for t in set(op.inputs) if t >= 0 and graph.tensors[t].is_constant)
        for op in graph.ops
    ]
    where = int(np.argmax(constants)) if constants else -1
    return (sum(constants) if floating else len(flatbuffer.to_bytes(graph))), where


def mebibytes(count: int) -> str:
    """A number of bytes for people."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"
