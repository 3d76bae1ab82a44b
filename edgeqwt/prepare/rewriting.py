"""What passes are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor

NONE = {"fusedActivationFunction": "NONE"}
DENSE: dict[str, Any] = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": True}
"""Options of FULLY_CONNECTED."""
FUSING = ("ADD", "SUB", "MUL", "DIV", "CONCATENATION")
"""What may have an activation function of its own, of the ops that are written here."""

Pass = Callable[[Graph], tuple[Graph, list[str]]]
"""Returns a graph rewritten, and the names of what was; the very same graph where nothing was."""


def rewrites(*kinds: str) -> Callable[[Rewrite], Pass]:
    """Makes a pass of a rewrite: it is offered every op of some kinds; the rewritten ones are named by their output."""

    def as_pass(rewrite: Rewrite) -> Pass:
        @wraps(rewrite)
        def run(graph: Graph) -> tuple[Graph, list[str]]:
            if not any(op.kind in kinds for op in graph.ops):
                return graph, []
            editor, names = Editor(graph), []
            for op in graph.ops:
                new = rewrite(Site(editor, graph, op)) if op.kind in kinds else None
                if new is not None:
                    names.append(graph.tensors[op.outputs[0]].name)
                editor.add_op(new or op)
            return (editor.finish(), names) if names else (graph, [])

        return run

    return as_pass


def without(
    graph: Graph, dropped: Set[int], changed: Mapping[int, Op | Sequence[Op]], editor: Editor | None = None
) -> Graph:
    """The graph with some of its ops dropped, and others in the place of some, all by the index of the old ones.

    Args:
        graph: as it was.
        dropped: counts before `changed`.
        changed: one op or several.
        editor: has the tensors that new ops need.
    """
    editor = editor or Editor(graph)
    for i, op in enumerate(graph.ops):
        new = () if i in dropped else changed.get(i, op)
        for each in (new,) if isinstance(new, Op) else new:
            editor.add_op(each)
    return editor.finish()


def rewritten(
    graph: Graph, changed: Mapping[int, Op], dropped: Set[int] = frozenset(), editor: Editor | None = None
) -> tuple[Graph, list[str]]:
    """What a pass returns: the graph as `without` makes it, and the outputs of new ops, in the order of `changed`.

    The very same graph where there are none.
    """
    if not changed:
        return graph, []
    return without(graph, dropped, changed, editor), [graph.tensors[op.outputs[0]].name for op in changed.values()]


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
class Site:
    """An op that may be rewritten: what is around it, and how the ops that take its place are added.

    What those compute is named after what the op computes.

    Attributes:
        editor: takes them.
        graph: has the op.
        op: may be of any kind.
    """

    editor: Editor
    graph: Graph
    op: Op

    @property
    def out(self) -> Tensor:
        """The op's output."""
        return self.graph.tensors[self.op.outputs[0]]

    def tensor(self, t: int) -> Tensor:
        """Of the graph, or added."""
        return self.editor.tensors[t]

    def shape(self, t: int) -> tuple[int, ...]:
        """Of a tensor, an added one as well."""
        return self.editor.tensors[t].shape

    def is_float(self, *tensors: int) -> bool:
        """Whether tensors hold real values."""
        return all(self.editor.tensors[t].is_float for t in tensors)

    def value(self, t: int) -> Array | None:
        """A constant's data; None for activations and absent inputs."""
        return value(self.graph, t)

    def writer(self, t: int, *kinds: str) -> Op | None:
        """See the function of this name."""
        return writer(self.graph, t, *kinds)

    def constant(self, name: str, data: Array) -> int:
        """Adds a constant."""
        return constant(self.editor, f"{self.out.name}/{name}", data)

    def number(self, value: float) -> int:
        """Adds a constant of one number."""
        return self.constant(f"{value:g}", float32([value]))

    def integers(self, name: str, values: Any) -> int:
        """Adds a constant of int32."""
        return self.constant(name, np.array(values, np.int32))

    def activation(self, suffix: str, shape: tuple[int, ...] | None = None, dtype: str | None = None) -> int:
        """Adds a tensor that has the shape and the type of the op's output where none are given."""
        shape = self.out.shape if shape is None else shape
        return self.editor.add_tensor(Tensor(f"{self.out.name}/{suffix}", shape, dtype or self.out.dtype))

    def add(
        self,
        kind: str,
        inputs: tuple[int, ...],
        suffix: str,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        **options: Any,
    ) -> int:
        """Adds an op and what it computes, see `activation`."""
        return self.put(kind, inputs, self.activation(suffix, shape, dtype), **options)

    def put(self, kind: str, inputs: tuple[int, ...], output: int, **options: Any) -> int:
        """Adds an op that computes a tensor which is there; returns that."""
        self.editor.add_op(Op(kind, inputs, (output,), _options(kind, options)))
        return output

    def end(self, kind: str, inputs: tuple[int, ...], **options: Any) -> Op:
        """The last op, which computes what the old one did; it is not added."""
        return Op(kind, inputs, self.op.outputs, _options(kind, options))

    def reshape(self, t: int, suffix: str, shape: tuple[int, ...], dtype: str | None = None) -> int:
        """Adds a RESHAPE, and what it makes of a tensor."""
        made = self.activation(suffix, shape, dtype)
        return reshape(self.editor, t, made, f"{self.out.name}/{suffix}_shape")

    def reshaped(self, t: int, *shape: int) -> int:
        """The same values in another shape."""
        if self.shape(t) == shape:
            return t
        return self.add("RESHAPE", (t, self.integers("shape", shape)), "reshape", shape)

    def end_reshape(self, t: int) -> Op:
        """The last op where that is a RESHAPE of a tensor."""
        return reshaping(self.editor, t, self.op.outputs[0], f"{self.out.name}/shape")

    def transposed(self, t: int, order: Sequence[int], suffix: str = "transpose") -> int:
        """The same values with their axes in another order."""
        shape = tuple(self.shape(t)[a] for a in order)
        return self.add("TRANSPOSE", (t, self.integers("order", order)), suffix, shape)


Rewrite = Callable[[Site], Op | None]
"""Adds what takes an op's place, but for the last op, which it returns; None where the op stays."""


def _options(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    return {**NONE, **options} if kind in FUSING else options


def value(graph: Graph, t: int) -> Array | None:
    """A constant's data; None for activations and absent inputs."""
    return graph.tensors[t].data if t >= 0 else None


def is_number(graph: Graph, t: int, number: float) -> bool:
    """Whether a tensor is a constant of one element, which is a given number."""
    return t >= 0 and graph.tensors[t].is_number(number)


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


def float32(values: Any) -> Array:
    """A float32 array."""
    return np.asarray(values, np.float32)
