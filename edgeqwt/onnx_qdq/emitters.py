"""Writes an integer graph as QDQ ONNX: one row per op of the op table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeqwt.extras import need
from edgeqwt.graph.graph import DTYPES, Graph
from edgeqwt.onnx_qdq import elementwise as e
from edgeqwt.onnx_qdq import linear as lin
from edgeqwt.onnx_qdq import moving as m
from edgeqwt.onnx_qdq.writer import IR_VERSION, OPSET, NoFormError, Writer

EMITTERS: Mapping[str, e.Emit] = MappingProxyType(
    {
        "CONV_2D": lin.conv,
        "DEPTHWISE_CONV_2D": lin.depthwise,
        "TRANSPOSE_CONV": lin.transpose_conv,
        "FULLY_CONNECTED": lin.dense,
        "BATCH_MATMUL": lin.matmul,
        "AVERAGE_POOL_2D": lin.pool,
        "MAX_POOL_2D": lin.pool,
        "ADD": e.binary("Add"),
        "SUB": e.binary("Sub"),
        "MUL": e.binary("Mul"),
        "SQUARED_DIFFERENCE": e.squared_difference,
        "MAXIMUM": e.binary("Max", moving=True),
        "MINIMUM": e.binary("Min", moving=True),
        "MEAN": e.reduce("ReduceMean"),
        "REDUCE_MAX": e.reduce("ReduceMax", moving=True),
        "REDUCE_MIN": e.reduce("ReduceMin", moving=True),
        "REDUCE_ALL": e.reduce_all,
        "ARG_MAX": e.arg("ArgMax"),
        "ARG_MIN": e.arg("ArgMin"),
        "SOFTMAX": e.softmax,
        "LOG_SOFTMAX": e.unary("LogSoftmax", axis=-1),
        "LOGISTIC": e.unary("Sigmoid"),
        "TANH": e.unary("Tanh"),
        "L2_NORMALIZATION": e.unary("LpNormalization", axis=-1, p=2),
        "HARD_SWISH": e.unary("HardSwish"),
        "GELU": e.gelu,
        "ELU": e.unary("Elu"),
        "ABS": e.unary("Abs"),
        "EXP": e.unary("Exp"),
        "LOG": e.unary("Log"),
        "SQRT": e.unary("Sqrt"),
        "RSQRT": e.rsqrt,
        "RELU": e.clamp,
        "RELU6": e.clamp,
        "RELU_N1_TO_1": e.clamp,
        "RELU_0_TO_1": e.clamp,
        "LEAKY_RELU": e.leaky,
        "PRELU": e.binary("PRelu"),
        "QUANTIZE": e.quantize,
        "DEQUANTIZE": e.quantize,
        "CAST": e.cast,
        "EQUAL": e.compared("Equal"),
        "NOT_EQUAL": e.compared("Equal", negated=True),
        "GREATER": e.compared("Greater"),
        "GREATER_EQUAL": e.compared("GreaterOrEqual"),
        "LESS": e.compared("Less"),
        "LESS_EQUAL": e.compared("LessOrEqual"),
        "LOGICAL_AND": e.integer("And"),
        "LOGICAL_OR": e.integer("Or"),
        "LOGICAL_NOT": e.integer("Not"),
        "RESHAPE": m.reshape,
        "SQUEEZE": m.reshape,
        "EXPAND_DIMS": m.reshape,
        "TRANSPOSE": m.transpose,
        "CONCATENATION": m.concatenate,
        "PACK": m.pack,
        "UNPACK": m.unpack,
        "SPLIT": m.split,
        "SPLIT_V": m.split,
        "SLICE": m.piece,
        "STRIDED_SLICE": m.strided,
        "GATHER": m.gather,
        "GATHER_ND": m.gather_nd,
        "TOPK_V2": m.top_k,
        "PAD": m.pad,
        "PADV2": m.pad,
        "MIRROR_PAD": m.mirror_pad,
        "RESIZE_BILINEAR": m.resize,
        "RESIZE_NEAREST_NEIGHBOR": m.resize,
        "SPACE_TO_DEPTH": m.space_to_depth,
        "DEPTH_TO_SPACE": m.depth_to_space,
        "SPACE_TO_BATCH_ND": m.space_to_batch,
        "BATCH_TO_SPACE_ND": m.batch_to_space,
        "TILE": m.tile,
        "BROADCAST_TO": m.broadcast,
        "FILL": m.broadcast,
        "SELECT_V2": m.select,
    }
)
"""How each kind of op is written."""


def to_onnx(graph: Graph, real_casts: bool = False) -> bytes:
    """An integer graph as an ONNX model.

    Inputs and outputs have the file's names, shapes, types and order.

    Args:
        graph: integer, or float, or with float parts; one subgraph.
        real_casts: let CAST of a quantized tensor to integers go by way of its real values: Qualcomm's runtime casts no
            integers that have a scale. The result is the same.

    Raises:
        NoFormError: an op has no form in ONNX; it is named.
        MissingPackageError: onnx is not installed.
    """
    need("onnx")
    from onnx import helper

    if graph.others:
        raise NoFormError("the model", "it has control flow", "Export a model of one subgraph.")
    w = Writer(graph, real_casts)
    for i, op in enumerate(graph.ops):
        w.current = i
        emit = EMITTERS.get(op.kind)
        if emit is None:
            raise w.refuse(f"{op.custom_code or op.kind} has no form in ONNX")
        if any(t >= 0 and graph.tensors[t].is_variable for t in op.inputs):
            raise w.refuse("it reads a variable, which ONNX does not have", "Export the model without its state.")
        emit(w, op)
    for t in graph.outputs:
        w.stored(t)
        if t in graph.inputs:
            raise NoFormError(f"output {graph.tensors[t].name!r}", "it is an input as well", "Leave that output out.")
    inputs, outputs = ([_value(w, t) for t in dict.fromkeys(ends)] for ends in (graph.inputs, graph.outputs))
    made = helper.make_graph(w.nodes, graph.name or "main", inputs, outputs, initializer=w.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edgeqwt")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _value(w: Writer, t: int) -> Any:
    from onnx import helper

    tensor = w.tensor(t)
    if tensor.dtype not in DTYPES:
        raise NoFormError(f"tensor {tensor.name!r}", f"its type is {tensor.dtype}", "Leave it out.")
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[tensor.dtype]))
    return helper.make_tensor_value_info(w.names[t], dtype, tensor.shape)
