"""ONNX models in forms that onnx2tf converts, and converts rightly: rewrites that leave the function unchanged.

`RULES` is the table: each rule gets a node of its kind and adds what stands in for it, or says that it does not apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx

from edgeqwt.converters.from_onnx import spectra as onnx_spectra
from edgeqwt.converters.from_onnx import windows
from edgeqwt.converters.from_onnx.einsum import einsum
from edgeqwt.converters.from_onnx.float32 import in_float32
from edgeqwt.converters.from_onnx.functions import written_out
from edgeqwt.converters.from_onnx.map_constants import over_all_axes
from edgeqwt.converters.from_onnx.nodes import Editing, Rule, Values, attributes
from edgeqwt.converters.from_onnx.resize import resized
from edgeqwt.converters.from_onnx.scatter import counted_from_the_end, elements, positions
from edgeqwt.converters.from_onnx.volumes import Volumes
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

ALONG_HEIGHT = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0}
"""What stands in front of a line's attributes to make them an image's."""
DEPTH = (0, 1, 3, 5, 2, 4)
"""How SpaceToDepth moves (batch, channels, height, block, width, block)."""
CLOSE = 1e-5  # onnx2tf takes limits below a tenth of it for 0
LOWEST_OPSET = 13  # below, slices, sums and paddings are spelled otherwise


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in forms that onnx2tf converts; the model itself where it is in them already.

    Args:
        model: with static input shapes.

    Raises:
        InputError: two outputs are one tensor, of which onnx2tf writes one that nothing computes.
    """
    outputs = {output.name for output in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in outputs and node.output[0] in outputs:
            raise InputError(
                f"outputs {node.input[0]!r} and {node.output[0]!r} are one tensor", "Return it once: they never differ."
            )
    model = in_float32(written_out(model))
    if not any(node.op_type in RULES for node in model.graph.node):  # what follows costs a look at all shapes
        return model
    values = Values(model)
    if values.opset < LOWEST_OPSET:
        return model
    editing = Editing(values)
    volumes, changed = Volumes(editing), False
    for given in model.graph.node:
        node = windows.numbered(values, given)
        changed = changed or node is not given
        editing.at(node)
        if volumes.rewrite(node) or editing.replaced(RULES.get(node.op_type), node):
            changed = True
        else:
            editing.nodes.append(node)
    for output in model.graph.output:
        volumes.volume(output.name)
    return editing.finish() if changed else model


# -- rules -----------------------------------------------------------------------------


def _line(editing: Editing, node: onnx.NodeProto) -> bool:
    """A convolution or pool over a line as one over an image of height 1, where onnx2tf does not get that right.

    It makes a custom op of a convolution in groups, and forgets the shape that a Reshape before gives.
    """
    given, (name, *others) = attributes(node), node.input
    weights = editing.values.constant(others[0]) if others else None
    shape, out = editing.values.shapes.get(name, ()), editing.values.shapes.get(node.output[0], ())
    convolves = node.op_type in ("Conv", "ConvTranspose")
    if len(shape) != 3 or len(out) != 3 or len(node.output) != 1 or (convolves and weights is None):
        return False
    grouped = node.op_type == "Conv" and weights is not None and given.get("group", 1) > 1 and weights.shape[1] > 1
    if not grouped and not _behind_reshape(editing, name):
        return False
    wide = {key: [v, *given[key]] for key, v in ALONG_HEIGHT.items() if key in given}
    if "pads" in given:
        wide["pads"] = [0, given["pads"][0], 0, given["pads"][1]]
    x = editing.reshaped(name, (*shape[:2], 1, shape[2]))
    held = [] if weights is None else [editing.array(weights[:, :, None]), *others[1:]]
    image = editing.add(node.op_type, [x, *held], (*out[:2], 1, out[2]), **{**given, **wide})
    editing.reshaped(image, out, node.output[0])
    return True


def _behind_reshape(editing: Editing, name: str) -> bool:
    """Whether values were given their shape by a node, but for arithmetic with constants."""
    node = editing.values.producer(name)
    while node is not None and node.op_type in ("Add", "Mul", "Sub", "Div", "Relu", "Identity", "BatchNormalization"):
        node = editing.values.producer(node.input[0])
    return node is not None and node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def _blocks(editing: Editing, node: onnx.NodeProto) -> bool:
    """A move of blocks by (0, 1, 3, 5, 2, 4) with the first two axes as one, which travel together.

    onnx2tf takes every such move between two Reshapes for SpaceToDepth, and stops where it is none: MobileViTv2's
    patches, sizes written as -1, values that others read, too.
    """
    before, shape = editing.values.producer(node.input[0]), editing.values.shapes.get(node.input[0], ())
    if tuple(attributes(node).get("perm", ())) != DEPTH or len(shape) != len(DEPTH):
        return False
    if before is None or before.op_type != "Reshape" or not _stops_onnx2tf(editing, before, node, shape):
        return False
    merged = editing.reshaped(node.input[0], (shape[0] * shape[1], *shape[2:]))
    moved_shape = tuple(shape[axis] for axis in DEPTH)
    moved = editing.add("Transpose", [merged], (shape[0] * shape[1], *moved_shape[2:]), perm=[0, 2, 4, 1, 3])
    editing.reshaped(moved, moved_shape, node.output[0])
    return True


def _stops_onnx2tf(editing: Editing, before: onnx.NodeProto, node: onnx.NodeProto, shape: tuple[int, ...]) -> bool:
    """Whether onnx2tf looks for SpaceToDepth in a move of blocks between Reshapes and finds something else."""
    graph = editing.values.model.graph
    read = {name: [n for n in graph.node if name in n.input] for name in (before.output[0], node.output[0])}
    after = [n for n in read[node.output[0]] if n.op_type == "Reshape"]
    sizes = [editing.values.constant(n.input[1]) for n in (before, *after)]
    if not after or len(sizes[-1] if sizes[-1] is not None else ()) != 4:
        return False
    batch, channels, height, block, width, columns = shape
    wanted = [shape, (batch, channels * block * block, height, width)]
    found = [() if size is None else tuple(map(int, size)) for size in sizes]
    inner = all(len(readers) == 1 for readers in read.values()) and not read.keys() & {o.name for o in graph.output}
    return not (inner and block == columns > 1 and found == wanted)


def _elu(editing: Editing, node: onnx.NodeProto) -> bool:
    """ELU with another factor than 1, which TFLite's op does not have: alpha ELU(x) + (1 - alpha) max(x, 0)."""
    alpha = float(attributes(node).get("alpha", 1.0))
    if alpha == 1.0:
        return False
    curve, line = editing.add("Elu", node.input), editing.add("Relu", node.input)
    first, second = (editing.array(np.array(v, np.float32)) for v in (alpha, 1 - alpha))
    parts = [editing.add("Mul", [curve, first]), editing.add("Mul", [line, second])]
    editing.add("Add", parts, output=node.output[0])
    return True


def _remainder(editing: Editing, node: onnx.NodeProto) -> bool:
    """The remainder that has the sign of what is divided: x - y trunc(x / y)."""
    x, y = node.input
    if not attributes(node).get("fmod") or editing.values.types.get(x) != onnx.TensorProto.FLOAT:
        return False
    quotient = editing.add("Div", [x, y])
    whole = editing.add(
        "Mul", [editing.add("Sign", [quotient]), editing.add("Floor", [editing.add("Abs", [quotient])])]
    )
    editing.add("Sub", [x, editing.add("Mul", [whole, y])], output=node.output[0])
    return True


def _limits(editing: Editing, node: onnx.NodeProto) -> bool:
    """Clip of integers, of which onnx2tf makes activation functions that have no kernels for them, or close to 0.

    It takes limits such as 1e-10 for 0: the logarithm that follows is infinite then.
    """
    limits = [(kind, name) for kind, name in zip(("Max", "Min"), node.input[1:], strict=False) if name]
    whole = editing.values.types.get(node.input[0]) in (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
    values = [editing.values.constant(name) for _, name in limits]
    if not limits or not (whole or any(map(_close, values))):
        return False
    x = node.input[0]
    # Of real numbers the lower limit last: onnx2tf looks for limits of 0 and 1 in the other order.
    for k, (kind, name) in enumerate(limits if whole else limits[::-1]):
        x = editing.add(kind, [name, x], output=node.output[0] if k == len(limits) - 1 else None)
    return True


def _close(limit: Array | None) -> bool:
    return limit is not None and limit.size == 1 and 0 < abs(float(limit.reshape(()))) < CLOSE


def _maximum(editing: Editing, node: onnx.NodeProto) -> bool:
    """Max with a limit close to 0 as the second input, where onnx2tf takes it for 0, as the first."""
    if len(node.input) == 2 and _close(editing.values.constant(node.input[1])):
        editing.add("Max", node.input[::-1], output=node.output[0])
        return True
    return _spread(editing, node)


def _slopes_of_lines(editing: Editing, node: onnx.NodeProto) -> bool:
    """PRelu over lines, of which onnx2tf makes a custom op, as one over images of height 1."""
    shape, slopes = editing.values.shapes.get(node.input[0], ()), editing.values.constant(node.input[1])
    if len(shape) != 3 or slopes is None or slopes.size == 1:
        return False
    image = (*shape[:2], 1, shape[2])
    wide = np.broadcast_to(slopes, np.broadcast_shapes(slopes.shape, (1, 1, 1)))
    held = editing.array(wide.reshape(*wide.shape[1:2], 1, *wide.shape[2:]) if wide.shape[0] == 1 else wide[:, :, None])
    made = editing.add("PRelu", [editing.reshaped(node.input[0], image), held], image)
    editing.reshaped(made, shape, node.output[0])
    return True


def _norm_of_lines(editing: Editing, node: onnx.NodeProto) -> bool:
    """InstanceNormalization over lines, whose shape onnx2tf gets wrong, written out."""
    x, scale, bias = node.input
    shape = editing.values.shapes.get(x, ())
    held = [editing.values.constant(name) for name in (scale, bias)]
    if len(shape) != 3 or any(data is None for data in held) or editing.values.opset >= 18:
        return False
    column = (*shape[:2], 1)
    mean = editing.add("ReduceMean", [x], column, axes=[2], keepdims=1)
    apart = editing.add("Sub", [x, mean], shape)
    variance = editing.add("ReduceMean", [editing.add("Mul", [apart, apart], shape)], column, axes=[2], keepdims=1)
    least = editing.array(np.array(attributes(node).get("epsilon", 1e-5), np.float32))
    spread = editing.add("Sqrt", [editing.add("Add", [variance, least], column)], column)
    gain, shift = (editing.array(np.asarray(data, np.float32).reshape(-1, 1)) for data in held)
    normal = editing.add("Mul", [editing.add("Div", [apart, spread], shape), gain], shape)
    editing.add("Add", [normal, shift], shape, node.output[0])
    return True


def _slices(editing: Editing, node: onnx.NodeProto) -> bool:
    return _back_to_front(editing, node) or _divided(editing, node)


def _divided(editing: Editing, node: onnx.NodeProto) -> bool:
    """Slices that divide the channels of images, as one Split.

    onnx2tf makes a SPLIT of them, whose axis is at times that of the other layout.
    """
    if any(node.output[0] in made.output for made in editing.nodes if made.op_type == "Split"):
        return True
    shape = editing.values.shapes.get(node.input[0], ())
    if len(shape) != 4:
        return False
    readers = [other for other in editing.values.model.graph.node if node.input[0] in other.input[:1]]
    parts = {p: other for other in readers if other.op_type == "Slice" and (p := _channels(editing, other)) is not None}
    chain, next_part = list[tuple[int, int]](), dict(sorted(parts))
    while (end := chain[-1][1] if chain else 0) != shape[1] and end in next_part:
        chain.append((end, next_part[end]))
    own = _channels(editing, node)
    if len(chain) < 2 or chain[-1][1] != shape[1] or own not in chain:
        return False
    outputs = [parts[part].output[0] for part in chain]
    sizes = editing.integers(*(stop - start for start, stop in chain))
    editing.add("Split", [node.input[0], sizes], output=outputs[0], axis=1)
    editing.nodes[-1].output.extend(outputs[1:])
    return True


def _channels(editing: Editing, node: onnx.NodeProto) -> tuple[int, int] | None:
    """The first channel that a Slice takes and the first that it does not; None for other slices."""
    given = [editing.values.constant(name) if name else None for name in node.input[1:]]
    if len(given) < 3 or any(data is None or data.size != 1 for data in given):
        return None
    start, stop, axis, *step = (int(data.reshape(())) for data in given if data is not None)
    if axis % 4 != 1 or step not in ([], [1]):
        return None
    first, last, _ = slice(start, stop).indices(editing.values.shapes[node.input[0]][1])
    return (first, last) if first < last else None


def _back_to_front(editing: Editing, node: onnx.NodeProto) -> bool:
    """Slice with steps back along several axes, or along part of one, as a Gather for each: onnx2tf has no op."""
    ends = [editing.values.constant(name) if name else None for name in node.input[1:]]
    if len(ends) < 4 or any(data is None for data in ends) or editing.values.shapes.get(node.input[0]) is None:
        return False
    starts, stops, axes, steps = (data.reshape(-1).tolist() for data in ends if data is not None)
    x, shape = node.input[0], editing.values.shapes[node.input[0]]
    back = [k for k, step in enumerate(steps) if step < 0]
    whole = [k for k in back if steps[k] == -1 and starts[k] in (-1, shape[axes[k]] - 1) and stops[k] < -shape[axes[k]]]
    if len(back) < 2 and back == whole:
        return False
    for k, (start, stop, axis, step) in enumerate(zip(starts, stops, axes, steps, strict=True)):
        output = node.output[0] if k == len(axes) - 1 else None
        picked = editing.array(np.arange(shape[axis])[slice(start, None if stop < -shape[axis] else stop, step)])
        x = editing.add("Gather", [x, picked], output=output, axis=int(axis))
    return True


def _alone(editing: Editing, node: onnx.NodeProto) -> bool:
    """Concat of one value, of which onnx2tf makes a custom op."""
    if len(node.input) == 1:
        editing.add("Identity", node.input, output=node.output[0])
    return len(node.input) == 1


def _reversed(editing: Editing, node: onnx.NodeProto) -> bool:
    """ReverseSequence of known lengths, all the same, as a Gather: LiteRT's op takes neither booleans nor 8 bits."""
    shape, lengths = editing.values.shapes.get(node.input[0], ()), editing.values.constant(node.input[1])
    axis = attributes(node).get("time_axis", 0)
    if not shape or lengths is None or lengths.size == 0 or (lengths != lengths.flat[0]).any():
        return False
    places = np.arange(shape[axis])
    count = int(lengths.flat[0])
    places[:count] = places[:count][::-1].copy()
    editing.add("Gather", [node.input[0], editing.array(places)], output=node.output[0], axis=axis)
    return True


def _of_sums(editing: Editing, node: onnx.NodeProto) -> bool:
    """LpNormalization by sums of magnitudes, of which onnx2tf makes a custom op."""
    given, shape = attributes(node), editing.values.shapes.get(node.input[0])
    if given.get("p", 2) != 1 or shape is None or editing.values.opset < 13:
        return False
    axis = given.get("axis", -1) % len(shape)
    low = (*shape[:axis], 1, *shape[axis + 1 :])
    total = editing.add("ReduceSum", [editing.add("Abs", node.input, shape), editing.integers(axis)], low)
    editing.add("Div", [node.input[0], total], shape, node.output[0])
    return True


def _spread(editing: Editing, node: onnx.NodeProto) -> bool:
    """What repeats values of one input along axes of another."""
    return over_all_axes(editing, node) or _each_with_each(editing, node)


def _each_with_each(editing: Editing, node: onnx.NodeProto) -> bool:
    """What joins each value of one tensor with each of another, over four axes.

    onnx2tf takes shapes that are each other's permutation for one tensor in two layouts, turns one of them, and joins
    pairs. Over fewer axes it looks for no layouts; where there are not fewer, the second tensor is repeated before.
    """
    if len(node.input) == 1:
        editing.add("Identity", node.input, None, node.output[0])
        return True
    sizes = [editing.values.shapes.get(name, ()) for name in node.input]
    if len(sizes) != 2 or len(sizes[0]) != 4 or sorted(sizes[0]) != sorted(sizes[1]) or sizes[0] == sizes[1]:
        return False
    out = tuple(np.broadcast_shapes(*sizes))
    axes = [axis for axis, n in enumerate(out) if n != 1]
    if len(axes) == 4:
        repeated = editing.add("Expand", [node.input[1], editing.integers(*out)], out)
        editing.add(node.op_type, [node.input[0], repeated], out, node.output[0])
        return True
    low = [editing.reshaped(x, tuple(shape[axis] for axis in axes)) for x, shape in zip(node.input, sizes, strict=True)]
    made = editing.add(node.op_type, low, tuple(out[axis] for axis in axes))
    editing.reshaped(made, out, node.output[0])
    return True


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(("AveragePool", "ConvTranspose"), _line),
        **dict.fromkeys(("Add", "Div", "Mean", "Min", "Mul", "Sub", "Sum"), _spread),
        **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Pow"), over_all_axes),
        "Clip": _limits,
        "Concat": _alone,
        "Conv": lambda editing, node: windows.computed_weights(editing, node) or _line(editing, node),
        "Einsum": einsum,
        "Elu": _elu,
        **dict.fromkeys(("GatherElements", "GatherND"), counted_from_the_end),
        "InstanceNormalization": _norm_of_lines,
        "LpNormalization": _of_sums,
        "Max": _maximum,
        "MaxPool": lambda editing, node: windows.dilated(editing, node) or _line(editing, node),
        "MaxUnpool": windows.unpooled,
        "Mod": _remainder,
        "PRelu": _slopes_of_lines,
        "Resize": resized,
        "ReverseSequence": _reversed,
        "ScatterND": positions,
        "ScatterElements": elements,
        **onnx_spectra.RULES,
        "Transpose": _blocks,
        "Slice": _slices,
    }
)
"""By kind; volumes have a table of their own."""
