"""Maps with as many channels as rows and columns, computed over three axes.

onnx2tf tells channels-first from channels-last by lengths. Where all three are equal it guesses, and at times takes the
tensors of one op for such of different layouts. Over three axes it looks for no layouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx

from edgeqwt.converters.from_onnx.nodes import Editing, Rule, Shape, Values, attributes

PLACES, ROWS = (2, 3), (1, 2)
"""Axes that become one: those of a map's places, or channels and rows."""


def over_three_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with ops on such maps over three axes; the model itself where it has none.

    Args:
        model: with static input shapes, rewritten as `rewrites` does it.
    """
    editing, changed = Editing(Values(model)), False
    for node in model.graph.node:
        editing.at(node)
        if editing.replaced(RULES.get(node.op_type), node):
            changed = True
        else:
            editing.nodes.append(node)
    return editing.finish() if changed else model


def _shape(editing: Editing, name: str) -> Shape:
    return editing.values.shapes.get(name, ())


def _is_equal(shape: Shape) -> bool:
    return len(shape) == 4 and len({*shape[1:]}) == 1 and shape[1] > 1


def _joined(shape: Shape, axes: tuple[int, int]) -> Shape:
    """A shape of four axes with two neighbours as one."""
    first, second = axes
    return (*shape[:first], shape[first] * shape[second], *shape[second + 1 :])


def _low(editing: Editing, name: str, axes: tuple[int, int]) -> str:
    """A value with two of its four axes, or of those that it is repeated along, as one."""
    shape = _shape(editing, name)
    return editing.reshaped(name, _joined((1,) * (4 - len(shape)) + shape, axes))


def _axis_of(axis: int) -> tuple[tuple[int, int], int]:
    """The axes to join where an op works along one of four, and that one's number then."""
    return (ROWS, 2) if axis == 3 else (PLACES, min(axis, 2))


def _binary(editing: Editing, node: onnx.NodeProto) -> bool:
    shape = _shape(editing, node.output[0])
    given = [(1,) * (4 - len(s)) + s for s in (_shape(editing, name) for name in node.input)]
    if not _is_equal(shape) or any(len(s) != 4 for s in given):
        return False
    for axes in (PLACES, ROWS):
        if all(len({s[a] == shape[a] for a in axes}) == 1 for s in given):
            low = [_low(editing, name, axes) for name in node.input]
            made = editing.add(node.op_type, low, _joined(shape, axes), **attributes(node))
            editing.reshaped(made, shape, node.output[0])
            return True
    return False


def _concat(editing: Editing, node: onnx.NodeProto) -> bool:
    out = _shape(editing, node.output[0])
    if not any(_is_equal(shape) for shape in (out, *(_shape(editing, name) for name in node.input))):
        return False
    axes, axis = _axis_of(attributes(node)["axis"] % 4)
    made = editing.add("Concat", [_low(editing, name, axes) for name in node.input], _joined(out, axes), axis=axis)
    editing.reshaped(made, out, node.output[0])
    return True


def _split(editing: Editing, node: onnx.NodeProto) -> bool:
    shape, wanted = _shape(editing, node.input[0]), attributes(node).get("axis", 0) % 4
    if not _is_equal(shape):
        return False
    axes, axis = _axis_of(wanted)
    parts = [_shape(editing, name) for name in node.output]
    factor = shape[3] if wanted == 2 else 1
    sizes = editing.integers(*(part[wanted] * factor for part in parts))
    first = editing.add("Split", [_low(editing, node.input[0], axes), sizes], _joined(parts[0], axes), axis=axis)
    names = [first, *(f"{first}/{k}" for k in range(1, len(parts)))]
    editing.nodes[-1].output.extend(names[1:])
    for name, part, output in zip(names, parts, node.output, strict=True):
        editing.values.shapes[name] = _joined(part, axes)
        editing.reshaped(name, part, output)
    return True


def _along_one(editing: Editing, node: onnx.NodeProto) -> bool:
    """Softmax along one axis."""
    shape = _shape(editing, node.input[0])
    wanted = attributes(node).get("axis", -1) % 4
    if not _is_equal(shape) or wanted in (0, 2):
        return False
    axes, axis = _axis_of(wanted)
    made = editing.add(node.op_type, [_low(editing, node.input[0], axes)], _joined(shape, axes), axis=axis)
    editing.reshaped(made, shape, node.output[0])
    return True


def _product(editing: Editing, node: onnx.NodeProto) -> bool:
    left, right = (_shape(editing, name) for name in node.input)
    out = _shape(editing, node.output[0])
    if (not _is_equal(left) and not _is_equal(right)) or len(left) != 4:
        return False
    if len(right) == 2:
        a, b, low = _low(editing, node.input[0], ROWS), node.input[1], _joined(out, ROWS)
    elif left[:2] == right[:2]:
        a, b = (_low(editing, name, (0, 1)) for name in node.input)
        low = _joined(out, (0, 1))
    else:
        return False
    editing.reshaped(editing.add("MatMul", [a, b], low), out, node.output[0])
    return True


def _turned(editing: Editing, node: onnx.NodeProto) -> bool:
    shape, order = _shape(editing, node.input[0]), tuple(attributes(node).get("perm", ()))
    if not _is_equal(shape) or shape[0] != 1 or order[:1] != (0,):
        return False
    low = editing.reshaped(node.input[0], shape[1:])
    made = editing.add("Transpose", [low], shape[1:], perm=[axis - 1 for axis in order[1:]])
    editing.reshaped(made, shape, node.output[0])
    return True


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Where"), _binary),
        "Concat": _concat,
        "MatMul": _product,
        "Softmax": _along_one,
        "Split": _split,
        "Transpose": _turned,
    }
)
