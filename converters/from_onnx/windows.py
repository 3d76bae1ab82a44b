"""ONNX convolutions and pools that onnx2tf, or onnxruntime, does not take, in other ops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import onnx

from edgeqwt.converters.from_onnx.nodes import Editing, Values, attributes

LOWEST = float(np.finfo(np.float32).min)


def dilated(editing: Editing, node: onnx.NodeProto) -> bool:
    """MaxPool with gaps, which TFLite's op does not have: axis by axis the largest of shifted slices."""
    given = attributes(node)
    kernel, shape = given.get("kernel_shape", []), editing.values.shapes.get(node.input[0], ())
    out, rank = editing.values.shapes.get(node.output[0], ()), len(given.get("kernel_shape", []))
    gaps = given.get("dilations", [1] * rank)
    sides = _sides(given, rank)
    if max(gaps, default=1) == 1 or len(shape) != rank + 2 or len(out) != rank + 2 or len(node.output) > 1 or not sides:
        return False
    strides, (begins, _) = given.get("strides", [1] * rank), sides
    reach = [gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True)]
    ends = [
        max((count - 1) * stride + far + 1 - before - size, 0)
        for count, stride, far, before, size in zip(out[2:], strides, reach, begins, shape[2:], strict=True)
    ]
    x = _padded(editing, node.input[0], begins, ends, LOWEST)
    for axis, (count, stride, gap, size) in enumerate(zip(out[2:], strides, gaps, kernel, strict=True), start=2):
        last = axis == rank + 1
        parts = [editing.sliced(x, axis, k * gap, k * gap + (count - 1) * stride + 1, stride) for k in range(size)]
        now = (*editing.values.shapes[x][:axis], count, *editing.values.shapes[x][axis + 1 :])
        x = editing.add("Max", parts, now, node.output[0] if last else None)
    return True


def _padded(editing: Editing, x: str, before: Sequence[int], behind: Sequence[int], value: float) -> str:
    """The map with lines of one value around it; the map itself where there are none."""
    if not any((*before, *behind)):
        return x
    shape = editing.values.shapes[x]
    wide = tuple(b + size + e for b, size, e in zip(before, shape[2:], behind, strict=True))
    amounts = editing.integers(0, 0, *before, 0, 0, *behind)
    return editing.add("Pad", [x, amounts, editing.array(np.array(value, np.float32))], (*shape[:2], *wide))


def unpooled(editing: Editing, node: onnx.NodeProto) -> bool:
    """MaxUnpool behind MaxPool over square windows side by side: each value where its window's largest was, else zero.

    onnx2tf scatters by indices, which integers cannot; places within windows are compared with numbers instead.
    """
    pool = editing.values.producer(node.input[1])
    values, shapes = editing.values, editing.values.shapes
    if pool is None or pool.op_type != "MaxPool" or len(node.input) > 2:
        return False
    given, more = attributes(pool), attributes(node)
    sizes = {*given["kernel_shape"], *given.get("strides", [1]), *more["kernel_shape"], *more.get("strides", [1])}
    x, low = values.shapes.get(pool.input[0], ()), shapes.get(node.input[0], ())
    padded = any(given.get("pads", [0])) or any(more.get("pads", [0])) or "auto_pad" in given or given.get("ceil_mode")
    if len(x) != 4 or len(low) != 4 or len(sizes) != 1 or padded:
        return False
    size, (batch, channels, rows, columns) = sizes.pop(), low
    if x[2:] != (rows * size, columns * size):
        return False
    apart = (batch, size * size, channels, rows, columns)
    parts = editing.add("SpaceToDepth", [pool.input[0]], (batch, size**2 * channels, rows, columns), blocksize=size)
    one = (batch, 1, channels, rows, columns)
    largest = editing.add("ArgMax", [editing.reshaped(parts, apart)], one, axis=1, keepdims=1)
    numbers = editing.array(np.arange(size * size, dtype=np.int64).reshape(1, -1, 1, 1, 1))
    here = editing.add("Equal", [largest, numbers], apart)
    zero = editing.array(np.zeros(1, np.float32))
    written = editing.add("Where", [here, editing.reshaped(node.input[0], one), zero], apart)
    deep = editing.reshaped(written, (batch, size * size * channels, rows, columns))
    editing.add("DepthToSpace", [deep], (batch, channels, *x[2:]), node.output[0], blocksize=size)
    return True


