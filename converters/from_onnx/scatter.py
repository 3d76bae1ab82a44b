"""Assignment to parts of a tensor, which is exported as Scatter: slices and joins where positions are constant.

`x[..., :2] = y` arrives as ScatterND with the position of every element. No runtime scatters integers of 8 bits; but
the result of an assignment to a range is the parts before and behind it, with what was assigned in between. Positions
that are no range are picked out of both tensors side by side.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeqwt.converters.from_onnx.nodes import Editing, Shape, attributes
from edgeqwt.graph.graph import Array


def positions(editing: Editing, node: onnx.NodeProto) -> bool:
    """ScatterND at constant positions."""
    data, indices, updates = node.input
    index, shape = editing.values.constant(indices), editing.values.shapes.get(data)
    if index is None or shape is None or attributes(node).get("reduction", "none") != "none":
        return False
    depth = index.shape[-1]
    flat = np.arange(int(np.prod(shape))).reshape(shape)
    wrapped = np.where(index < 0, index + np.array(shape[:depth]), index)
    target = flat[tuple(np.moveaxis(wrapped, -1, 0))]  # element numbers, in the shape of the updates
    _assigned(editing, node, (data, updates), shape, target)
    return True


def elements(editing: Editing, node: onnx.NodeProto) -> bool:
    """ScatterElements: at constant positions, or as sums over one-hot rows where what is added depends on data."""
    data, indices, updates = node.input
    given = attributes(node)
    index, shape = editing.values.constant(indices), editing.values.shapes.get(data)
    if shape is None:
        return False
    axis, reduction = given.get("axis", 0) % len(shape), given.get("reduction", "none")
    if index is not None and reduction == "none":
        grid = list(np.indices(index.shape))
        grid[axis] = np.where(index < 0, index + shape[axis], index)
        target = np.ravel_multi_index(tuple(grid), shape)
        _assigned(editing, node, (data, updates), shape, np.asarray(target))
        return True
    return _summed(editing, node, axis, reduction)


def counted_from_the_end(editing: Editing, node: onnx.NodeProto) -> bool:
    """Gathers at constant positions, some of which count from the end: LiteRT's kernel takes none of those."""
    data, indices = node.input
    index, shape, given = editing.values.constant(indices), editing.values.shapes.get(data), attributes(node)
    if index is None or shape is None or (index >= 0).all():
        return False
    behind = given.get("batch_dims", 0)
    elements = node.op_type == "GatherElements"
    sizes = shape[given.get("axis", 0)] if elements else np.array(shape[behind : behind + index.shape[-1]])
    wrapped = editing.array(np.where(index < 0, index + sizes, index).astype(np.int64))
    editing.add(node.op_type, [data, wrapped], editing.values.shapes.get(node.output[0]), node.output[0], **given)
    return True


def _assigned(editing: Editing, node: onnx.NodeProto, tensors: tuple[str, str], shape: Shape, target: Array) -> None:
    """Writes `data` with the elements numbered `target` replaced by the updates."""
    data, updates = tensors
    box = _box(target, shape)
    if box is not None:
        part = editing.reshaped(updates, tuple(stop - start for start, stop in box))
        _boxed(editing, data, part, box, node.output[0])
        return
    size = int(np.prod(shape))
    source = np.arange(size)
    source[target.reshape(-1)] = size + np.arange(target.size)  # the last one of equal positions counts, as in ONNX
    both = [editing.reshaped(data, (size,)), editing.reshaped(updates, (target.size,))]
    used = source.reshape(shape)
    joined = editing.joined(both, 0)
    picked = editing.add("Gather", [joined, editing.array(used.reshape(-1).astype(np.int64))], (size,), axis=0)
    editing.reshaped(picked, shape, node.output[0])


def _box(target: Array, shape: Shape) -> tuple[tuple[int, int], ...] | None:
    """The range along each axis that element numbers fill in order; None where they fill none."""
    if not target.size:
        return None
    grid = np.stack(np.unravel_index(target.reshape(-1), shape))
    box = tuple((int(axis.min()), int(axis.max()) + 1) for axis in grid)
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    filled = numbers[tuple(slice(*ends) for ends in box)].reshape(-1)
    return box if filled.size == target.size and (filled == target.reshape(-1)).all() else None


def _boxed(editing: Editing, data: str, part: str, box: tuple[tuple[int, int], ...], output: str) -> None:
    """Joins what lies around a range with what is assigned to it, from the innermost axis out."""
    shape = editing.values.shapes[data]
    axes = [a for a, (start, stop) in enumerate(box) if (start, stop) != (0, shape[a])]
    if not axes:
        editing.reshaped(part, shape, output)
        return
    for n, axis in enumerate(reversed(axes)):
        around = data
        for outer in axes[: len(axes) - n - 1]:
            around = editing.sliced(around, outer, *box[outer])
        start, stop = box[axis]
        before = [editing.sliced(around, axis, 0, start)] if start else []
        after = [editing.sliced(around, axis, stop, shape[axis])] if stop < shape[axis] else []
        last = n == len(axes) - 1
        part = editing.joined([*before, part, *after], axis, output if last else None)


def _summed(editing: Editing, node: onnx.NodeProto, axis: int, reduction: str) -> bool:
    """Positions that depend on data, along the last axis: what is added, times rows of zeros with a one."""
    data, indices, updates = node.input
    shape, index_shape = editing.values.shapes[data], editing.values.shapes.get(indices)
    constant = editing.values.constant(data)
    zeros = constant is not None and not constant.any()
    if index_shape is None or axis != len(shape) - 1 or shape[:-1] != index_shape[:-1]:
        return False
    distinct = index_shape[-1] == 1 or _distinct(editing, indices)
    if not (reduction == "add" or (reduction == "none" and zeros and distinct)):
        return False
    count, size = index_shape[-1], shape[-1]
    hot = editing.add(
        "OneHot",
        [indices, editing.integers(size), editing.array(np.array([0, 1], np.float32))],
        (*index_shape, size),
        axis=-1,
    )
    rows = editing.reshaped(updates, (*index_shape[:-1], 1, count))
    summed = editing.add("MatMul", [rows, hot], (*index_shape[:-1], 1, size))
    if zeros:
        editing.reshaped(summed, shape, node.output[0])
    else:
        editing.add("Add", [data, editing.reshaped(summed, shape)], shape, node.output[0])
    return True


def _distinct(editing: Editing, indices: str) -> bool:
    """Whether positions come from TopK, which gives none twice."""
    node = editing.values.producer(indices)
    while node is not None and node.op_type in ("Cast", "Identity", "Reshape"):
        node = editing.values.producer(node.input[0])
    return node is not None and node.op_type == "TopK"
