"""Float inputs and outputs for an integer graph: QUANTIZE and DEQUANTIZE at its borders."""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Editor, Graph, Op


def with_float_borders(graph: Graph) -> Graph:
    """The graph with float32 inputs and outputs of the same names; what is not quantized stays as it is."""
    editor = Editor(graph)
    inside = {}
    for t in graph.inputs:
        tensor = graph.tensors[t]
        if tensor.quantization is None:
            continue
        inside[t] = editor.add_tensor(replace(tensor, name=f"{tensor.name}/quantized"))
        editor.tensors[t] = replace(tensor, dtype="float32", quantization=None)
        editor.add_op(Op("QUANTIZE", (t,), (inside[t],), version=2 if tensor.dtype == "int16" else 1))
    outside = {}
    for t in graph.outputs:
        tensor = graph.tensors[t]
        if tensor.quantization is None or t in outside or t in inside:
            continue
        outside[t] = editor.add_tensor(replace(tensor, name=f"{tensor.name}/quantized"))
        editor.tensors[t] = replace(tensor, dtype="float32", quantization=None)
    # Inside the graph the integer twins take the place of the border tensors.
    twin = {t: inside.get(t, outside.get(t, t)) for t in range(-1, len(graph.tensors))}
    for op in graph.ops:
        editor.add_op(op.remapped(twin))
    for t, quantized in outside.items():
        version = 3 if graph.tensors[t].dtype == "int16" else 2
        editor.add_op(Op("DEQUANTIZE", (quantized,), (t,), version=version))
    return editor.finish()
