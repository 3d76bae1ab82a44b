"""What scikit-learn's pipelines begin and end with in ONNX: ops of ai.onnx.ml as ordinary ones, and outputs of numbers.

By their specifications in https://onnx.ai/onnx/operators/index_ml.html. Trees and support vectors stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeqwt.converters.from_onnx.nodes import attributes, operator_set
from edgeqwt.graph.graph import Array

Form = Callable[[onnx.ModelProto, onnx.NodeProto], list[onnx.NodeProto]]
"""Takes a model, to whose graph it adds constants, and a node; gives the nodes that stand for it."""
DOMAIN = "ai.onnx.ml"
CURVES: Mapping[str, str] = MappingProxyType({"LOGISTIC": "Sigmoid", "SOFTMAX": "Softmax"})
AXES_GIVEN = 18  # the opset from which on ReduceL1 and its like take axes as an input


def without_learning_ops(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with such ops as ordinary ones; the model itself where it has none."""
    if not any(_form(node) for node in model.graph.node):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes = list[onnx.NodeProto]()
    for node in model.graph.node:
        form = _form(node)
        nodes += form(changed, node) if form else [node]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def of_numbers(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model without outputs that a file for devices cannot have.

    What ZipMap makes a dictionary of, with the classes as keys, is an array of their numbers; labels that are texts go.

    Returns:
        The model and sentences for the report; the model itself where it has no such outputs.
    """
    zipped = [node for node in model.graph.node if node.op_type == "ZipMap" and node.domain == DOMAIN]
    texts = [o.name for o in model.graph.output if o.type.tensor_type.elem_type == TensorProto.STRING]
    texts = texts if len(texts) < len(model.graph.output) else []
    if not zipped and not texts:
        return model, ()
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph, notes = changed.graph, list[str]()
    for node in zipped:
        labels = next(iter(attributes(node).values()))
        names = [label.decode() if isinstance(label, bytes) else str(label) for label in labels]
        real = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [None, len(names)])
        ends = [real if o.name == node.output[0] else o for o in graph.output]
        del graph.output[:]
        graph.output.extend(ends)
        notes.append(f"Output {node.output[0]!r} is an array, in the order {', '.join(names)}, and no dictionary.")
    left = [o for o in graph.output if o.name not in texts]
    del graph.output[:]
    graph.output.extend(left)
    notes += [f"Output {name!r} holds texts: the file does not have it." for name in texts]
    plain = [helper.make_node("Identity", n.input, n.output, n.name) if n in zipped else n for n in graph.node]
    del graph.node[:]
    graph.node.extend(_needed(plain, {o.name for o in left}))
    return changed, tuple(notes)


def _needed(nodes: list[onnx.NodeProto], names: set[str]) -> list[onnx.NodeProto]:
    """The nodes that some values are computed of, in their order."""
    found = list[onnx.NodeProto]()
    for node in reversed(nodes):
        if names & {*node.output} or any(attribute.HasField("g") for attribute in node.attribute):
            names, found = names | {*node.input}, [node, *found]
    return found


def _form(node: onnx.NodeProto) -> Form | None:
    return _LEARNING.get(node.op_type) if node.domain == DOMAIN else None


def _held(model: onnx.ModelProto, name: str, array: Array) -> str:
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _scaled(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """(x - offset) * scale."""
    x, y = node.input[0], node.output[0]
    given, real, centred = attributes(node), f"{y}/real", f"{y}/centred"
    offset, scale = (
        _held(model, f"{y}/{key}", np.array(given.get(key, [float(key == "scale")]), np.float32))
        for key in ("offset", "scale")
    )
    return [
        helper.make_node("Cast", [x], [real], f"{node.name or y}/real", to=TensorProto.FLOAT),
        helper.make_node("Sub", [real, offset], [centred], f"{node.name or y}/centred"),
        helper.make_node("Mul", [centred, scale], [y], node.name or y),
    ]


def _picked(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Columns by their numbers; of one row, such as classes' labels, there is one row still."""
    (x, columns), y = node.input, node.output[0]
    flat, picked, name = f"{y}/flat", f"{y}/picked", node.name or y
    everything, one_row = _held(model, f"{y}/all", np.array([-1])), _held(model, f"{y}/row", np.array([1, -1]))
    row = any(held.name == x and len(held.dims) == 1 for held in model.graph.initializer)
    ends = [helper.make_node("Reshape", [picked, one_row], [y], f"{name}/row")] if row else []
    return [
        helper.make_node("Reshape", [columns, everything], [flat], f"{name}/flat"),
        helper.make_node("Gather", [x, flat], [picked if row else y], name, axis=-1),
        *ends,
    ]


def _linear(model: onnx.ModelProto, node: onnx.NodeProto, y: str, rows: int) -> list[onnx.NodeProto]:
    """One number per row of the coefficients."""
    given, x = attributes(node), node.input[0]
    weights = np.array(given["coefficients"], np.float32).reshape(rows, -1).T
    bias = np.resize(np.array(given.get("intercepts") or [0.0], np.float32), rows)
    weights_name, bias_name = _held(model, f"{y}/weights", weights), _held(model, f"{y}/bias", bias)
    return [
        helper.make_node("Cast", [x], [f"{y}/real"], f"{node.name or y}/real", to=TensorProto.FLOAT),
        helper.make_node("MatMul", [f"{y}/real", weights_name], [f"{y}/products"], f"{node.name or y}/products"),
        helper.make_node("Add", [f"{y}/products", bias_name], [y], node.name or y),
    ]


def _regressed(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    given = attributes(node)
    if given.get("post_transform", b"NONE") not in (b"NONE", "NONE"):
        return [node]
    return _linear(model, node, node.output[0], given.get("targets", 1))


def _classified(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Scores, what they say in their order, and the label of the largest; labels that are texts are not asked for."""
    given, (label, y) = attributes(node), node.output
    after, name = given.get("post_transform", b"NONE"), node.name or y
    after = after.decode() if isinstance(after, bytes) else after
    numbers, texts = given.get("classlabels_ints") or [], given.get("classlabels_strings") or []
    classes = len(numbers) or len(texts)
    asked = label and (any(label in n.input for n in model.graph.node) or label in [o.name for o in model.graph.output])
    if len(given.get("intercepts") or []) != classes or after not in {"NONE", *CURVES} or (asked and texts):
        return [node]
    scores = f"{y}/scores"
    axis: dict[str, Any] = {"axis": -1} if after == "SOFTMAX" else {}
    found = _linear(model, node, scores, classes)
    found.append(helper.make_node(CURVES.get(after, "Identity"), [scores], [y], f"{name}/curve", **axis))
    if asked:
        labels = _held(model, f"{y}/labels", np.array(numbers, np.int64))
        found.append(helper.make_node("ArgMax", [scores], [f"{y}/place"], f"{name}/place", axis=-1, keepdims=0))
        found.append(helper.make_node("Gather", [labels, f"{y}/place"], [label], f"{name}/label", axis=0))
    return found


def _normalized(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Rows over the sum of their magnitudes, or over their lengths."""
    norm, x, y = attributes(node).get("norm", b"MAX"), node.input[0], node.output[0]
    kind = {"L1": "ReduceL1", "L2": "ReduceL2"}.get(norm.decode() if isinstance(norm, bytes) else norm)
    if kind is None:
        return [node]
    given = [_held(model, f"{y}/axes", np.array([-1]))] if operator_set(model) >= AXES_GIVEN else []
    axes: dict[str, Any] = {} if given else {"axes": [-1]}
    return [
        helper.make_node(kind, [x, *given], [f"{y}/norm"], f"{node.name or y}/norm", keepdims=1, **axes),
        helper.make_node("Div", [x, f"{y}/norm"], [y], node.name or y),
    ]


_LEARNING: Mapping[str, Form] = MappingProxyType({
    "Scaler": _scaled, "ArrayFeatureExtractor": _picked, "LinearClassifier": _classified,
    "LinearRegressor": _regressed, "Normalizer": _normalized,
})  # fmt: skip
