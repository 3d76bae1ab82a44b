"""What passes are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor

NONE = {"fusedActivationFunction": "NONE"}
DENSE = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": True}
"""Options of FULLY_CONNECTED."""
FUSING = ("ADD", "SUB", "MUL", "DIV", "CONCATENATION")
"""What may have an activation function of its own, of the ops that are written here."""

Rewrite = Callable[[Editor, Graph, Op], Op | None]
"""Adds ops that stand in for an op to the editor, but for the last, which it returns; None where the op stays."""


def each_op(kind: str, rewrite: Rewrite) -> Callable[[Graph], tuple[Graph, list[str]]]:
    """A pass that offers every op of a kind to a rewrite; it names the rewritten ops by their outputs."""

    def run(graph: Graph) -> tuple[Graph, list[str]]:
        if not any(op.kind == kind for op in graph.ops):
            return graph, []
        editor, names = Editor(graph), []
        for op in graph.ops:
            new = rewrite(editor, graph, op) if op.kind == kind else None
            if new is not None:
                names.append(graph.tensors[op.outputs[0]].name)
            editor.add_op(new or op)
        return (editor.finish(), names) if names else (graph, [])

    return run


def without(graph: Graph, dropped: set[int], changed: dict[int, Op], editor: Editor) -> Graph:
    """The editor's graph with the old ops, some dropped (by index) and some replaced."""
    for i, op in enumerate(graph.ops):
        if i not in dropped:
            editor.add_op(changed.get(i, op))
    return editor.finish()


def rewritten(
    graph: Graph, changed: dict[int, Op], dropped: set[int] | None = None, editor: Editor | None = None
) -> tuple[Graph, list[str]]:
    """What a pass returns: the graph with some ops replaced and some dropped, and the outputs of those replaced.

    The very same graph where none is.

    Args:
        graph: as it was.
        changed: new ops by the index of the old ones, in the order in which they are named.
        dropped: indices of ops.
        editor: has the tensors that new ops need.
    """
    if not changed:
        return graph, []
    names = [graph.tensors[graph.ops[i].outputs[0]].name for i in changed]
    return without(graph, dropped or set(), changed, editor or Editor(graph)), names


def constant(editor: Editor, name: str, data: Array) -> int:
    """Adds a constant of float32, int32 or bool."""
    return editor.add_tensor(Tensor(name, data.shape, data.dtype.name, data))


def integers(editor: Editor, name: str, values: Any) -> int:
    """Adds a constant of int32: a shape, axes, an order, ends."""
    return constant(editor, name, np.array(values, np.int32))


def reshaping(editor: Editor, source: int, target: int, name: str) -> Op:
    """The RESHAPE of a tensor to another one; `name` is that of the constant, which is added."""
    shape = editor.tensors[target].shape
    return Op("RESHAPE", (source, integers(editor, name, shape)), (target,), {"newShape": shape})


def reshape(editor: Editor, source: int, target: int, name: str) -> int:
    """Adds the RESHAPE of a tensor to another one, which is returned; `name` is that of the constant."""
    editor.add_op(reshaping(editor, source, target, name))
    return target


def activation_like(editor: Editor, graph: Graph, like: int, suffix: str, shape: tuple[int, ...]) -> int:
    """Adds an activation that is named after another one and has its type."""
    model = graph.tensors[like]
    return editor.add_tensor(Tensor(f"{model.name}/{suffix}", shape, model.dtype))


