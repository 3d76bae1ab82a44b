"""Inputs and outputs of other types than an integer graph has inside: QUANTIZE and DEQUANTIZE at its borders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeqwt.graph.graph import Editor, Graph, Op, Quantization, Tensor

SHIFT = 128  # between int8 and uint8, integers and zero points alike: no value changes by it


def with_borders(graph: Graph, types: Mapping[str, str], float_io: bool = False) -> Graph:
    """The graph with inputs and outputs of some types, under the same names; what is not quantized stays as it is.

    Args:
        graph: integer.
        types: by the tensor's name, a key of `ports.BITS`; what the graph has already needs no op.
        float_io: what no type is given for is float32.
    """

    def wanted(t: int) -> str:
        return types.get(graph.tensors[t].name, "") or ("float" if float_io else "")

    editor = Editor(graph)
    inside, outside = dict[int, int](), dict[int, int]()
    for t in dict.fromkeys(graph.inputs):
        border = _border(graph.tensors[t], wanted(t))
        if border is not None:
            tensor = graph.tensors[t]
            inside[t] = editor.add_tensor(replace(tensor, name=f"{tensor.name}/quantized"))
            editor.tensors[t] = border
            editor.add_op(Op("QUANTIZE", (t,), (inside[t],), version=2 if tensor.dtype == "int16" else 1))
    for t in dict.fromkeys(graph.outputs):
        border = _border(graph.tensors[t], wanted(t))
        if border is not None and t not in inside:
            outside[t] = editor.add_tensor(replace(graph.tensors[t], name=f"{graph.tensors[t].name}/quantized"))
            editor.tensors[t] = border
    if not inside and not outside:
        return graph
    # Inside the graph other tensors take the place of those at the border.
    moved = {t: inside.get(t, outside.get(t, t)) for t in range(-1, len(graph.tensors))}
    for op in graph.ops:
        editor.add_op(op.remapped(moved))
    for t, quantized in outside.items():
        if editor.tensors[t].dtype == "float32":
            version = 3 if graph.tensors[t].dtype == "int16" else 2
            editor.add_op(Op("DEQUANTIZE", (quantized,), (t,), version=version))
        else:
            editor.add_op(Op("QUANTIZE", (quantized,), (t,)))
    return editor.finish()


def _border(tensor: Tensor, kind: str) -> Tensor | None:
    """The tensor at the border; None where it is the one inside."""
    q = tensor.quantization
    if q is None or kind in ("", tensor.dtype):
        return None
    if kind == "float":
        return replace(tensor, dtype="float32", quantization=None)
    if kind == "uint8" and tensor.dtype == "int8":
        shifted = Quantization.per_tensor(float(q.scale[0]), int(q.zero_point[0]) + SHIFT)
        return replace(tensor, dtype="uint8", quantization=shifted)
    return None
