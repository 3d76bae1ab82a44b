"""What of a float graph can have a width of its own: layers for weights, groups of ops for activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import has_constant_weights, slots
from edgeqwt.graph.opset import RULES
from edgeqwt.widths.plan import Plan
from edgeqwt.widths.precision import Precision, Widths

NARROW = -1  # the group of the model's inputs and outputs, and of all that must have 8-bit activations


@dataclass(frozen=True)
class Layer:
    """Linear ops that read the same weights.

    Attributes:
        name: of the tensor that the first of them computes.
        kind: of the first op.
        weight: index of the weights' tensor.
        ops: indices of the ops.
        group: of the ops.
    """

    name: str
    kind: str
    weight: int
    ops: tuple[int, ...]
    group: int


@dataclass(frozen=True, eq=False)
class Source:
    """An activation that rounding changes, and where it is read, moving ops passed over.

    Attributes:
        tensor: its index.
        group: of the op that computes it.
        readers: groups of the ops that compute with it; NARROW among them where it gets to an output.
        ops: those ops.
        output: whether it gets to an output.
    """

    tensor: int
    group: int
    readers: frozenset[int]
    ops: frozenset[int]
    output: bool


@dataclass(frozen=True, eq=False)
class Parts:
    """A float graph's parts.

    Attributes:
        graph: the float graph.
        layers: by their first op's order.
        groups: of each op: ops of one group have activations of one width; NARROW: of 8 bits.
        sources: the activations that rounding changes.
    """

    graph: Graph
    layers: tuple[Layer, ...]
    groups: tuple[int, ...]
    sources: tuple[Source, ...]

    def precision(self, weights: Mapping[str, int], wide: frozenset[int]) -> Precision:
        """The precision with some widths of weights, by layer, and the groups that have 16-bit activations.

        The width that most of the weights have is the precision's own; `layers` names what differs.
        """
        sizes = dict.fromkeys((8, 4), 0)
        for layer in self.layers:
            sizes[weights[layer.name]] += self.graph.tensors[layer.weight].size
        base = Precision(max(sizes, key=lambda bits: sizes[bits]), pack_int4=True)
        bits_of = {i: weights[layer.name] for layer in self.layers for i in layer.ops}
        named = {}
        for i, op in enumerate(self.graph.ops):
            if not moves(self.graph, i):
                found = Widths(bits_of.get(i, base.weight_bits), 16 if self.groups[i] in wide else 8)
                if found != Widths(base.weight_bits):
                    named[self.graph.tensors[op.outputs[0]].name] = found
        return replace(base, layers=named)

    def rounded(self, plan: Plan) -> dict[int, int]:
        """The bits that each source is rounded to: what it is computed at, or the least that it is read at."""
        found = {}
        for s in self.sources:
            read = [plan.ops[i] for i in s.ops] + ([plan.port(s.tensor)] if s.output else [])
            found[s.tensor] = min([plan.computed_bits[s.tensor], *read])
        return found


def parts(graph: Graph, kept: Mapping[int, str]) -> Parts:
    """The parts of a float graph.

    An op that only moves or picks values goes with what computes them, and ops that share weights go
    together, so that no plan needs copies for them.

    Args:
        graph: float, lowerable.
        kept: ops that cannot have 16 bits, by index: `Plan.kept` of a plan with 16 bits everywhere.
    """
    producers = graph.producers()
    root = {i: i for i in range(NARROW, len(graph.ops))}

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    def join(i: int, j: int) -> None:
        low, high = sorted((find(i), find(j)))  # NARROW is the lowest: what joins it is narrow
        root[high] = low

    for i in range(len(graph.ops)):
        if i in kept:
            join(i, NARROW)
        for t in _moved(graph, i):
            join(i, producers.get(t, NARROW))
    sharing: dict[int, list[int]] = {}
    for i, op in enumerate(graph.ops):
        if has_constant_weights(graph, op):
            sharing.setdefault(slots(op).weight, []).append(i)
    for ops in sharing.values():
        for i in ops[1:]:
            join(ops[0], i)
    layers = tuple(
        Layer(graph.tensors[graph.ops[ops[0]].outputs[0]].name, graph.ops[ops[0]].kind, w, tuple(ops), find(ops[0]))
        for w, ops in sharing.items()
    )
    groups = tuple(find(i) for i in range(len(graph.ops)))
    return Parts(graph, layers, groups, _sources(graph, groups))


def moves(graph: Graph, i: int) -> bool:
    """Whether an op only moves or picks values of activations."""
    return bool(_moved(graph, i))


def _moved(graph: Graph, i: int) -> list[int]:
    """The activations whose values an op only moves or picks."""
    op = graph.ops[i]
    tied = (op.inputs[s] for s in RULES[op.kind].tied_inputs(op) if s < len(op.inputs))
    return [t for t in tied if t >= 0 and graph.tensors[t].is_float and not graph.tensors[t].is_constant]


def _sources(graph: Graph, groups: tuple[int, ...]) -> tuple[Source, ...]:
    origins = {t: {t} for t in graph.inputs if graph.tensors[t].is_float}
    group_of = dict.fromkeys(origins, NARROW)
    readers: dict[int, set[int]] = {t: set() for t in origins}
    for i, op in enumerate(graph.ops):
        read = {o for t in op.inputs for o in origins.get(t, ())}
        outputs = [t for t in op.outputs if graph.tensors[t].is_float]
        if moves(graph, i):
            origins |= dict.fromkeys(outputs, read)
            continue
        for o in read:
            readers[o].add(i)
        for t in outputs:
            origins[t], group_of[t], readers[t] = {t}, groups[i], set()
    output_sources = {o for t in graph.outputs for o in origins.get(t, ())}
    return tuple(
        Source(
            t,
            group_of[t],
            frozenset((*(groups[i] for i in ops), *[NARROW] * (t in output_sources))),
            frozenset(ops),
            t in output_sources,
        )
        for t, ops in readers.items()
    )
