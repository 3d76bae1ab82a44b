"""The two sides of the fit: the integer layer's real output, and the float layer's, before their activations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.compensation.channel_constants import channel_slots_of
from edgeqwt.graph.graph import Editor, Graph, Op, Tensor
from edgeqwt.graph.linear import is_hybrid


def with_probe(piece: Graph, x: int, graph: Graph, op_index: int) -> tuple[Graph, int]:
    """A part of an integer graph, extended by the real output of one op.

    The op is run in float32 on its dequantized input, weights and bias: that is the
    accumulator times its scale, without the output's rounding, clipping and activation,
    exact to float32's 24 bits, which is 2^-9 of a step of the largest int16 output.

    Args:
        piece: the part; it computes, or takes in, the op's integer input.
        x: that input's index in `piece`.
        graph: the whole graph, which holds the op.
        op_index: the op.

    Returns:
        The extended part, and the tensor of the op's real output, before its activation.
    """
    op, s = graph.ops[op_index], channel_slots_of(graph, op_index)
    editor = Editor(piece)
    editor.ops = list(piece.ops)
    new = {-1: -1}
    if is_hybrid(graph, op):  # its output is real already, what it rounds at run time included
        new |= {t: editor.add_tensor(graph.tensors[t]) for t in op.tensors if t != s.data} | {s.data: x}
        editor.add_op(op.with_options(fusedActivationFunction="NONE").remapped(new))
        return replace(piece, tensors=tuple(editor.tensors), ops=tuple(editor.ops)), new[s.output]
    for t in op.tensors:
        new[t] = editor.add_tensor(_as_float(graph.tensors[t]))
    editor.add_op(Op("DEQUANTIZE", (x,), (new[s.data],), version=3 if piece.tensors[x].dtype == "int16" else 2))
    editor.add_op(op.with_options(fusedActivationFunction="NONE").remapped(new))
    return replace(piece, tensors=tuple(editor.tensors), ops=tuple(editor.ops)), new[s.output]


def _as_float(tensor: Tensor) -> Tensor:
    if tensor.quantization is None:
        return tensor
    data = None if tensor.data is None else tensor.real.astype(np.float32)
    return replace(tensor, dtype="float32", data=data, quantization=None)


def unfused(graph: Graph, ops: list[int]) -> tuple[Graph, dict[int, int]]:
    """The float graph with the fused activations of some ops as ops of their own.

    Returns:
        The graph, and for each of `ops` the tensor that holds its output before the
        activation. Tensor indices of the old graph stay valid.
    """
    editor, before = Editor(graph), {}
    for i, op in enumerate(graph.ops):
        if i not in ops or op.activation == "NONE":
            editor.add_op(op)
            before[i] = op.outputs[0]
            continue
        out = graph.tensors[op.outputs[0]]
        before[i] = editor.add_tensor(replace(out, name=f"{out.name}/before_activation"))
        editor.add_op(replace(op.with_options(fusedActivationFunction="NONE"), outputs=(before[i],)))
        editor.add_op(Op(op.activation, (before[i],), op.outputs))
    edited = replace(graph, tensors=tuple(editor.tensors), ops=tuple(editor.ops))
    return edited, {i: before[i] for i in ops}
