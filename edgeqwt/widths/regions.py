"""Regions of 16-bit activations: what lies between the matrix products of a transformer.

The products read and compute 8 bits, and cost most of the time. What lies between them (residual stream,
normalization, softmax, activation functions) is a small part of the work, and in transformers most of the error:
a few channels and tokens are many times as large as the others (Dettmers et al. 2022, LLM.int8()). A region is a
connected piece of what lies between; its role is that of the op that gives it its name.

A recurrent layer that is written out step by step is a region as well, its products included: what a step rounds
away is missing in all that follow, and as all of it has 16 bits, no copies of other widths are needed inside.

So are the quotients of linear attention, with the products that they divide: tokens' divisors differ by factors of
hundreds, and numerators with them (`prepare.quotients`).

So is a softmax whose shares weigh values that are summed, up to the sum: the expected coordinate of a heat map
(soft-argmax), the expected disparity, or distance of a detector's box, statistics that attention pools over time. Of a
thousand positions most have less than half a step of 1/256 each, and together much of the sum.

So are layers on vectors, such as those between a global mean and the gate of squeeze-and-excitation (Hu et al. 2018),
products included: what is off in a gate is off at all positions alike, and a position is a small part of the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from types import MappingProxyType

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import is_linear, multiplications, slots
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.widths.plan import connected
from edgeqwt.widths.precision import Precision, Widths
from edgeqwt.widths.recurrence import recurrent_ops

ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"normalization": ("RSQRT",), "softmax": ("SOFTMAX",), "activation": ("GELU", "LOGISTIC", "TANH")}
)
"""Roles, and the kinds of ops that give them; the first that fits counts."""
RECURRENCE, VECTORS, QUOTIENT, EXPECTATION = "recurrence", "vectors", "quotient", "expectation"
"""The roles of recurrent layers, of layers on vectors, of what linear attention divides, and of a softmax's mean."""
SUMMING = ("ADD", "MAXIMUM", "MUL", "MEAN", "BATCH_MATMUL")
"""What computes the two parts of such a quotient."""
LITTLE = 0.05
"""Of a network's multiplications: what layers on vectors may have at most."""


@dataclass(frozen=True)
class Region:
    """Connected ops between matrix products.

    Attributes:
        role: of `ROLES`, or `RECURRENCE`, `VECTORS`, `QUOTIENT`, or `EXPECTATION`.
        ops: indices, in order.
    """

    role: str
    ops: tuple[int, ...]


def regions(graph: Graph) -> tuple[Region, ...]:
    """The regions of a float graph; where nothing normalizes or attends, those of other roles than `ROLES` only."""
    recurrent, quotients = recurrent_ops(graph), [*_quotients(graph)]
    apart = recurrent.union(*quotients)
    pieces = [rest for piece in _pieces(graph) if (rest := tuple(i for i in piece if i not in apart))]
    found = []
    for ops in pieces:
        kinds = {graph.ops[i].kind for i in ops}
        role = next((role for role, names in ROLES.items() if kinds & {*names}), None)
        if role is not None and not _rounds_once(graph, ops):
            found.append(Region(role, ops))
    transformer = any(region.role == "normalization" for region in found) or attends(graph)
    others = [] if transformer else [Region(EXPECTATION, ops) for ops in _expectations(graph)]
    found = [*(found if transformer else others), *(Region(QUOTIENT, ops) for ops in quotients)]
    taken = recurrent.union(*(region.ops for region in found if region.role != "activation"))
    vectors = [*_on_vectors(graph, taken)]
    layers = [tuple(sorted(piece)) for piece in connected(graph, sorted(recurrent))]
    return (*_without(found, vectors), *(Region(RECURRENCE, ops) for ops in layers), *vectors)


def _quotients(graph: Graph) -> Iterator[tuple[int, ...]]:
    """The ops of each (x · y^-1/2) · y^-1/2 of products of activations, and of these back to their factors."""
    producers, readers = graph.producers(), graph.consumers()
    for i, op in enumerate(graph.ops):
        multiplied = readers.get(op.outputs[0], []) if op.kind == "RSQRT" else []
        if len(multiplied) != 2 or any(graph.ops[j].kind != "MUL" for j in multiplied):
            continue
        first, second = sorted(multiplied)
        x = next((t for t in graph.ops[first].inputs if t != op.outputs[0]), -1)
        divided = producers.get(x, -1)
        if graph.ops[first].outputs[0] not in graph.ops[second].inputs or divided < 0:
            continue
        if graph.ops[divided].kind != "BATCH_MATMUL":
            continue
        ops, todo = {i, first, second}, [x, op.inputs[0]]
        while todo:
            j = producers.get(todo.pop(), -1)
            if j >= 0 and j not in ops and graph.ops[j].kind in SUMMING:
                ops.add(j)
                todo += graph.ops[j].inputs
        yield tuple(sorted(ops))


