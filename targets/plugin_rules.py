"""Constraints of NPUs that a vendor's plugin of LiteRT compiles for; the plugin itself is asked where it is there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset16 import bits_of
from edgeqwt.target.model import Model
from edgeqwt.target.op_rules import beyond, described
from edgeqwt.target.rule import ERROR, WARNING, Hit, Kinds, constraint


@constraint(WARNING, dict)
def plugin_ops(model: Model, limit: Kinds) -> Iterator[Hit]:
    """The NPU's compiler leaves the op to the CPU, which cuts the network into more partitions.

    Remedy: Replace the op with one that the NPU has (docs/targets.md), or accept the way to the CPU and back.
    """
    for i, uses in beyond(model, limit):
        op = model.graph.ops[i]
        types = [model.tensor(t).dtype for t in (op.inputs[0], op.outputs[0])] if op.inputs and op.outputs else []
        table = not model.is_float and op.kind == "CAST" and types == ["int8", "int16"]
        yield Hit(i, described(uses), fix="cast-as-table" if table else "")


@constraint(WARNING)
def plugin_forms(model: Model, _: bool) -> Iterator[Hit]:
    """The NPU's compiler takes the op, but not in this form.

    Remedy: Write it in the form that is named, or accept the way to the CPU and back.
    """
    for i, op in enumerate(model.graph.ops):
        activation = op.activation if bits_of(model.graph, op) == 16 else "NONE"
        if activation in ("RELU6", "RELU_N1_TO_1"):
            yield Hit(i, f"{op.kind} in 16 bits with {activation}; RELU is taken")
        elif op.kind == "TRANSPOSE_CONV" and cut(model.graph, op) is not None:
            fix = "" if model.is_float else "transpose-conv-cut"
            yield Hit(i, "a TRANSPOSE_CONV with padding SAME; VALID and a SLICE are taken", fix=fix)
        elif op.kind in ("TANH", "HARD_SWISH", "GELU") and len(model.tensor(op.inputs[0]).shape) > 4:
            yield Hit(i, f"{op.kind} of rank 5; a RESHAPE to 4 axes before it is taken")


@constraint(ERROR)
def plugin_fails(model: Model, _: bool) -> Iterator[Hit]:
    """The NPU's compiler takes the op, and then fails on the whole model.

    Remedy: Give the op's inputs at most 4 axes, or numbers and vectors in place of whole constant tensors.
    """
    for i, op in enumerate(model.graph.ops):
        shapes = [(model.tensor(t).shape, model.tensor(t).is_constant) for t in op.inputs if t >= 0]
        if op.kind in ("MAXIMUM", "MINIMUM"):
            if any(constant and len(shape) > 1 for shape, constant in shapes):
                yield Hit(i, f"{op.kind} with a constant of rank {max(len(shape) for shape, _ in shapes)}")
        elif op.kind == "GATHER" and shapes[0] == ((256,), True) and len(shapes[1][0]) > 4:
            yield Hit(i, f"a table of a function of rank {len(shapes[1][0])}")
        elif op.kind == "BATCH_MATMUL" and model.tensor(op.outputs[0]).dtype == "int16":
            yield Hit(i, "BATCH_MATMUL on int16", remedy="Build with 8-bit activations there.")


@constraint(ERROR)
def plugin_zero(model: Model, _: bool) -> Iterator[Hit]:
    """The NPU takes an ADD of zero for a copy of the integers, so that a change of scale is lost.

    Remedy: Write SUB of zero, which is right there and gives the same integers in LiteRT.
    """
    for i, op in enumerate(() if model.is_float else model.graph.ops):
        if adds_zero(model.graph, op):
            yield Hit(i, "the sum has another scale than what zero is added to", fix="sub-of-zero")


def adds_zero(graph: Graph, op: Op) -> bool:
    """Whether an op adds a constant zero to an activation and changes its scale."""
    if op.kind != "ADD" or len(op.inputs) != 2:
        return False
    sides = [graph.tensors[t] for t in op.inputs]
    constants = [t for t in sides if t.data is not None]
    if len(constants) != 1 or constants[0].quantization is None or constants[0].data is None:
        return False
    other = next(t for t in sides if t.data is None)
    zero = bool(np.all(constants[0].data == constants[0].quantization.zero_point[0]))
    out = graph.tensors[op.outputs[0]].quantization
    return zero and other.quantization is not None and not other.quantization.same_as(out)


def cut(graph: Graph, op: Op) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """How a TRANSPOSE_CONV cuts what it computes to the size that padding SAME asks for.

    Returns:
        Height and width of all that it computes, and where the output begins in that; None where nothing is cut.
    """
    x, out = graph.tensors[op.inputs[2]].shape[1:3], graph.tensors[op.outputs[0]].shape[1:3]
    size = graph.tensors[op.inputs[1]].shape[1:3]
    strides = int(op.options.get("strideH", 1)), int(op.options.get("strideW", 1))
    whole = [(n - 1) * s + k for n, s, k in zip(x, strides, size, strict=True)]
    more = [w - n for w, n in zip(whole, out, strict=True)]
    if str(op.options.get("padding", "SAME")) != "SAME" or min(more) < 0 or max(more) == 0:
        return None
    return (whole[0], whole[1]), (more[0] // 2, more[1] // 2)
