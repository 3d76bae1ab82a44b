"""A TFLite model as an immutable value: Graph, Op, Tensor, Quantization.

A constant's data lives in its tensor, read-only. Two tensors that share one
buffer of the file share memory, and share one buffer again when the graph is
written (`flatbuffer.to_bytes`). Edits return a new Graph and share everything
that did not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from edgeqwt.errors import InvariantError
from edgeqwt.graph.tensor import DTYPES, Array, Quantization, Tensor, problem
from edgeqwt.notebook_display import Pictured

# Here too: who imports the graph's types need not know how they are spread over files.
__all__ = ["DTYPES", "Array", "Editor", "Graph", "Op", "Quantization", "Signature", "Tensor", "check_invariants"]


@dataclass(frozen=True, eq=False)
class Op:
    """One operator.

    Attributes:
        kind: the builtin operator's name, e.g. "CONV_2D", or "CUSTOM".
        inputs: tensor indices; -1 for an optional input that is absent.
        outputs: tensor indices.
        options: the schema's options of this op, by their schema names; enums by their names.
        version: the operator version that the file asks for.
        custom_code: name of a custom op.
        intermediates: tensors that some recurrent ops keep their inner ranges in.
        extra: schema fields that edgeqwt does not interpret, carried through.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    custom_code: str = ""
    intermediates: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def remapped(self, new: Mapping[int, int]) -> Op:
        """The op with its tensor indices replaced; `new` maps -1 to -1."""
        return replace(
            self,
            inputs=tuple(new[t] for t in self.inputs),
            outputs=tuple(new[t] for t in self.outputs),
            intermediates=tuple(new[t] for t in self.intermediates),
        )

    @property
    def tensors(self) -> tuple[int, ...]:
        """Every tensor index that the op refers to."""
        return tuple(t for t in (*self.inputs, *self.outputs, *self.intermediates) if t >= 0)

    @property
    def activation(self) -> str:
        """The fused activation's name, "NONE" where the op has none."""
        return str(self.options.get("fusedActivationFunction", "NONE"))

    def with_options(self, **changes: Any) -> Op:
        """The op with some options changed."""
        return replace(self, options={**self.options, **changes})


@dataclass(frozen=True)
class Signature:
    """A named entry point: its key and the graph's tensors by the names that callers use."""

    key: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]

    def remapped(self, new: Mapping[int, int]) -> Signature:
        """The signature with its tensor indices replaced; indices that `new` does not have stay."""
        return Signature(
            self.key,
            tuple((name, new.get(t, t)) for name, t in self.inputs),
            tuple((name, new.get(t, t)) for name, t in self.outputs),
        )


