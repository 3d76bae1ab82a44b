"""Pairs the ops of an integer graph that can be corrected with those of its float reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeqwt.compensation.constants import constant_ops, values
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import RULES, slots
from edgeqwt.graph.opset16 import BITS
from edgeqwt.scales.weights import dequantize

# Least cosine between an op's weights and its partner's. That of unrelated weights is about 0; that of
# weights and their own rounding is 0.99 at 4 bits, and at 2 bits 0.9 to 0.5, the less the larger the layer.
SIMILAR = 0.7
SIMILAR_AND_NAMED_ALIKE = 0.3
# Typical norm of a channel's weights against its partner's. Rounding hardly changes it; a batch norm that
# only one of the graphs has folded in does, and then the two outputs are different quantities.
SAME_SIZE = (0.5, 2.0)

NOT_INTEGER = "the op does not work on int8 or int16 with int8 weights"
NO_PARTNER = "no op with these weights in the reference"


@dataclass(frozen=True)
class Pair:
    """One op in both graphs.

    Attributes:
        integer, reference: op indices.
        output: the reference's tensor that corresponds to the integer op's output, fused
            activation included; None where the reference has none.
    """

    integer: int
    reference: int
    output: int | None


def match(integer: Graph, reference: Graph, constants: bool = True) -> tuple[tuple[Pair, ...], dict[int, str]]:
    """Pairs in the integer graph's order, and for each linear op without a partner the reason.

    Partners have one kind, equally shaped weights and outputs, both a bias or both none, and
    similar weights; an op with the same output name goes first, then the most similar one.

    Args:
        integer: the graph to correct.
        reference: the float graph that it came from.
        constants: also pair the ops on constants per channel: those that have one name and one constant.

    Raises:
        InputError: the integer graph has linear ops, and none of them has a partner.
    """
    # Its weights may be integers: files of dynamic range compute in float all the same.
    free = [j for j in linear_ops(reference) if reference.tensors[slots(reference.ops[j]).data].is_float]
    pairs, alone = [], {}
    for i in linear_ops(integer):
        if not _is_integer(integer, integer.ops[i]):
            alone[i] = NOT_INTEGER
            continue
        likeness = {j: value for j in free if (value := _likeness(integer, i, reference, j))}
        if not likeness:
            alone[i] = NO_PARTNER
            continue
        best = max(likeness, key=likeness.__getitem__)
        free.remove(best)
        pairs.append(Pair(i, best, _output(reference, best, integer.ops[i].activation)))
    if alone and not pairs:
        reason = Counter(alone.values()).most_common(1)[0][0]
        raise InputError(
            f"none of the {len(alone)} linear ops can be compensated: {reason}",
            "Name a full-integer file and the float file that it was made from.",
        )
    pairs += _with_constants(integer, reference) if constants else []
    return tuple(sorted(pairs, key=lambda pair: pair.integer)), alone


def _with_constants(integer: Graph, reference: Graph) -> Iterator[Pair]:
    """The ops on a constant per channel that are the same by name, kind and constant."""
    named = {reference.tensors[reference.ops[j].outputs[0]].name: j for j in constant_ops(reference)}
    for i in constant_ops(integer):
        op, out = integer.ops[i], integer.tensors[integer.ops[i].outputs[0]]
        j = named.get(out.name)
        if (
            j is None
            or reference.ops[j].kind != op.kind
            or not all(integer.tensors[t].dtype in BITS for t in op.tensors)
        ):
            continue
        ours, theirs = values(integer, i).reshape(-1), values(reference, j).reshape(-1)
        norms = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
        if out.shape == reference.tensors[reference.ops[j].outputs[0]].shape and ours @ theirs >= SIMILAR * norms:
            yield Pair(i, j, None)


def check_inputs(graph: Graph, reference: Graph) -> None:
    """Raises InputError unless the graphs have equally shaped inputs, in the same order."""
    ours, theirs = ([(g.tensors[t].name, g.tensors[t].shape) for t in g.inputs] for g in (graph, reference))
    if [shape for _, shape in ours] != [shape for _, shape in theirs]:
        raise InputError(
            f"the models take different inputs: {_listed(ours)} and {_listed(theirs)}",
            "Name the float file that the int8 file was made from.",
        )


def linear_ops(graph: Graph) -> list[int]:
    """Indices of the linear ops that work on activations, with constant weights."""
    return [
        i
        for i, op in enumerate(graph.ops)
        if op.kind in RULES
        and RULES[op.kind].linear
        and graph.tensors[slots(op).weight].is_constant
        and not graph.tensors[slots(op).data].is_constant
    ]


def _is_integer(graph: Graph, op: Op) -> bool:
    s = slots(op)
    x, weight, y = (graph.tensors[t] for t in (s.data, s.weight, s.output))
    quantized = all(t.quantization is not None for t in (x, weight, y))
    return quantized and x.dtype == y.dtype and x.dtype in BITS and weight.dtype in ("int8", "int4")


def _likeness(integer: Graph, i: int, reference: Graph, j: int) -> float:
    """The cosine of two ops' weights, more where they have one name, 0 where they cannot be partners."""
    op, other = integer.ops[i], reference.ops[j]
    out, wanted = integer.tensors[op.outputs[0]], reference.tensors[other.outputs[0]]
    if op.kind != other.kind or out.shape != wanted.shape:
        return 0.0
    if _has_bias(integer, op) != _has_bias(reference, other) and not _rounded_away(integer, op):
        return 0.0
    axis = RULES[op.kind].channel_axis
    ours, theirs = (np.moveaxis(w, axis, 0) for w in (_weights(integer, op), _weights(reference, other)))
    if ours.shape != theirs.shape:
        return 0.0
    named_alike = out.name == wanted.name
    norms = [np.linalg.norm(w.reshape(len(w), -1), axis=1) for w in (ours, theirs)]
    used = (norms[0] > 0) & (norms[1] > 0)
    if not used.any():  # nothing but zeros: only the name can tell
        return 2.0 if named_alike and not norms[0].any() and not norms[1].any() else 0.0
    cosine = float((ours * theirs).sum() / np.prod([np.linalg.norm(n) for n in norms]))
    size = float(np.median(norms[0][used] / norms[1][used]))
    if cosine < (SIMILAR_AND_NAMED_ALIKE if named_alike else SIMILAR) or not SAME_SIZE[0] < size < SAME_SIZE[1]:
        return 0.0
    return 1 + cosine if named_alike else cosine


def _has_bias(graph: Graph, op: Op) -> bool:
    bias = slots(op).bias
    data = None if bias < 0 else graph.tensors[bias].data
    return data is not None and bool(data.any())


def _rounded_away(integer: Graph, op: Op) -> bool:
    """Whether an op has a bias of zeros, which one that is small beside a step may have become."""
    bias = slots(op).bias
    return bias >= 0 and not _has_bias(integer, op)


def _output(reference: Graph, j: int, activation: str) -> int | None:
    op = reference.ops[j]
    if op.activation == activation:
        return op.outputs[0]
    followers = [reference.ops[i] for i in reference.consumers().get(op.outputs[0], [])]
    found = [f.outputs[0] for f in followers if op.activation == "NONE" and f.kind == activation]
    return found[0] if found else None


def _weights(graph: Graph, op: Op) -> Array:
    tensor = graph.tensors[slots(op).weight]
    assert tensor.data is not None
    return tensor.data if tensor.quantization is None else dequantize(tensor.data, tensor.quantization)


def _listed(inputs: list[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in inputs)
