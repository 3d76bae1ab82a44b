"""ONNX pools and paddings that onnx2tf, or the runtime that traces a model, does not take, in other words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.converters.onnx_nodes import Editing, attributes

if TYPE_CHECKING:
    import onnx

LOWEST = float(np.finfo(np.float32).min)


def dilated(editing: Editing, node: onnx.NodeProto) -> bool:
    """MaxPool with gaps, which TFLite's op does not have: axis by axis the largest of shifted slices."""
    given = attributes(node)
    kernel, shape = given.get("kernel_shape", []), editing.values.shapes.get(node.input[0], ())
    out, rank = editing.values.shapes.get(node.output[0], ()), len(given.get("kernel_shape", []))
    gaps = given.get("dilations", [1] * rank)
    automatic = given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if max(gaps, default=1) == 1 or len(shape) != rank + 2 or len(out) != rank + 2 or len(node.output) > 1 or automatic:
        return False
    strides, pads = given.get("strides", [1] * rank), given.get("pads", [0] * 2 * rank)
    reach = [gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True)]
    ends = [
        max((count - 1) * stride + far + 1 - before - size, 0)
        for count, stride, far, before, size in zip(out[2:], strides, reach, pads, shape[2:], strict=False)
    ]
    x = node.input[0]
    if any(pads[:rank]) or any(ends):
        wide = tuple(b + size + e for b, size, e in zip(pads, shape[2:], ends, strict=False))
        amounts = editing.integers(0, 0, *pads[:rank], 0, 0, *ends)
        x = editing.add("Pad", [x, amounts, editing.array(np.array(LOWEST, np.float32))], (*shape[:2], *wide))
    for axis, (count, stride, gap, size) in enumerate(zip(out[2:], strides, gaps, kernel, strict=True), start=2):
        last = axis == rank + 1
        parts = [editing.sliced(x, axis, k * gap, k * gap + (count - 1) * stride + 1, stride) for k in range(size)]
        now = (*editing.values.shapes[x][:axis], count, *editing.values.shapes[x][axis + 1 :])
        x = editing.add("Max", parts, now, node.output[0] if last else None)
    return True


def explicitly_padded(node: onnx.NodeProto, weights: tuple[int, ...]) -> onnx.NodeProto | None:
    """A Conv with gaps whose padding is named SAME, which onnxruntime does not run, with the numbers; None for others.

    Without strides they do not depend on the input's size.
    """
    import onnx

    given = attributes(node)
    kernel = tuple(given.get("kernel_shape", weights[2:]))
    gaps, strides = given.get("dilations", [1]), given.get("strides", [1])
    named = given.get("auto_pad", "NOTSET")
    if node.op_type != "Conv" or not named.startswith("SAME") or max(gaps) == 1 or max(strides) > 1 or not kernel:
        return None
    total = [gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True)]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    kept = {name: value for name, value in given.items() if name != "auto_pad"}
    kept["pads"] = [*less, *more] if named == "SAME_UPPER" else [*more, *less]
    made = onnx.helper.make_node(node.op_type, list(node.input), list(node.output), node.name, **kept)
    made.metadata_props.extend(node.metadata_props)
    return made