@dataclass(frozen=True, eq=False)
class Graph(Pictured):
    """A TFLite model: its main subgraph, and what the file holds besides.

    Attributes:
        tensors, ops, inputs, outputs: the main subgraph; ops are in an order in which they can run.
        name: the subgraph's name.
        signatures: of the main subgraph.
        metadata: the file's metadata entries, name to bytes.
        description: the file's description.
        others: further subgraphs (bodies of control flow), each a Graph of its own without
            metadata; carried through unchanged.
        extra: schema fields that edgeqwt does not interpret, carried through.
        states: names of an input and an output that are one state: callers feed the output back at the next run.
            Files do not hold them.
        remarks: sentences on what had to be repaired to read the file; not written.

    Raises:
        InvariantError: on construction, when an index is out of range; a tensor is read before it
            has a value, is written twice or never, or is written though it is a constant; a
            constant's shape or type is not its data's; or scales do not fit their tensor.
    """

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str = ""
    signatures: tuple[Signature, ...] = ()
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    description: str = ""
    others: tuple[Graph, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    states: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_invariants(self)

    # -- reading ---------------------------------------------------------------

    def producers(self) -> dict[int, int]:
        """Tensor index to the index of the op that writes it."""
        return {t: i for i, op in enumerate(self.ops) for t in op.outputs}

    def consumers(self) -> dict[int, list[int]]:
        """Tensor index to the indices of the ops that read it, in order."""
        readers: dict[int, list[int]] = {}
        for i, op in enumerate(self.ops):
            for t in dict.fromkeys(op.inputs):
                if t >= 0:
                    readers.setdefault(t, []).append(i)
        return readers

    @cached_property
    def links(self) -> tuple[Mapping[int, int], Mapping[int, Sequence[int]]]:
        """What `producers` and `consumers` return, computed once, for who asks of every layer and changes neither."""
        return self.producers(), self.consumers()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "links"}

    def state_tensors(self) -> tuple[tuple[int, int], ...]:
        """The states as indices of the input tensor and the output tensor."""
        inputs, outputs = ({self.tensors[t].name: t for t in ends} for ends in (self.inputs, self.outputs))
        return tuple((inputs[a], outputs[b]) for a, b in self.states if a in inputs and b in outputs)

    def describe(self, op_index: int) -> str:
        """How messages name an op: kind, index and first output tensor."""
        op = self.ops[op_index]
        out = f" -> {self.tensors[op.outputs[0]].name!r}" if op.outputs else ""
        return f"{op.kind} #{op_index}{out}"

    # -- editing ---------------------------------------------------------------

    def with_tensors(self, changes: Mapping[int, Tensor]) -> Graph:
        """The graph with the tensors at some indices replaced.

        They alone are checked where constants and variables stay what they are: what corrects a graph layer by layer
        would otherwise take a time that grows with the square of its length.
        """
        tensors, same = [*self.tensors], True
        for i, tensor in changes.items():
            if not 0 <= i < len(tensors):
                continue
            if broken := problem(tensor):
                raise InvariantError(f"tensor {i} {tensor.name!r}: {broken}")
            old, tensors[i] = tensors[i], tensor
            same = same and (old.is_constant, old.is_variable) == (tensor.is_constant, tensor.is_variable)
        if not same:
            return replace(self, tensors=tuple(tensors))
        edited = object.__new__(Graph)  # not checked anew; the links stay as well
        vars(edited).update(vars(self), tensors=tuple(tensors))
        return edited

    def with_ops(self, changes: Mapping[int, Op]) -> Graph:
        """The graph with the ops at some indices replaced."""
        return replace(self, ops=tuple(changes.get(i, op) for i, op in enumerate(self.ops)))

    def alone(self, op_index: int) -> tuple[Graph, dict[int, int]]:
        """An op as a graph of its own, and what it reads that is not constant: new indices by the old ones."""
        op = self.ops[op_index]
        inputs = [t for t in dict.fromkeys(op.inputs) if t >= 0 and not self.tensors[t].is_constant]
        graph = self.slice([op_index], inputs, op.outputs)
        return graph, dict(zip(inputs, graph.inputs, strict=True))

    def slice(self, ops: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
        """A graph of some of the ops, with the given tensors (old indices) as inputs and outputs.

        Tensors that nothing uses are dropped; names stay, and so do the subgraphs that control
        flow runs. Signatures and metadata do not apply to a part and are dropped too.
        """
        return self.slice_with_index(ops, inputs, outputs)[0]

    def slice_with_index(
        self, ops: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]
    ) -> tuple[Graph, dict[int, int]]:
        """Like `slice`, with the new index of each tensor that was kept, by its old index."""
        kept = [self.ops[i] for i in ops]
        used = sorted({t for op in kept for t in op.tensors} | {*inputs, *outputs})
        new = {old: i for i, old in enumerate(used)}
        boundary, indices = set(inputs), new | {-1: -1}
        tensors = tuple(replace(self.tensors[t], data=None) if t in boundary else self.tensors[t] for t in used)
        graph = Graph(
            tensors=tensors,
            ops=tuple(op.remapped(indices) for op in kept),
            inputs=tuple(new[t] for t in inputs),
            outputs=tuple(new[t] for t in outputs),
            name=self.name,
            others=self.others,
        )
        return graph, new

    def pruned(self) -> Graph:
        """The graph without tensors that no op, input, output or signature uses."""
        used = {t for op in self.ops for t in op.tensors} | {*self.inputs, *self.outputs}
        used |= {t for s in self.signatures for _, t in (*s.inputs, *s.outputs)}
        if len(used) == len(self.tensors):
            return self
        new = {old: i for i, old in enumerate(sorted(used))} | {-1: -1}
        return replace(
            self,
            tensors=tuple(t for i, t in enumerate(self.tensors) if i in used),
            ops=tuple(op.remapped(new) for op in self.ops),
            inputs=tuple(new[t] for t in self.inputs),
            outputs=tuple(new[t] for t in self.outputs),
            signatures=tuple(s.remapped(new) for s in self.signatures),
        )


