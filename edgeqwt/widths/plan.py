"""How wide each op's activations are: 8 or 16 bits, or float32 (`FLOAT`) where an op is not to be quantized.

An op works at one width: what it reads and what it computes have it. Where a reader's width is
not the one that a tensor is computed at, the writer puts a copy in between, shared by all such
readers. So that no copy is needless, an op that only moves or picks values takes the widest of its
inputs' widths, or 16 bits where that saves a copy; every other op takes what the precision says, or
8 bits where it has no 16-bit form, or 16 where its 8-bit kernels end the process (`OpRule.longest_row`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace

from edgeqwt.errors import RecipeError
from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.graph.saturation import before_saturation
from edgeqwt.profile import LITERT, Kernels
from edgeqwt.widths.precision import FLOAT, Precision

NO_KERNEL = "no runtime has it with 16-bit activations"
NOT_ON_TARGET = "the target does not have it with 16-bit activations"
TOO_MANY = "it sums more elements than its 16-bit kernels can"
SCALE = "its input's scale is beyond what its 16-bit kernels take"


@dataclass(frozen=True)
class Plan:
    """The widths of a float graph's activations, in bits.

    Attributes:
        ops: of each op, in order; 8 for ops on integers alone, `FLOAT` for those that stay float.
        computed_bits: of each float activation, the width at which it is computed.
        interface: of the graph's inputs and outputs, unless `ports` has another one for them.
        kept: ops that were to have 16 bits and have 8, by index, and why.
        finer_joins: whether inputs of joining ops may keep finer scales of their own.
        ports: of some inputs and outputs, by tensor index.
        spans: real values of the lowest and the highest integer of some inputs and outputs, by tensor index.
        finer_curves: whether bounded functions may be tables with output scales of their own.
    """

    ops: tuple[int, ...]
    computed_bits: Mapping[int, int]
    interface: int
    kept: Mapping[int, str]
    finer_joins: bool = False
    ports: Mapping[int, int] = field(default_factory=dict)
    spans: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    finer_curves: bool = False

    def port(self, tensor: int) -> int:
        """The width of an input or output in the file."""
        return self.ports.get(tensor, self.interface)


def planned(
    graph: Graph,
    precision: Precision,
    kernels: Kernels = LITERT,
    narrow: Mapping[int, str] | None = None,
    large: Set[int] = frozenset(),
) -> Plan:
    """Chooses the width of every op.

    Args:
        graph: float, lowerable.
        precision: widths, of which those of `layers` go first.
        kernels: say which ops the target lacks at 16 bits.
        narrow: ops that must have 8 bits for other reasons, and the reasons.
        large: ops whose values need 16 bits, where the target has them.

    Raises:
        RecipeError: `precision` names a tensor that no op computes.
    """
    _check_names(graph, precision)
    io_tensors = [t for t in dict.fromkeys((*graph.inputs, *graph.outputs)) if graph.tensors[t].is_float]
    interface = precision.activation_bits
    ports = {t: precision.ports[graph.tensors[t].name] for t in io_tensors if graph.tensors[t].name in precision.ports}
    bits_of = {t: port.bits(interface) for t, port in ports.items()}
    spans = {t: port.span for t, port in ports.items() if port.span is not None}
    floats = {i for i, op in enumerate(graph.ops) if any(graph.tensors[t].name in precision.floats for t in op.outputs)}
    unquantized = {t for t, port in ports.items() if port.type == "float"}
    bits_of |= dict.fromkeys(_float_ports(graph, floats, unquantized), FLOAT)
    computed_bits = {t: bits_of.get(t, interface) for t in graph.inputs if graph.tensors[t].is_float}
    wide = beside_wide_ports(graph, {t for t, bits in bits_of.items() if bits == 16}) if interface == 8 else set()
    wide |= overlong_rows(graph) | large if kernels.bits == 16 and not precision.dynamic else set()
    ops: list[int] = []
    kept: dict[int, str] = {}
    for i, op in enumerate(graph.ops):
        outputs = [t for t in op.outputs if graph.tensors[t].is_float]
        if not any(t in computed_bits for t in op.inputs) and not outputs:
            ops.append(8)
            continue
        if i in floats:
            ops.append(FLOAT)
            computed_bits |= dict.fromkeys(outputs, FLOAT)
            continue
        bits = 16 if i in wide else _wanted(graph, op, precision, computed_bits)
        if bits == 16 and (obstacle := (narrow or {}).get(i) or _obstacle(graph, op, kernels.missing16)):
            kept[i], bits = obstacle, 8
        ops.append(bits)
        computed_bits |= dict.fromkeys(outputs, bits)
    return _with_fewer_copies(
        graph,
        precision,
        kernels.missing16,
        Plan(tuple(ops), computed_bits, interface, kept, precision.finer_joins, bits_of, spans, precision.finer_curves),
    )


def _float_ports(graph: Graph, floats: Set[int], ports: Set[int]) -> Iterator[int]:
    """Of the inputs and outputs that are float32 in the file, those that only ops which stay float read or compute."""
    readers, producers = graph.consumers(), graph.producers()
    for t in sorted(ports):
        if producers.get(t) in floats or (t in graph.inputs and readers.get(t) and floats >= {*readers[t]}):
            yield t


def beside_wide_ports(graph: Graph, ports: Set[int]) -> set[int]:
    """The ops that have to have 16 bits for inputs and outputs of 16 bits to be worth it.

    Those that read such an input, and those that compute such an output: up to and including the first that does more
    than move values or compute element by element.
    """
    found, readers, producers = set[int](), graph.consumers(), graph.producers()
    todo = [i for t in sorted(ports & {*graph.inputs}) for i in readers.get(t, [])]
    while todo:
        i = todo.pop()
        if i not in found:
            found.add(i)
            moves = RULES[graph.ops[i].kind].tied_inputs(graph.ops[i])
            todo += [j for t in graph.ops[i].outputs for j in readers.get(t, [])] if moves else []
    behind, todo = set[int](), [producers[t] for t in sorted(ports & {*graph.outputs}) if t in producers]
    while todo:
        i = todo.pop()
        if i not in behind:
            behind.add(i)
            rule = RULES[graph.ops[i].kind]
            passes = rule.tied_inputs(graph.ops[i]) or rule.elementwise or graph.ops[i].kind in ("ADD", "SUB", "MUL")
            todo += [producers[t] for t in graph.ops[i].inputs if t in producers] if passes else []
    return found | behind


def overlong_rows(graph: Graph) -> set[int]:
    """Softmax over more elements than its 8-bit kernels can sum where they are alike, as attention over many tokens is.

    Not that of a classifier's outputs: one of its classes stands out, or the classifier says nothing.
    """
    decided = {before_saturation(graph, t)[0] for t in graph.outputs}
    return {
        i
        for i, op in enumerate(graph.ops)
        if op.kind in RULES
        and op.inputs[0] not in decided
        and graph.tensors[op.inputs[0]].shape[-1:] > (RULES[op.kind].longest_row,)
    }


def copies(graph: Graph, plan: Plan) -> set[tuple[int, int]]:
    """The tensors that are read at another width than they are computed at, and that width, in bits."""
    read = {
        (t, bits) for op, bits in zip(graph.ops, plan.ops, strict=True) for t in op.inputs if t in plan.computed_bits
    }
    read |= {(t, plan.port(t)) for t in graph.outputs if t in plan.computed_bits}
    return {(t, bits) for t, bits in read if plan.computed_bits[t] != bits}


def copy_ops(graph: Graph, plan: Plan) -> int:
    """How many ops the copies take, at most: CAST and ADD from 8 to 16 bits; else one, QUANTIZE or DEQUANTIZE."""
    return sum(2 if bits == 16 and plan.computed_bits[t] == 8 else 1 for t, bits in copies(graph, plan))


def _with_fewer_copies(graph: Graph, precision: Precision, missing: Set[str], plan: Plan) -> Plan:
    """The plan with chains of moving ops at 16 bits instead of 8 where fewer copies are needed so.

    Where a tensor of 8 bits is read at 16 bits both directly and at the end of such a chain (the
    shortcut of a residual block), one copy at its beginning does for both.
    """
    if 16 not in plan.ops:
        return plan
    for chain in _moving(graph, precision, missing, plan):
        outputs = {t for i in chain for t in graph.ops[i].outputs if t in plan.computed_bits}
        ops = tuple(16 if i in chain else bits for i, bits in enumerate(plan.ops))
        wider = replace(
            plan, ops=ops, computed_bits={t: 16 if t in outputs else b for t, b in plan.computed_bits.items()}
        )
        if copy_ops(graph, wider) < copy_ops(graph, plan):
            plan = wider
    return plan


def _moving(graph: Graph, precision: Precision, missing: Set[str], plan: Plan) -> Iterator[set[int]]:
    """Connected moving ops whose width is 8 and may be 16, as sets of indices, in the order of the ops."""
    free = [
        i
        for i, op in enumerate(graph.ops)
        if plan.ops[i] == 8
        and i not in plan.kept
        and RULES[op.kind].tied_inputs(op)
        and any(t in plan.computed_bits for t in op.inputs)
        and not any(graph.tensors[t].name in precision.layers for t in op.outputs)
        and not _obstacle(graph, op, missing)
    ]
    yield from connected(graph, free)


def connected(graph: Graph, ops: Iterable[int]) -> list[set[int]]:
    """The connected pieces of some ops: what hands real values from one to the other is in one piece.

    Args:
        graph: any graph.
        ops: indices, in order.

    Returns:
        Sets of indices, in the order of their first ops.
    """
    producers, piece_of = graph.producers(), dict[int, set[int]]()
    for i in ops:
        before = [producers.get(t, -1) for t in graph.ops[i].inputs if t >= 0 and graph.tensors[t].is_float]
        joined = {i}.union(*(piece_of[j] for j in before if j in piece_of))
        piece_of |= dict.fromkeys(joined, joined)
    pieces = {min(piece): piece for piece in piece_of.values()}
    return [pieces[first] for first in sorted(pieces)]


def _check_names(graph: Graph, precision: Precision) -> None:
    computed = {graph.tensors[t].name for op in graph.ops for t in op.outputs}
    unknown = next((name for name in (*precision.layers, *sorted(precision.floats)) if name not in computed), None)
    if unknown is not None:
        raise RecipeError(f"widths are given for {unknown!r}, which no op computes", "Name an op's output tensor.")


def _wanted(graph: Graph, op: Op, precision: Precision, computed_bits: Mapping[int, int]) -> int:
    named = [precision.layers[name] for t in op.outputs if (name := graph.tensors[t].name) in precision.layers]
    if named or precision.dynamic:
        return named[0].activations if named else FLOAT
    tied = RULES[op.kind].tied_inputs(op)
    if not tied:
        return precision.activation_bits
    # Rows of a constant table (an embedding) are weights in all but name.
    read = [computed_bits[t] for s in tied if s < len(op.inputs) and (t := op.inputs[s]) in computed_bits]
    return max((precision.activation_bits if bits == FLOAT else bits for bits in read), default=8)


def _obstacle(graph: Graph, op: Op, missing: Set[str]) -> str:
    """Why an op cannot have 16 bits; empty where it can."""
    rule = RULES16.get(op.kind)
    # A table has 256 entries.
    to_integers = op.kind == "CAST" and graph.tensors[op.outputs[0]].dtype not in ("float32", "bool")
    if rule is None or to_integers:
        return NO_KERNEL
    if op.kind in missing or op.activation in missing:
        return NOT_ON_TARGET
    count = graph.tensors[op.inputs[0]].size / max(1, graph.tensors[op.outputs[0]].size)
    return TOO_MANY if count > rule.largest_count else ""
