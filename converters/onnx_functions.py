"""Ops that the standard defines by others, written as those where onnx2tf has no form of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.inliner import inline_selected_functions

from edgeqwt.converters.onnx_nodes import attributes

Form = Callable[[onnx.GraphProto, onnx.NodeProto], list[onnx.NodeProto]]
"""Takes a graph, to which it adds constants, and a node; gives the nodes that stand for it."""
WRITTEN_OUT = frozenset({"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"})
"""Kinds of ops; GELU by tanh is another one, of which onnx2tf makes the exact one."""


def written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with such ops as the ops of their definitions; the model itself where it has none."""
    model = _without_learning_ops(model)
    nodes = [node for node in model.graph.node if node.domain in ("", "ai.onnx")]
    kinds = {node.op_type for node in nodes} & WRITTEN_OUT
    if any(node.op_type == "Gelu" and attributes(node).get("approximate", "none") != "none" for node in nodes):
        kinds |= {"Gelu"}
    if not kinds:
        return model
    typed = onnx.shape_inference.infer_shapes(model)  # definitions depend on the types of what is given
    known = {value.name for value in (*typed.graph.input, *typed.graph.value_info)}
    typed.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(held.name, held.data_type, held.dims)
        for held in typed.graph.initializer
        if held.name not in known
    )
    return inline_selected_functions(typed, [("", kind) for kind in sorted(kinds)], inline_schema_functions=True)


def _without_learning_ops(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the ops of ai.onnx.ml that scikit-learn's pipelines begin and end with as ordinary ones."""
    if not any(_form(node) for node in model.graph.node):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    for node in model.graph.node:
        form = _form(node)
        changed.graph.node.extend(form(changed.graph, node) if form else [node])
    return changed


def _form(node: onnx.NodeProto) -> Form | None:
    return _LEARNING.get(node.op_type) if node.domain == "ai.onnx.ml" else None


def _scaled(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """(x - offset) * scale."""
    x, y = node.input[0], node.output[0]
    given, real, centred = attributes(node), f"{y}/real", f"{y}/centred"
    names = {key: f"{y}/{key}" for key in ("offset", "scale")}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(given.get(key, [float(key == "scale")]), np.float32), name)
        for key, name in names.items()
    )
    return [
        helper.make_node("Cast", [x], [real], f"{node.name or y}/real", to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", [real, names["offset"]], [centred], f"{node.name or y}/centred"),
        helper.make_node("Mul", [centred, names["scale"]], [y], node.name or y),
    ]


def _picked(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Columns by their numbers; of one row, such as classes' labels, there is one row still."""
    (x, columns), y = node.input, node.output[0]
    flat, picked, name = f"{y}/flat", f"{y}/picked", node.name or y
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), f"{y}/all"))
    graph.initializer.append(numpy_helper.from_array(np.array([1, -1]), f"{y}/row"))
    row = any(held.name == x and len(held.dims) == 1 for held in graph.initializer)
    ends = [helper.make_node("Reshape", [picked, f"{y}/row"], [y], f"{name}/row")] if row else []
    return [
        helper.make_node("Reshape", [columns, f"{y}/all"], [flat], f"{name}/flat"),
        helper.make_node("Gather", [x, flat], [picked if row else y], name, axis=-1),
        *ends,
    ]


_LEARNING: Mapping[str, Form] = MappingProxyType({"Scaler": _scaled, "ArrayFeatureExtractor": _picked})
