"""Constants over fewer axes than the maps that they meet: gains of (channels, 1, 1), windows of (height, width).

onnx2tf turns constants of four axes as it turns maps, and leaves others in the order that they have.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeqwt.converters.from_onnx.nodes import Editing, Shape, attributes
from edgeqwt.graph.graph import Array

WINDOWED = frozenset(
    {"Conv", "ConvTranspose", "AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Resize"}
)
"""Ops whose results are maps, channels first."""
KEEPING = frozenset(
    {
        "Abs", "Add", "BatchNormalization", "Clip", "Concat", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid",
        "HardSwish", "Identity", "InstanceNormalization", "LeakyRelu", "Log", "Max", "Min", "Mul", "Neg", "PRelu",
        "Pad", "Pow", "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
    }
)  # fmt: skip
"""Ops whose results are maps where one of their first two inputs is one."""


def over_all_axes(editing: Editing, node: onnx.NodeProto) -> bool:
    """A rule for ops that repeat what has fewer values: constants beside maps get four axes."""
    out = editing.values.shapes.get(node.output[0], ())
    given = [_wide(editing.values.constant(name), out) for name in node.input] if len(out) == 4 else []
    if all(held is None for held in given) or not any(_is_map(editing, name) for name in node.input):
        return False
    inputs = [name if held is None else editing.array(held) for name, held in zip(node.input, given, strict=True)]
    editing.add(node.op_type, inputs, out, node.output[0], **attributes(node))
    return True


def _wide(held: Array | None, out: Shape) -> Array | None:
    """A constant over four axes; None where it has them, or is one number.

    Columns beside maps as wide as high are repeated along rows, as onnx2tf takes them for rows; and rows along columns
    where lengths do not tell channels either.
    """
    if held is None or held.size <= 1:
        return None
    wide = held.reshape(*(1,) * (4 - held.ndim), *held.shape)
    _, _, height, width = wide.shape
    if (height != 1 == width and out[2] == out[3]) or (height == 1 != width and len({*out[1:]}) == 1):
        return np.broadcast_to(wide, (*wide.shape[:2], *out[2:]))
    return None if held.ndim == 4 else wide


def _is_map(editing: Editing, name: str) -> bool:
    """Whether a value is computed by an op with windows, and others that keep maps what they are."""
    seen, todo = set[str](), [name]
    while todo:
        node = editing.values.producer(todo.pop())
        if node is None or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        if node.op_type in WINDOWED and len(editing.values.shapes.get(node.output[0], ())) == 4:
            return True
        if node.op_type in KEEPING:
            todo += node.input[:2]
    return False
