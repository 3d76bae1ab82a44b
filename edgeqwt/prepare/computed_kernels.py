"""Convolutions whose weights are computed from data (CondConv, dynamic convolutions), as matrix products.

Kernels for integers take constant weights only: scales per channel belong to constants. A product of two activations,
each with its own scale, computes the same from patches of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.graph.padding import same_padding
from edgeqwt.prepare.rewriting import activation_like, each_op, integers, op_like


@dataclass(frozen=True)
class _Writer:
    """Adds ops behind one another, their outputs named after the convolution's."""

    editor: Editor
    graph: Graph
    op: Op

    def add(self, kind: str, inputs: tuple[int, ...], shape: tuple[int, ...], **options: object) -> int:
        """A new activation that an op computes."""
        made = activation_like(self.editor, self.graph, self.op.outputs[0], kind.lower(), shape)
        self.editor.add_op(Op(kind, inputs, (made,), options))
        return made

    def constant(self, name: str, values: object) -> int:
        """A new constant of int32."""
        return integers(self.editor, f"{self.graph.tensors[self.op.outputs[0]].name}/{name}", values)

    def reshaped(self, t: int, *shape: int) -> int:
        """The same values in another shape."""
        return (
            t
            if self.editor.tensors[t].shape == shape
            else self.add("RESHAPE", (t, self.constant("shape", shape)), shape)
        )


def _product(editor: Editor, graph: Graph, op: Op) -> bool:
    x, w, bias = op.inputs[0], op.inputs[1], op.inputs[2] if len(op.inputs) > 2 else -1
    tensors, out = graph.tensors, graph.tensors[op.outputs[0]]
    depthwise = op.kind == "DEPTHWISE_CONV_2D"
    channels = tensors[x].shape[3]
    if tensors[w].is_constant or not (tensors[x].is_float and tensors[w].is_float) or tensors[x].shape[0] != 1:
        return False
    if tensors[w].shape[3] != channels:  # convolutions in groups, and channels that have several kernels
        return False
    writer = _Writer(editor, graph, op)
    taps = _shifted(writer, x, tensors[w].shape[1:3])
    positions, count = prod(out.shape[1:3]), len(taps)
    if depthwise:
        rows = [writer.reshaped(t, 1, positions, channels) for t in taps]
        stacked = (
            rows[0] if count == 1 else writer.add("CONCATENATION", tuple(rows), (count, positions, channels), axis=0)
        )
        left = writer.add("TRANSPOSE", (stacked, writer.constant("order", (2, 1, 0))), (channels, positions, count))
        flat = writer.reshaped(w, count, channels)
        turned = writer.add("TRANSPOSE", (flat, writer.constant("order", (1, 0))), (channels, count))
        made = _multiplied(writer, left, writer.reshaped(turned, channels, 1, count), (channels, positions, 1))
        made = writer.reshaped(made, channels, positions)
        made = writer.add("TRANSPOSE", (made, writer.constant("order", (1, 0))), (positions, channels))
    else:
        terms = count * channels
        joined = taps[0] if count == 1 else writer.add("CONCATENATION", tuple(taps), (*out.shape[:3], terms), axis=3)
        left, right = writer.reshaped(joined, 1, positions, terms), writer.reshaped(w, 1, out.shape[3], terms)
        made = _multiplied(writer, left, right, (1, positions, out.shape[3]))
    _finished(writer, made, bias)
    return True


def _shifted(writer: _Writer, x: int, kernel: tuple[int, ...]) -> list[int]:
    """What each weight of a kernel meets at all positions: (1, rows, columns, channels) of the output."""
    op, (_, height, width, channels) = writer.op, writer.graph.tensors[x].shape
    rows, columns = writer.graph.tensors[op.outputs[0]].shape[1:3]
    sides = ((0, 0), *same_padding(op, (height, width), kernel), (0, 0))
    if np.any(sides):
        wide = (1, height + sum(sides[1]), width + sum(sides[2]), channels)
        x = writer.add("PAD", (x, writer.constant("sides", sides)), wide)
    strides = [int(op.options.get(f"stride{side}", 1)) for side in "HW"]
    gaps = [int(op.options.get(f"dilation{side}Factor", 1)) for side in "HW"]
    found = []
    for i, j in np.ndindex(*kernel):
        first = (i * gaps[0], j * gaps[1])
        last = (first[0] + (rows - 1) * strides[0] + 1, first[1] + (columns - 1) * strides[1] + 1)
        if first == (0, 0) and last == writer.editor.tensors[x].shape[1:3] and strides == [1, 1]:
            found.append(x)
            continue
        box = [(0, *first, 0), (1, *last, channels), (1, *strides, 1)]
        ends = [writer.constant(name, values) for name, values in zip(("begin", "end", "strides"), box, strict=True)]
        masks = dict.fromkeys(("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0)
        found.append(writer.add("STRIDED_SLICE", (x, *ends), (1, rows, columns, channels), **masks))
    return found


def _multiplied(writer: _Writer, left: int, right: int, shape: tuple[int, ...]) -> int:
    return writer.add("BATCH_MATMUL", (left, right), shape, adjX=False, adjY=True)


def _finished(writer: _Writer, made: int, bias: int) -> None:
    """Bias and activation function, in the output's shape."""
    op, shape = writer.op, writer.graph.tensors[writer.op.outputs[0]].shape
    bias_data = writer.graph.tensors[bias].data if bias >= 0 else None
    if bias >= 0 and (bias_data is None or bias_data.any()):
        made = writer.reshaped(made, *shape)
        writer.editor.add_op(op_like(op, "ADD", (made, bias), fusedActivationFunction=op.activation))
    elif op.activation != "NONE":
        writer.editor.add_op(op_like(op, op.activation, (writer.reshaped(made, *shape),)))
    else:
        writer.editor.add_op(op_like(op, "RESHAPE", (made, writer.constant("shape", shape))))


convolutions = each_op("CONV_2D", _product)
depthwise = each_op("DEPTHWISE_CONV_2D", _product)
