"""ONNX models without float types that TFLite's kernels do not compute in: float64, and those of half the width.

torch's exporter writes float64 where a Python number meets a tensor, although torch itself computes in float32 there.
Models are kept in half precision to save space: the numbers that they hold are float32's, too.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

WIDE = frozenset({TensorProto.DOUBLE})
HALVES = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
TYPED = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype"}
"""Ops that have the type of their result as an attribute."""


def in_float32(model: onnx.ModelProto, kinds: Container[int] = WIDE) -> onnx.ModelProto:
    """The model with float32 in place of other types, in inputs and outputs, too.

    Args:
        model: with its weights.
        kinds: those types, `WIDE` or `HALVES` or both.

    Returns:
        The model itself where it has none of them.
    """
    if not _has(model.graph, kinds):
        return model
    made = type(model)()
    made.CopyFrom(model)
    for graph in _graphs(made.graph):
        for tensor in _tensors(graph):
            if tensor.data_type in kinds:
                tensor.CopyFrom(_as_float32(tensor))
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.elem_type in kinds:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for attribute in _types(graph):
            attribute.i = TensorProto.FLOAT if attribute.i in kinds else attribute.i
    return made


def foreign(model: onnx.ModelProto) -> frozenset[int]:
    """The types that a model as it was given is not to have: half the width, and float64 where inputs are that."""
    wide = any(value.type.tensor_type.elem_type in WIDE for value in model.graph.input)
    return HALVES | WIDE if wide else HALVES


def _as_float32(tensor: onnx.TensorProto) -> onnx.TensorProto:
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite there
        return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _has(graph: onnx.GraphProto, kinds: Container[int]) -> bool:
    found = (*_graphs(graph),)
    return (
        any(t.data_type in kinds for g in found for t in _tensors(g))
        or any(v.type.tensor_type.elem_type in kinds for g in found for v in (*g.input, *g.output))
        or any(a.i in kinds for g in found for a in _types(g))
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