def computed_weights(editing: Editing, node: onnx.NodeProto) -> bool:
    """Conv whose weights are computed from data, of which onnx2tf makes a custom op: a product with patches."""
    given, values = attributes(node), editing.values
    x, w = node.input[:2]
    shape, kernel, out = (values.shapes.get(name, ()) for name in (x, w, node.output[0]))
    rank = len(shape) - 2
    if values.constant(w) is not None or rank < 1 or shape[0] != 1 or len(kernel) != rank + 2 or len(out) != rank + 2:
        return False
    sides = _sides(given, rank)
    if sides is None:
        return False
    strides, gaps, groups = (
        given.get("strides", [1] * rank),
        given.get("dilations", [1] * rank),
        given.get("group", 1),
    )
    x = _padded(editing, x, *sides, 0.0)
    taps, positions = [], prod(out[2:])
    for offset in product(*map(range, kernel[2:])):
        part = x
        for axis, (k, gap, stride, count) in enumerate(zip(offset, gaps, strides, out[2:], strict=True), start=2):
            part = editing.sliced(part, axis, k * gap, k * gap + (count - 1) * stride + 1, stride)
        taps.append(editing.reshaped(part, (shape[1], 1, positions)))
    terms = len(taps) * kernel[1]
    patches = editing.reshaped(editing.joined(taps, 1), (groups, terms, positions))
    rows = editing.reshaped(w, (groups, out[1] // groups, terms))
    made = editing.add("MatMul", [rows, patches], (groups, out[1] // groups, positions))
    if len(node.input) > 2 and node.input[2]:
        made = editing.reshaped(made, (1, out[1], positions))
        bias = editing.reshaped(node.input[2], (1, out[1], 1))
        made = editing.add("Add", [made, bias], (1, out[1], positions))
    editing.reshaped(made, out, node.output[0])
    return True


def _sides(given: dict[str, Any], rank: int) -> tuple[list[int], list[int]] | None:
    """Lines before and behind along each axis; None where the padding is named, and depends on sizes."""
    if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    pads = given.get("pads", [0] * 2 * rank)
    return pads[:rank], pads[rank:]


def explicitly_padded(node: onnx.NodeProto, weights: tuple[int, ...]) -> onnx.NodeProto | None:
    """A Conv with gaps whose padding is named SAME, which onnxruntime does not run, with the numbers; None for others.

    Without strides they do not depend on the input's size.
    """
    given = attributes(node)
    kernel = tuple(given.get("kernel_shape", weights[2:]))
    gaps, strides = given.get("dilations", [1]), given.get("strides", [1])
    named = given.get("auto_pad", "NOTSET")
    if node.op_type != "Conv" or not named.startswith("SAME") or len(kernel) != len(gaps):
        return None
    if max(gaps, default=1) == 1 or max(strides, default=1) > 1:
        return None
    return _with_pads(node, [gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True)])


def numbered(values: Values, node: onnx.NodeProto) -> onnx.NodeProto:
    """A node with the numbers of its padding, where that is SAME_LOWER or follows from a ConvTranspose's output_shape.

    onnx2tf takes neither. Others stay as they are.
    """
    given, turned = attributes(node), node.op_type == "ConvTranspose"
    if "output_shape" not in given if turned else given.get("auto_pad") != "SAME_LOWER":
        return node
    sizes = values.shapes.get(node.input[0], ())[2:]
    weights = values.shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
    kernel = tuple(given.get("kernel_shape", weights[2:]))
    if not sizes or len(kernel) != len(sizes):
        return node
    gaps, strides = given.get("dilations", [1] * len(sizes)), given.get("strides", [1] * len(sizes))
    windows = zip(sizes, kernel, gaps, strides, strict=True)
    if turned:
        out, more = given["output_shape"][-len(sizes) :], given.get("output_padding", [0] * len(sizes))
        whole = [(n - 1) * stride + gap * (size - 1) + 1 for n, size, gap, stride in windows]
        total = [n + over - wanted for n, over, wanted in zip(whole, more, out, strict=True)]
        return node if min(total) < 0 else _with_pads(node, total)
    return _with_pads(
        node, [max((-(-n // stride) - 1) * stride + gap * (size - 1) + 1 - n, 0) for n, size, gap, stride in windows]
    )


def _with_pads(node: onnx.NodeProto, total: Sequence[int]) -> onnx.NodeProto:
    """A node with so many lines of padding along each axis, as its auto_pad divides them."""
    given = attributes(node)
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    kept = {name: value for name, value in given.items() if name not in ("auto_pad", "output_shape")}
    kept["pads"] = [*less, *more] if given.get("auto_pad") == "SAME_UPPER" else [*more, *less]
    made = onnx.helper.make_node(node.op_type, list(node.input), list(node.output), node.name, **kept)
    made.metadata_props.extend(node.metadata_props)
    return made
