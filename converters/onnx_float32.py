"""ONNX models without float64, which neither TensorFlow Lite's kernels nor onnx2tf's results have.

torch's exporter writes it where a Python number meets a tensor, although torch itself computes in float32 there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

TYPED = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype"}
"""Ops that have the type of their result as an attribute."""


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float32 in place of float64; the model itself where it has none, or where inputs are float64."""
    wide = TensorProto.DOUBLE
    if any(value.type.tensor_type.elem_type == wide for value in model.graph.input) or not _has(model.graph, wide):
        return model
    made = type(model)()
    made.CopyFrom(model)
    for graph in _graphs(made.graph):
        for tensor in _tensors(graph):
            if tensor.data_type == wide:
                tensor.CopyFrom(_narrow(tensor))
        for value in (*graph.value_info, *graph.output):
            if value.type.tensor_type.elem_type == wide:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for attribute in _types(graph):
            attribute.i = TensorProto.FLOAT if attribute.i == wide else attribute.i
    return made


def _narrow(tensor: onnx.TensorProto) -> onnx.TensorProto:
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite there
        return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _has(graph: onnx.GraphProto, wide: int) -> bool:
    found = (*_graphs(graph),)
    return any(t.data_type == wide for g in found for t in _tensors(g)) or any(
        a.i == wide for g in found for a in _types(g)
    )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those within its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Initializers and tensors that nodes hold."""
    yield from graph.initializer
    yield from (attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t"))


def _types(graph: onnx.GraphProto) -> Iterator[onnx.AttributeProto]:
    """Attributes that say the type of a result."""
    for node in graph.node:
        yield from (attribute for attribute in node.attribute if attribute.name == TYPED.get(node.op_type))