def _expectations(graph: Graph) -> Iterator[tuple[int, ...]]:
    """The ops of each softmax that is not the end, and of what makes sums of its shares, where that is little work."""
    readers, work = graph.consumers(), [multiplications(graph, op) for op in graph.ops]

    def multiplies(op: Op) -> bool:
        return is_linear(op) and graph.tensors[slots(op).weight].is_constant

    def hands_on(op: Op) -> bool:
        return op.kind in ("MUL", "MEAN") or (op.kind in RULES and RULES[op.kind].tied_inputs(op) == (0,))

    for i in (i for i, op in enumerate(graph.ops) if op.kind == "SOFTMAX"):
        ops, todo = {i}, [*graph.ops[i].outputs]
        while todo:
            found = [j for j in readers.get(todo.pop(), []) if j not in ops]
            ops |= {j for j in found if multiplies(graph.ops[j]) or hands_on(graph.ops[j])}
            todo += [t for j in found if hands_on(graph.ops[j]) for t in graph.ops[j].outputs]
        sums = any(graph.ops[j].kind == "MEAN" or multiplies(graph.ops[j]) for j in ops)
        if sums and sum(work[j] for j in ops) <= LITTLE * sum(work):
            yield tuple(sorted(ops))


def attends(graph: Graph) -> bool:
    """Whether the rows of a softmax are factors of a product of two activations: attention, whatever normalizes."""
    weights = set[int]()
    for op in graph.ops:
        if op.kind == "SOFTMAX":
            weights |= {*op.outputs}
        elif op.kind == "BATCH_MATMUL" and weights & {*op.inputs}:
            return True
        elif op.kind in RULES and op.inputs and op.inputs[0] in weights and RULES[op.kind].tied_inputs(op) == (0,):
            weights |= {*op.outputs}
    return False


def widened(graph: Graph, precision: Precision, wide: Iterable[Region]) -> Precision:
    """The precision with 16-bit activations in some regions."""
    named = {
        graph.tensors[graph.ops[i].outputs[0]].name: Widths(precision.weight_bits, 16)
        for region in wide
        for i in region.ops
        if graph.tensors[graph.ops[i].outputs[0]].is_float and graph.ops[i].kind in RULES16
    }
    return replace(precision, layers={**precision.layers, **named})


def is_product(graph: Graph, op: Op) -> bool:
    """Whether an op bounds regions: a matrix product or convolution, or the rows of a table.

    A product with one column sums channels up, as normalization does: that is no work.
    """
    if op.kind not in RULES:
        return False
    constant = all(graph.tensors[t].is_constant for t in op.inputs[:1] if t >= 0)
    multiplies = is_linear(op) or op.kind == "BATCH_MATMUL"
    return (multiplies and graph.tensors[op.outputs[0]].shape[-1] > 1) or (op.kind == "GATHER" and constant)


def _rounds_once(graph: Graph, ops: Sequence[int]) -> bool:
    """Whether 16 bits cannot help: one op between products, which have 8, with an output scale that is free."""
    first, ends = graph.ops[ops[0]], (*graph.inputs, *graph.outputs)
    alone = len(ops) == 1 and {*first.inputs, *first.outputs}.isdisjoint(ends)
    return alone and RULES[first.kind].fixed_output is None


def _without(found: Iterable[Region], others: Iterable[Region]) -> Iterator[Region]:
    """The regions without the ops that others have."""
    taken = {i for region in others for i in region.ops}
    for region in found:
        if ops := tuple(i for i in region.ops if i not in taken):
            yield replace(region, ops=ops)


def _on_vectors(graph: Graph, taken: Set[int]) -> Iterator[Region]:
    """Connected ops that read and compute vectors alone and hand some on to each other, where that is little work."""
    inside = [
        i
        for i, op in enumerate(graph.ops)
        if i not in taken and op.kind in RULES16 and not {*op.outputs} & {*graph.outputs} and _has_vectors(graph, op)
    ]
    work = [multiplications(graph, op) for op in graph.ops]
    if sum(work[i] for i in inside) > LITTLE * sum(work):
        return
    for piece in connected(graph, inside):
        read = {t for i in piece for t in graph.ops[i].inputs}
        computing = [graph.ops[i] for i in piece if not RULES[graph.ops[i].kind].tied_inputs(graph.ops[i])]
        if any(t in read for op in computing for t in op.outputs):
            yield Region(VECTORS, tuple(sorted(piece)))


def _has_vectors(graph: Graph, op: Op) -> bool:
    """Whether the activations that an op reads and computes are real and have one position each."""
    found = [graph.tensors[t] for t in op.tensors if t >= 0 and not graph.tensors[t].is_constant]
    return all(tensor.is_float and tensor.size == max(tensor.shape, default=0) for tensor in found)


def _pieces(graph: Graph) -> list[tuple[int, ...]]:
    """Connected ops on real values that are no products, in order."""
    # What comes of integer inputs alone, a mask, is no activation: it would join all that it hides.
    real = {t for t in graph.inputs if graph.tensors[t].is_float}
    inside: list[int] = []
    for i, op in enumerate(graph.ops):
        if is_product(graph, op) or not real.isdisjoint(op.inputs):
            real |= {t for t in op.outputs if graph.tensors[t].is_float}
            inside += [] if is_product(graph, op) or op.kind not in RULES else [i]
    return [tuple(sorted(piece)) for piece in connected(graph, inside)]
