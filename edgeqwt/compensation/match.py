"""Pairs the ops of an integer graph that can be corrected with those of its float reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeqwt.compensation.channel_constants import constant_ops, values
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import is_hybrid, linear_ops, slots
from edgeqwt.graph.opset16 import BITS
from edgeqwt.graph.pairing import SIMILAR, activated, most_alike, op_counterparts

NOT_INTEGER = "the op does not work on int8 or int16 with int8 weights"
OTHER_MODEL = "Name the float file that the integer file was made from."
FLOAT = "the op computes in float"
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

    Ops on weights are paired by these (`graph.pairing.most_alike`).

    Args:
        integer: the graph to correct.
        reference: the float graph that it came from.
        constants: also pair the ops on constants per channel: those that have one name and one constant.

    Raises:
        InputError: the integer graph has linear ops that do not stay float, and none of them has a partner.
    """
    # Its weights may be integers: files of dynamic range compute in float all the same.
    free = [j for j in linear_ops(reference) if reference.tensors[slots(reference.ops[j]).data].is_float]
    pairs, alone = [], {}
    for i in linear_ops(integer):
        if not _is_integer(integer, integer.ops[i]):
            alone[i] = FLOAT if integer.tensors[slots(integer.ops[i]).weight].is_float else NOT_INTEGER
            continue
        best = most_alike(reference, free, integer, i)
        if best is None:
            alone[i] = NO_PARTNER
            continue
        free.remove(best)
        pairs.append(Pair(i, best, activated(reference, best, integer.ops[i].activation)))
    meant = {FLOAT} if _has_integers(integer) else set[str]()
    wrong = [reason for reason in alone.values() if reason not in meant]
    if wrong and not pairs:
        reason = Counter(wrong).most_common(1)[0][0]
        raise InputError(
            f"none of the {len(alone)} linear ops can be compensated: {reason}",
            "Name a full-integer file and the float file that it was made from.",
        )
    pairs += _with_constants(integer, reference) if constants else []
    return tuple(sorted(pairs, key=lambda pair: pair.integer)), alone


def _with_constants(integer: Graph, reference: Graph) -> Iterator[Pair]:
    """The ops on a constant per channel that are the same by name, kind and constant."""
    others = {*constant_ops(reference)}
    named = {i: j for j, i in op_counterparts(reference, integer).items() if j in others}
    for i in constant_ops(integer):
        op, j = integer.ops[i], named.get(i)
        if (
            j is None
            or reference.ops[j].kind != op.kind
            or not all(integer.tensors[t].dtype in BITS for t in op.tensors)
        ):
            continue
        out = integer.tensors[op.outputs[0]]
        ours, theirs = values(integer, i).reshape(-1), values(reference, j).reshape(-1)
        norms = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
        if out.shape == reference.tensors[reference.ops[j].outputs[0]].shape and ours @ theirs >= SIMILAR * norms:
            yield Pair(i, j, None)


def _has_integers(graph: Graph) -> bool:
    """Whether a graph computes with integers at all; ops of one that does may stay float on purpose."""
    return any(tensor.quantization is not None for tensor in graph.tensors)


def _is_integer(graph: Graph, op: Op) -> bool:
    s = slots(op)
    x, weight, y = (graph.tensors[t] for t in (s.data, s.weight, s.output))
    if is_hybrid(graph, op):
        return y.is_float
    quantized = all(t.quantization is not None for t in (x, weight, y))
    return quantized and x.dtype == y.dtype and x.dtype in BITS and weight.dtype in ("int8", "int4")
