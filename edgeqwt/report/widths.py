"""How wide an integer graph's activations are, and what changing between widths costs: read off the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeqwt.errors import listed
from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import is_hybrid, is_linear, slots
from edgeqwt.graph.opset16 import BITS, bits_of, stays_float
from edgeqwt.lowering.int4 import takes_int4
from edgeqwt.profile import TargetProfile
from edgeqwt.widths.precision import Precision

NAMED = 5  # ops that a sentence names


@dataclass(frozen=True)
class Widths:
    """Ops of an integer graph by the width of their activations.

    Attributes:
        narrow, wide: ops with 8-bit and with 16-bit activations, by kind, most frequent first; copies left out.
        other: ops on neither: indices, flags, borders to floats.
        floats: what ops that stay float compute: their kind and tensor, in order.
        at_run_time: how many of these have integer weights, and round what they read when they run.
        to_8, to_16: copies of an activation at the other width.
        copy_ops: ops that all those copies take.
    """

    narrow: Mapping[str, int]
    wide: Mapping[str, int]
    other: int
    to_8: int
    to_16: int
    copy_ops: int
    floats: tuple[tuple[str, str], ...] = ()
    at_run_time: int = 0


def widths(graph: Graph) -> Widths:
    """Counts ops by width, and copies between widths.

    A copy to 8 bits is a QUANTIZE. One to 16 bits is a CAST, with an ADD behind it where the zero
    point or the scale change as well (`lowering.op_writer`).
    """
    to_8 = [i for i, op in enumerate(graph.ops) if op.kind == "QUANTIZE" and _types(graph, op) == ("int16", "int8")]
    to_16 = [i for i, op in enumerate(graph.ops) if op.kind == "CAST" and _types(graph, op) == ("int8", "int16")]
    copies = {*to_8, *to_16, *_completed(graph, to_16)}
    rest = [op for i, op in enumerate(graph.ops) if i not in copies]
    kinds = {bits: Counter(op.kind for op in rest if _width(graph, op) == bits) for bits in (8, 16)}
    found = {bits: dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))) for bits, counts in kinds.items()}
    floats = tuple((op.kind, graph.tensors[op.outputs[0]].name) for op in rest if stays_float(graph, op))
    other = len(rest) - sum(kinds[8].values()) - sum(kinds[16].values()) - len(floats)
    hybrid = sum(is_hybrid(graph, op) for op in rest)
    return Widths(found[8], found[16], other, len(to_8), len(to_16), len(copies), floats, hybrid)


def float_sentences(found: Widths) -> Iterator[str]:
    """Which ops stay float32; nothing where none does."""
    if found.at_run_time:
        others = len(found.floats) - found.at_run_time
        yield f"{found.at_run_time} ops round what they read at run time, row by row; {others} others are float32"
    elif found.floats:
        named = [f"{kind} {tensor!r}" for kind, tensor in found.floats]
        yield f"{len(named)} {'op stays' if len(named) == 1 else 'ops stay'} float32: {listed(named, NAMED)}"


def widths_sentences(found: Widths) -> Iterator[str]:
    """What 16-bit activations cost; nothing where there are none."""
    if not found.wide:
        return
    wide, total = sum(found.wide.values()), sum((*found.narrow.values(), *found.wide.values()))
    yield f"{wide} of {total} ops: {', '.join(f'{count} {kind}' for kind, count in found.wide.items())}"
    if found.copy_ops:
        yield f"copies between widths: {found.to_8} to 8 bits, {found.to_16} to 16 bits, {found.copy_ops} ops in all"


def int4_sentences(graph: Graph, precision: Precision, target: TargetProfile) -> Iterator[str]:
    """How many layers' 4-bit weights take 4 bits in the file, and why others do not; nothing without such weights."""
    linear = [op for op in graph.ops if is_linear(op)]
    meant = [op for op in linear if precision.of(graph.tensors[op.outputs[0]].name).weights == 4]
    unpacked = [op for op in meant if graph.tensors[slots(op).weight].dtype != "int4"]
    if meant:
        yield f"{len(meant) - len(unpacked)} of {len(meant)} layers' 4-bit weights are stored as int4"
    reasons = Counter((op.kind, _unpacked_because(graph, op, target)) for op in unpacked)
    for (kind, why), count in reasons.most_common():
        yield f"{count} {kind} in 8 bits: {why}"


def _unpacked_because(graph: Graph, op: Op, target: TargetProfile) -> str:
    if "no_int4" in target.limits:
        return f"{target.name} takes no int4"
    tflm, weights, bits = "tflm" in target.runtimes, graph.tensors[slots(op).weight].shape, bits_of(graph, op)
    if takes_int4(op.kind, weights, bits, tflm):
        slow = op.kind != "FULLY_CONNECTED" and not tflm
        return "slow in int4, and small" if slow else "the weights are shared with another op"
    if bits == 16 and takes_int4(op.kind, weights, 8, tflm):
        return "kernels have no int4 for it beside 16-bit activations"
    if takes_int4(op.kind, (*weights[:-1], 2), bits, tflm):
        return "slow in int4 with an odd number of inputs"
    if takes_int4(op.kind, (2, *weights[1:]), bits, tflm):
        return "XNNPACK takes no int4 for a single output"
    name = "TFLite Micro has" if tflm else "kernels have"
    return f"{name} no int4 for it with a scale per channel"


def _types(graph: Graph, op: Op) -> tuple[str, str]:
    return graph.tensors[op.inputs[0]].dtype, graph.tensors[op.outputs[0]].dtype


def _completed(graph: Graph, casts: list[int]) -> set[int]:
    """The ADDs of a constant that casts to 16 bits end with."""
    cast = {graph.ops[i].outputs[0] for i in casts}
    return {
        i
        for i, op in enumerate(graph.ops)
        if op.kind == "ADD" and op.inputs[0] in cast and graph.tensors[op.inputs[1]].is_constant
    }


def _width(graph: Graph, op: Op) -> int:
    """8 or 16; 0 for an op without activations of these widths."""
    activations = {graph.tensors[t].dtype for t in (*op.inputs, *op.outputs) if t >= 0} & BITS.keys()
    return bits_of(graph, op) if activations else 0
