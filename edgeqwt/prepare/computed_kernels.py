"""Convolutions whose weights are computed from data (CondConv, dynamic convolutions), as matrix products.

Kernels for integers take constant weights only: scales per channel belong to constants. A product of two activations,
each with its own scale, computes the same from patches of the image.
"""

from __future__ import annotations

from math import prod

import numpy as np

from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.graph.padding import same_padding
from edgeqwt.prepare.rewriting import StandIn, each_op


def _product(editor: Editor, graph: Graph, op: Op) -> Op | None:
    x, w, bias = op.inputs[0], op.inputs[1], op.inputs[2] if len(op.inputs) > 2 else -1
    tensors, out = graph.tensors, graph.tensors[op.outputs[0]]
    depthwise = op.kind == "DEPTHWISE_CONV_2D"
    channels = tensors[x].shape[3]
    if tensors[w].is_constant or not (tensors[x].is_float and tensors[w].is_float) or tensors[x].shape[0] != 1:
        return None
    if tensors[w].shape[3] != channels:  # convolutions in groups, and channels that have several kernels
        return None
    ops = StandIn(editor, graph, op)
    taps = _shifted(ops, x, tensors[w].shape[1:3])
    positions, count = prod(out.shape[1:3]), len(taps)
    if depthwise:
        rows = [ops.reshaped(t, 1, positions, channels) for t in taps]
        stacked = (
            rows[0]
            if count == 1
            else ops.add("CONCATENATION", tuple(rows), "concatenation", (count, positions, channels), axis=0)
        )
        left = ops.transposed(stacked, (2, 1, 0))
        flat = ops.reshaped(w, count, channels)
        turned = ops.transposed(flat, (1, 0))
        made = _multiplied(ops, left, ops.reshaped(turned, channels, 1, count), (channels, positions, 1))
        made = ops.reshaped(made, channels, positions)
        made = ops.transposed(made, (1, 0))
    else:
        terms = count * channels
        whole = (*out.shape[:3], terms)
        joined = taps[0] if count == 1 else ops.add("CONCATENATION", tuple(taps), "concatenation", whole, axis=3)
        left, right = ops.reshaped(joined, 1, positions, terms), ops.reshaped(w, 1, out.shape[3], terms)
        made = _multiplied(ops, left, right, (1, positions, out.shape[3]))
    return _finished(ops, made, bias)


def _shifted(ops: StandIn, x: int, kernel: tuple[int, ...]) -> list[int]:
    """What each weight of a kernel meets at all positions: (1, rows, columns, channels) of the output."""
    op, (_, height, width, channels) = ops.op, ops.graph.tensors[x].shape
    rows, columns = ops.graph.tensors[op.outputs[0]].shape[1:3]
    sides = ((0, 0), *same_padding(op, (height, width), kernel), (0, 0))
    if np.any(sides):
        wide = (1, height + sum(sides[1]), width + sum(sides[2]), channels)
        x = ops.add("PAD", (x, ops.integers("sides", sides)), "pad", wide)
    strides = [int(op.options.get(f"stride{side}", 1)) for side in "HW"]
    gaps = [int(op.options.get(f"dilation{side}Factor", 1)) for side in "HW"]
    found = []
    for i, j in np.ndindex(*kernel):
        first = (i * gaps[0], j * gaps[1])
        last = (first[0] + (rows - 1) * strides[0] + 1, first[1] + (columns - 1) * strides[1] + 1)
        if first == (0, 0) and last == ops.editor.tensors[x].shape[1:3] and strides == [1, 1]:
            found.append(x)
            continue
        box = [(0, *first, 0), (1, *last, channels), (1, *strides, 1)]
        ends = [ops.integers(name, values) for name, values in zip(("begin", "end", "strides"), box, strict=True)]
        masks = dict.fromkeys(("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0)
        found.append(ops.add("STRIDED_SLICE", (x, *ends), "strided_slice", (1, rows, columns, channels), **masks))
    return found


def _multiplied(ops: StandIn, left: int, right: int, shape: tuple[int, ...]) -> int:
    return ops.add("BATCH_MATMUL", (left, right), "batch_matmul", shape, adjX=False, adjY=True)


def _finished(ops: StandIn, made: int, bias: int) -> Op:
    """Bias and activation function, in the output's shape."""
    op, shape = ops.op, ops.graph.tensors[ops.op.outputs[0]].shape
    bias_data = ops.graph.tensors[bias].data if bias >= 0 else None
    if bias >= 0 and (bias_data is None or bias_data.any()):
        made = ops.reshaped(made, *shape)
        return ops.end("ADD", (made, bias), fusedActivationFunction=op.activation)
    if op.activation != "NONE":
        return ops.end(op.activation, (ops.reshaped(made, *shape),))
    return ops.end("RESHAPE", (made, ops.integers("shape", shape)))


convolutions = each_op("CONV_2D", _product)
depthwise = each_op("DEPTHWISE_CONV_2D", _product)
