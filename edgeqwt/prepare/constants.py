"""Ops whose result is known before any sample is: they are run once, in LiteRT, and become constants."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from edgeqwt.errors import InputError, ToolError
from edgeqwt.graph.graph import DTYPES, Array, Editor, Graph, Op, Tensor
from edgeqwt.prepare.rewriting import without
from edgeqwt.runtime.runners import reference, xnnpack

LARGEST_GROWTH = 1 << 20  # bytes that folding an op may add to the file
FOLDED_TYPES = ("float32", "int32", "int64", "int8", "uint8", "int16", "bool")
ROUNDING = ("QUANTIZE", "DEQUANTIZE", "FAKE_QUANT")
NEVER = ("CUSTOM", "CALL_ONCE", "VAR_HANDLE", "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL")


def fold(graph: Graph, but: Collection[str] = ()) -> tuple[Graph, list[str]]:
    """Computes every op that reads constants alone, but for some kinds, and SHAPE of tensors whose shape is static."""
    known = {t: tensor for t, tensor in enumerate(graph.tensors) if tensor.is_constant}
    folded: list[int] = []
    editor = Editor(graph)
    for i, op in enumerate(graph.ops):
        if op.kind in but or not _computable(graph, op, known):
            continue
        if op.kind == "SHAPE":
            shape = graph.tensors[op.inputs[0]].shape
            dtype = np.int64 if op.options.get("outType") == "INT64" else np.int32
            values = {op.outputs[0]: np.array(shape, dtype)}
        else:
            tensors = tuple(known.get(t, tensor) for t, tensor in enumerate(graph.tensors))
            alone = Graph(tensors, (op,), (), op.outputs).pruned()
            values = dict(zip(op.outputs, _computed(alone), strict=True))
        for t, array in values.items():
            tensor = graph.tensors[t]
            if array.dtype != DTYPES[tensor.dtype]:
                raise InputError(
                    f"{graph.describe(i)} gives {array.dtype}, and the file states {tensor.dtype} for {tensor.name!r}",
                    "Convert the model again.",
                )
            known[t] = replace(tensor, data=array, shape=array.shape, shape_signature=None)
            editor.tensors[t] = known[t]
        folded.append(i)
    if not folded:
        return graph, []
    names = [graph.tensors[graph.ops[i].outputs[0]].name for i in folded]
    return without(graph, set(folded), {}, editor), names


def _computed(alone: Graph) -> list[Array]:
    """The outputs of a graph without inputs."""
    try:
        runner = reference(alone)
    except ToolError:  # it lacks some kernels; XNNPACK in turn fails on some graphs without inputs
        runner = xnnpack(alone)
    found = runner.run({})
    return [found[t] for t in alone.outputs]


def _computable(graph: Graph, op: Op, known: Mapping[int, Tensor]) -> bool:
    outputs = [graph.tensors[t] for t in op.outputs]
    if op.kind in NEVER or any(t.dtype not in FOLDED_TYPES for t in outputs):
        return False
    if op.kind == "SHAPE":
        signature = graph.tensors[op.inputs[0]].shape_signature
        return signature is None or -1 not in signature
    if any(t >= 0 and t not in known for t in op.inputs):
        return False
    # Unpacking compressed weights is what must be folded, whatever its size.
    before = sum(graph.tensors[t].size for t in op.inputs if t >= 0)
    after = sum(t.size for t in outputs)
    return op.kind == "DEQUANTIZE" or 4 * (after - before) <= LARGEST_GROWTH