@dataclass(frozen=True)
class StandIn:
    """How the ops that stand in for another one are added: what they compute is named after what that computes.

    Attributes:
        editor: takes them.
        graph: has the op that they stand in for.
        op: that op.
    """

    editor: Editor
    graph: Graph
    op: Op

    @property
    def out(self) -> Tensor:
        """The op's output."""
        return self.graph.tensors[self.op.outputs[0]]

    def shape(self, t: int) -> tuple[int, ...]:
        """Of a tensor, an added one as well."""
        return self.editor.tensors[t].shape

    def number(self, value: float) -> int:
        """A constant of one number."""
        return constant(self.editor, f"{self.out.name}/{value:g}", float32([value]))

    def integers(self, name: str, values: Any) -> int:
        """A constant of int32."""
        return integers(self.editor, f"{self.out.name}/{name}", values)

    def add(
        self, kind: str, inputs: tuple[int, ...], suffix: str, shape: tuple[int, ...] | None = None, **options: Any
    ) -> int:
        """Adds an op and what it computes, which has the shape of the old op's output if none is given."""
        shape = self.out.shape if shape is None else shape
        made = activation_like(self.editor, self.graph, self.op.outputs[0], suffix, shape)
        self.editor.add_op(Op(kind, inputs, (made,), self._options(kind, options)))
        return made

    def end(self, kind: str, inputs: tuple[int, ...], **options: Any) -> Op:
        """The last op, which computes what the old one did; it is not added."""
        return Op(kind, inputs, self.op.outputs, self._options(kind, options))

    def reshaped(self, t: int, *shape: int) -> int:
        """The same values in another shape."""
        if self.shape(t) == shape:
            return t
        return self.add("RESHAPE", (t, self.integers("shape", shape)), "reshape", shape)

    def transposed(self, t: int, order: Sequence[int], suffix: str = "transpose") -> int:
        """The same values with their axes in another order."""
        shape = tuple(self.shape(t)[a] for a in order)
        return self.add("TRANSPOSE", (t, self.integers("order", order)), suffix, shape)

    def _options(self, kind: str, options: dict[str, Any]) -> dict[str, Any]:
        return {**NONE, **options} if kind in FUSING else options


def value(graph: Graph, t: int) -> Array | None:
    """A constant's data; None for activations and absent inputs."""
    return graph.tensors[t].data if t >= 0 else None


@dataclass(frozen=True)
class Uses:
    """Who writes and who reads a graph's tensors.

    Attributes:
        producers: tensor index -> index of the op that writes it.
        readers: tensor index -> indices of the ops that read it, in order.
        named: tensors that callers see: they must go on being written under their names.
    """

    producers: Mapping[int, int]
    readers: Mapping[int, list[int]]
    named: frozenset[int]


# Passes ask for every op, of graphs that do not change.
_USES: WeakKeyDictionary[Graph, Uses] = WeakKeyDictionary()


def uses(graph: Graph) -> Uses:
    """Who writes and reads what, looked up once for each graph."""
    if graph not in _USES:
        seen = (t for s in graph.signatures for _, t in (*s.inputs, *s.outputs))
        _USES[graph] = Uses(graph.producers(), graph.consumers(), frozenset((*graph.outputs, *seen)))
    return _USES[graph]


def ports(graph: Graph) -> frozenset[int]:
    """Tensors that callers see: they must go on being written under their names."""
    return uses(graph).named


def writer(graph: Graph, t: int, *kinds: str) -> Op | None:
    """The op that computes a tensor as it is, without an activation function, if it is of one of some kinds."""
    index = uses(graph).producers.get(t, -1)
    op = graph.ops[index] if index >= 0 else None
    return op if op is not None and op.activation == "NONE" and (not kinds or op.kind in kinds) else None


def sole_reader(graph: Graph, t: int) -> int | None:
    """The index of the one op that reads a tensor, if it is the only use."""
    readers = uses(graph).readers.get(t, [])
    return readers[0] if len(readers) == 1 and t not in uses(graph).named else None


def is_single_use(graph: Graph, t: int) -> bool:
    """Whether only one op reads a tensor."""
    return len(uses(graph).readers.get(t, [])) == 1


def op_like(op: Op, kind: str, inputs: tuple[int, ...], **options: Any) -> Op:
    """A new op with the outputs of an old one."""
    return Op(kind, inputs, op.outputs, options)


def retyped(op: Op, kind: str, inputs: tuple[int, ...]) -> Op:
    """An op of another kind that has the same options."""
    return replace(op, kind=kind, inputs=inputs, version=1)


def float32(values: Any) -> Array:
    """A float32 array."""
    return np.asarray(values, np.float32)