class Editor:
    """Builds a new Graph op by op from an old one: for passes that add, drop or rewire ops.

    Tensor indices of the old graph stay valid while editing; `finish` drops what is unused.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: list[Tensor] = list(graph.tensors)
        self.ops: list[Op] = []
        # A constant's name is free to be taken again: edits replace constants by others of the same name.
        self._names = Counter(t.name for t in graph.tensors if not t.is_constant)

    def add_tensor(self, tensor: Tensor) -> int:
        """Adds a tensor, making its name unique, and returns its index."""
        name, k = tensor.name, 1
        while name in self._names:
            name, k = f"{tensor.name}_{k}", k + 1
        self._names[name] += 1
        self.tensors.append(replace(tensor, name=name))
        return len(self.tensors) - 1

    def add_op(self, op: Op) -> None:
        """Appends an op; ops run in the order in which they are added."""
        self.ops.append(op)

    def finish(self, outputs: Iterable[int] | None = None, inputs: Iterable[int] | None = None) -> Graph:
        """The edited graph, checked, without unused tensors.

        New inputs and outputs take the places of the old ones, in signatures too.
        """
        old = (*self.graph.inputs, *self.graph.outputs)
        new_inputs = self.graph.inputs if inputs is None else tuple(inputs)
        new_outputs = self.graph.outputs if outputs is None else tuple(outputs)
        if (len(new_inputs), len(new_outputs)) != (len(self.graph.inputs), len(self.graph.outputs)):
            raise InvariantError("an edit changed the number of a graph's inputs or outputs")
        moved = dict(zip(old, (*new_inputs, *new_outputs), strict=True))
        return replace(
            self.graph,
            tensors=tuple(self.tensors),
            ops=tuple(self.ops),
            inputs=new_inputs,
            outputs=new_outputs,
            signatures=tuple(s.remapped(moved) for s in self.graph.signatures),
        ).pruned()


def check_invariants(graph: Graph) -> None:
    """Raises InvariantError when the graph breaks one of the rules that Graph's docstring lists."""
    for i, tensor in enumerate(graph.tensors):
        if broken := problem(tensor):
            raise InvariantError(f"tensor {i} {tensor.name!r}: {broken}")
    _check_order(graph)


def _check_order(graph: Graph) -> None:
    """Every index is in range, and every tensor has a value before it is read, from one op or the interface only."""
    count = len(graph.tensors)

    def check_range(indices: Iterable[int], where: str, lowest: int = 0) -> None:
        for t in indices:
            if not lowest <= t < count:
                raise InvariantError(f"{where} tensor {t} of {count}")

    check_range(graph.inputs, "graph input refers to")
    check_range(graph.outputs, "graph output refers to")
    constants = {i for i, t in enumerate(graph.tensors) if t.is_constant}
    for t in graph.inputs:
        if t in constants:
            raise InvariantError(f"graph input {graph.tensors[t].name!r} is a constant")
    written = {*graph.inputs} | constants | {i for i, t in enumerate(graph.tensors) if t.is_variable}
    for i, op in enumerate(graph.ops):
        check_range(op.inputs, f"{op.kind} #{i} reads", lowest=-1)
        check_range(op.outputs, f"{op.kind} #{i} writes")
        check_range(op.intermediates, f"{op.kind} #{i} keeps an intermediate in", lowest=-1)
        for t in op.inputs:
            # An activation that nothing has written yet means that the ops are out of order.
            if t >= 0 and t not in written:
                raise InvariantError(f"{op.kind} #{i} reads {graph.tensors[t].name!r} before anything writes it")
        for t in op.outputs:
            if t in written:
                raise InvariantError(f"{op.kind} #{i} writes {graph.tensors[t].name!r}, which has a value already")
            written.add(t)
    for t in graph.outputs:
        if t not in written:
            raise InvariantError(f"graph output {graph.tensors[t].name!r} is never written")
    for signature in graph.signatures:
        for name, t in (*signature.inputs, *signature.outputs):
            check_range((t,), f"{name!r} of signature {signature.key!r} refers to")
            if t not in written:
                raise InvariantError(f"{name!r} of signature {signature.key!r} is never written")
