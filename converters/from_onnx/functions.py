"""Ops that the standard defines by others, written as those where onnx2tf has no form of them."""

from __future__ import annotations

import onnx
from onnx.inliner import inline_selected_functions

from edgeqwt.converters.from_onnx.learning import without_learning_ops
from edgeqwt.converters.from_onnx.nodes import attributes

WRITTEN_OUT = frozenset({"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"})
"""Kinds of ops; GELU by tanh is another one, of which onnx2tf makes the exact one."""


def written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with such ops as the ops of their definitions; the model itself where it has none."""
    model = without_learning_ops(model)
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
