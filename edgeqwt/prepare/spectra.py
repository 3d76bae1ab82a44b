"""Fourier transforms, whose complex values no integers hold, as matrix products for real and imaginary parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor
from edgeqwt.graph.opset import MOVES
from edgeqwt.prepare.rewriting import DENSE, NONE, activation_like, constant, float32, reshape, uses, value

"""What moves complex values, and moves their parts in the same way."""
READERS = frozenset({"COMPLEX_ABS", "REAL", "IMAG", "CAST"})


@dataclass
class _Parts:
    """Real and imaginary parts of complex tensors: tensor index -> the indices of both."""

    editor: Editor
    graph: Graph
    known: dict[int, tuple[int, int]] = field(default_factory=dict)

    def transform(self, op: Op) -> None:
        """RFFT2D over a line: sum_n x_n (cos - i sin)(2 pi k n / N)."""
        x, out, n = op.inputs[0], op.outputs[0], _length(self.graph, op)
        width, bins = self.graph.tensors[x].shape[-1], n // 2 + 1
        angle = turns(bins, width, n)
        used = np.arange(width) < n
        name = self.graph.tensors[out].name
        parts = []
        for what, matrix in (("real", np.cos(angle)), ("imaginary", -np.sin(angle))):
            weights = constant(self.editor, f"{name}/{what}/weights", float32(matrix * used))
            parts.append(self._made(out, what))
            self.editor.add_op(Op("FULLY_CONNECTED", (x, weights, -1), (parts[-1],), DENSE, version=6))
        self.known[out] = (parts[0], parts[1])

    def move(self, op: Op) -> None:
        """The same op on both parts."""
        found = []
        for part, what in zip(self.known[op.inputs[0]], ("real", "imaginary"), strict=True):
            found.append(self._made(op.outputs[0], what))
            self.editor.add_op(replace(op, inputs=(part, *op.inputs[1:]), outputs=(found[-1],)))
        self.known[op.outputs[0]] = (found[0], found[1])

    def read(self, op: Op) -> None:
        """A part, or the absolute value."""
        real, imaginary = self.known[op.inputs[0]]
        if op.kind != "COMPLEX_ABS":
            part = imaginary if op.kind == "IMAG" else real  # a CAST to real numbers takes the real part
            reshape(self.editor, part, op.outputs[0], f"{self.graph.tensors[op.outputs[0]].name}/shape")
            return
        squares = []
        for part, what in ((real, "real_square"), (imaginary, "imaginary_square")):
            squares.append(activation_like(self.editor, self.graph, op.outputs[0], what, self._shape(op.outputs[0])))
            self.editor.add_op(Op("MUL", (part, part), (squares[-1],), NONE))
        power = activation_like(self.editor, self.graph, op.outputs[0], "power", self._shape(op.outputs[0]))
        self.editor.add_op(Op("ADD", (squares[0], squares[1]), (power,), NONE))
        self.editor.add_op(Op("SQRT", (power,), op.outputs))

    def _made(self, like: int, what: str) -> int:
        tensor = Tensor(f"{self.graph.tensors[like].name}/{what}", self._shape(like), "float32")
        return self.editor.add_tensor(tensor)

    def _shape(self, t: int) -> tuple[int, ...]:
        return self.graph.tensors[t].shape


def turns(rows: int, columns: int, size: int) -> Array:
    """The angles 2 pi j k / size, shape (rows, columns), each within one turn."""
    angles: Array = np.outer(np.arange(rows), np.arange(columns)) % size * (2 * np.pi / size)
    return angles


def _length(graph: Graph, op: Op) -> int:
    """The length of a transform of lines; 0 of those over planes, or of a length that is computed."""
    sizes, shape = value(graph, op.inputs[1]), graph.tensors[op.inputs[0]].shape
    if sizes is None or len(shape) < 2 or shape[-2] != 1 or int(sizes.reshape(-1)[0]) != 1:
        return 0
    return int(sizes.reshape(-1)[1])


def _readable(graph: Graph, t: int) -> bool:
    """Whether everything that reads a complex tensor is known."""
    readers = [graph.ops[i] for i in uses(graph).readers.get(t, [])]
    return t not in uses(graph).named and all(
        op.inputs[0] == t and (op.kind in READERS or (op.kind in MOVES and _readable(graph, op.outputs[0])))
        for op in readers
    )


def transforms(graph: Graph) -> tuple[Graph, list[str]]:
    """RFFT2D of lines as two FULLY_CONNECTED, and what reads it as ops on real numbers."""
    found = [i for i, op in enumerate(graph.ops) if op.kind == "RFFT2D" and _length(graph, op)]
    found = [i for i in found if _readable(graph, graph.ops[i].outputs[0])]
    if not found:
        return graph, []
    parts = _Parts(Editor(graph), graph)
    for i, op in enumerate(graph.ops):
        if i in found:
            parts.transform(op)
        elif op.inputs and op.inputs[0] in parts.known:
            (parts.read if op.kind in READERS else parts.move)(op)
        else:
            parts.editor.add_op(op)
    return parts.editor.finish(), [graph.tensors[graph.ops[i].outputs[0]].name for i in found]
