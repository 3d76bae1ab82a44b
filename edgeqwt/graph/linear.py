"""Linear ops: where one keeps its data, weights, bias and output, and its weights as rows, one per output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import bits_of, stays_float

BITS_OF_WEIGHTS = {"int4": 4, "int8": 8}


@dataclass(frozen=True)
class Slots:
    """Where one linear op keeps its tensors; indices, bias -1 where absent.

    Attributes:
        axis: of the weights, along which their output channels lie.
    """

    data: int
    weight: int
    bias: int
    output: int
    axis: int = 0


def is_linear(op: Op) -> bool:
    """Whether a gain and an offset can be folded into an op; false of kinds that the table does not have."""
    return op.kind in RULES and RULES[op.kind].linear


def slots(op: Op) -> Slots:
    """The slots of a linear op."""
    rule = RULES[op.kind]
    assert rule.weight is not None
    assert rule.bias is not None
    bias = op.inputs[rule.bias] if rule.bias < len(op.inputs) else -1
    return Slots(op.inputs[rule.data], op.inputs[rule.weight], bias, op.outputs[0], rule.channel_axis)


def linear_ops(graph: Graph) -> list[int]:
    """Indices of the linear ops that work on activations, with constant weights."""
    return [
        i
        for i, op in enumerate(graph.ops)
        if has_constant_weights(graph, op) and not graph.tensors[slots(op).data].is_constant
    ]


def has_constant_weights(graph: Graph, op: Op) -> bool:
    """Whether an op is a linear one whose weights are in the file."""
    return is_linear(op) and graph.tensors[slots(op).weight].is_constant


def is_hybrid(graph: Graph, op: Op) -> bool:
    """Whether an op rounds what it reads at run time: a linear one on floats, with weights that are integers."""
    if not has_constant_weights(graph, op):
        return False
    s = slots(op)
    return graph.tensors[s.data].is_float and graph.tensors[s.weight].quantization is not None


def channel_rows(values: Array, axis: int) -> Array:
    """Weights, or what belongs to each of them, as shape (channels, terms)."""
    found: Array = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    return found


def along(vector: Array, axis: int, rank: int) -> Array:
    """A value per channel, shaped to broadcast over a tensor of this rank whose channels lie along an axis."""
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


def bit_operations(graph: Graph) -> int:
    """Multiplications of one inference, each times the bits of its weight and of its activation.

    What ops without weights and moves between widths cost is not counted. A common measure of what widths save on
    hardware whose multipliers are as wide as their operands; processors have 8 bits at least.
    """
    found = 0
    for op in graph.ops:
        if count := multiplications(graph, op):
            weight = BITS_OF_WEIGHTS.get(graph.tensors[slots(op).weight].dtype, 32)
            found += count * weight * (32 if stays_float(graph, op) else bits_of(graph, op))
    return found


def multiplications(graph: Graph, op: Op) -> int:
    """Multiplications and additions of one run of an op with weights; 0 for other ops."""
    rule = RULES.get(op.kind)
    if rule is None or rule.weight is None or not op.outputs:
        return 0
    s = slots(op)
    weights = graph.tensors[s.weight]
    if op.kind == "TRANSPOSE_CONV":  # each input value meets all weights of its channel
        return graph.tensors[s.data].size * weights.size // max(weights.shape[-1], 1)
    return graph.tensors[s.output].size * weights.size // max(weights.shape[s.axis], 1)


def work(graph: Graph) -> int:
    """Multiplications and additions of one run of a graph, those of `multiplications`."""
    return sum(multiplications(graph, op) for op in graph.ops)


def runs(graph: Graph, multiplications: int, least: int = 1) -> int:
    """How many runs of a graph make so many multiplications, those of `work`; `least` at least."""
    return max(least, multiplications // max(1, work(graph)))
