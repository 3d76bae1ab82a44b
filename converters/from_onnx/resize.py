"""Resize in forms that TFLite's two ops do not have: other neighbours, scales that are no ratio of sizes, antialiasing.

Along each axis a new element is a sum of old ones with constant weights. onnxruntime computes these weights, of rows
with a single one; where each has one neighbour they are a Gather, else a matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from edgeqwt.converters.from_onnx.nodes import Editing, Shape, attributes
from edgeqwt.graph.graph import Array

CENTERED = ("half_pixel", "pytorch_half_pixel")


def resized(editing: Editing, node: onnx.NodeProto) -> bool:
    """Resize along axes of an image, or of one axis more."""
    given, values = attributes(node), editing.values
    shape, out = (values.shapes.get(name) for name in (node.input[0], node.output[0]))
    if shape is None or out is None or len(shape) != len(out):
        return False
    if given.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    ordered = list(given.get("axes", ())) == sorted(given.get("axes", ()))  # as onnx2tf takes them
    ratios = _ratios(editing, node, given, shape)
    changed = [axis for axis, sizes in enumerate(zip(shape, out, strict=True)) if sizes[0] != sizes[1]]
    if not changed or min(changed) < len(shape) - 2:
        return False
    if ordered and all(_has_a_form(shape[axis], out[axis], ratios.get(axis), given) for axis in changed):
        return False
    x = node.input[0]
    for axis in changed:
        now = (*values.shapes[x][:axis], out[axis], *values.shapes[x][axis + 1 :])
        name = node.output[0] if axis == changed[-1] else None
        weights = _weights(shape[axis], out[axis], ratios.get(axis), given, values.opset)
        if given.get("mode", "nearest") == "nearest":
            x = editing.add("Gather", [x, editing.array(weights.argmax(axis=0))], now, name, axis=axis)
        elif axis == len(shape) - 1:
            x = editing.add("MatMul", [x, editing.array(weights)], now, name)
        else:
            x = editing.add("MatMul", [editing.array(np.ascontiguousarray(weights.T)), x], now, name)
    return True


def _ratios(editing: Editing, node: onnx.NodeProto, given: dict[str, Any], shape: Shape) -> dict[int, float]:
    """The scales by axis where they are given; without them they are the ratios of the sizes."""
    axes = given.get("axes", range(len(shape)))
    scales, sizes = (
        editing.values.constant(node.input[k]) if len(node.input) > k and node.input[k] else None for k in (2, 3)
    )
    if scales is not None and scales.size:
        return {axis % len(shape): float(scale) for axis, scale in zip(axes, scales, strict=True)}
    policy = {"not_larger": min, "not_smaller": max}.get(given.get("keep_aspect_ratio_policy", ""))
    if policy is None or sizes is None:
        return {}
    ratio = policy(float(size) / shape[axis] for axis, size in zip(axes, sizes, strict=True))
    return dict.fromkeys((axis % len(shape) for axis in axes), ratio)


def _has_a_form(size: int, count: int, ratio: float | None, given: dict[str, Any]) -> bool:
    """Whether one of TFLite's ops, or what onnx2tf makes of cubic ones, computes it along an axis."""
    how, mode = given.get("coordinate_transformation_mode", "half_pixel"), given.get("mode", "nearest")
    exact = ratio is None or abs(ratio * size - count) < 1e-3
    if mode == "nearest":
        rounding = given.get("nearest_mode", "round_prefer_floor")
        if how == "asymmetric":
            return exact and rounding == "floor"
        # To round a centre is to take the floor of its pixel's place, but where it lies half-way between two.
        whole = count % size == 0 or (size % count == 0 and size // count % 2 == 1)
        return (
            exact
            and how in CENTERED
            and (rounding == "round_prefer_ceil" or (whole and rounding == "round_prefer_floor"))
        )
    one = how == "pytorch_half_pixel" and count == 1
    return (
        (exact or how == "align_corners")
        and how != "half_pixel_symmetric"
        and not one
        and not _averages(given, size, count)
    )


def _averages(given: dict[str, Any], size: int, count: int) -> bool:
    return bool(given.get("antialias", 0)) and count < size


def _weights(size: int, count: int, ratio: float | None, given: dict[str, Any], opset: int) -> Array:
    """How much each element counts in each new one, float32, shape (size, count)."""
    lengths = [1, 1, size, count]
    kept = {name: value for name, value in given.items() if name not in ("axes", "keep_aspect_ratio_policy")}
    held = [numpy_helper.from_array(np.array([1, 1, 1, ratio or 0], np.float32), "scales")] if ratio else []
    held += [] if ratio else [numpy_helper.from_array(np.array(lengths, np.int64), "sizes")]
    node = helper.make_node("Resize", ["x", "", "scales"] if ratio else ["x", "", "", "sizes"], ["y"], **kept)
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([node], "weights", ends[:1], ends[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Array = session.run(["y"], {"x": np.eye(size, dtype=np.float32)[None, None]})[0][0, 0]
    return found
