"""A graph as a target's constraints look at it: which integer ops it has, or will have, and at which width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.graph.opset import RULES, Form
from edgeqwt.graph.opset16 import BITS, RULES16, bits_of
from edgeqwt.lowering.forms import form_of
from edgeqwt.profile import TargetProfile, kernels_of
from edgeqwt.widths.precision import FLOAT


@dataclass(frozen=True)
class Use:
    """One integer op.

    Attributes:
        op: index of the op that it is, or that becomes it.
        kind: the integer op's kind.
        dtype: its activations' type: int8, int16, int32, bool and so on.
    """

    op: int
    kind: str
    dtype: str

    @property
    def text(self) -> str:
        """How messages call it."""
        return f"{self.kind} on {self.dtype}"


@dataclass(frozen=True, eq=False)
class Model:
    """A graph on its way to a target.

    Attributes:
        graph: integer, or float and prepared.
        target: what is to run it.
        bits: width of the activations that a float graph will get; 32: float, rounded at run time.
    """

    graph: Graph
    target: TargetProfile
    bits: int = 8

    @property
    def is_float(self) -> bool:
        """Whether the graph is yet to be quantized."""
        return is_float(self.graph)

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        """Every integer op of the graph."""
        return tuple(use for i in range(len(self.graph.ops)) for use in self._uses(i))

    def used(self, *kinds: str) -> Iterator[tuple[Use, Op]]:
        """The integer ops of some kinds, or all of them, each with the op that it is or that becomes it."""
        return ((use, self.graph.ops[use.op]) for use in self.uses if not kinds or use.kind in kinds)

    def tensor(self, t: int) -> Tensor:
        """A tensor by its index."""
        return self.graph.tensors[t]

    def _uses(self, i: int) -> Iterator[Use]:
        graph, op = self.graph, self.graph.ops[i]
        touches_float = any(graph.tensors[t].is_float for t in (*op.inputs, *op.outputs) if t >= 0)
        if not self.is_float or not touches_float or op.kind not in RULES:
            if not touches_float or op.kind in ("QUANTIZE", "DEQUANTIZE"):
                yield Use(i, op.kind, dtype_of(graph, op))
            return
        if self.bits == FLOAT:
            return
        kernels = kernels_of(self.target)
        wide = self.bits == 16 and op.kind in RULES16 and op.kind not in kernels.missing16
        form = RULES16[op.kind].form if wide else form_of(graph, op, kernels.missing)
        for kind, dtype in _written(graph, op, form):
            yield Use(i, kind, ("int16" if wide else "int8") if dtype == "" else dtype)


def is_float(graph: Graph) -> bool:
    """Whether a graph is yet to be quantized: it has float tensors and none with a scale."""
    return any(t.is_float for t in graph.tensors) and all(t.quantization is None for t in graph.tensors)


def dtype_of(graph: Graph, op: Op) -> str:
    """The type in which an integer op works: that of its widest 8- or 16-bit activation, else of its first input."""
    tensors = [graph.tensors[t] for t in (*op.inputs, *op.outputs) if t >= 0 and not graph.tensors[t].is_constant]
    if any(t.dtype in BITS for t in tensors):
        return "int16" if bits_of(graph, op) == 16 else "int8"
    return tensors[0].dtype if tensors else "int32"


def _written(graph: Graph, op: Op, form: Form) -> tuple[tuple[str, str], ...]:
    """The integer ops that a float op of some form becomes; an empty type stands for that of the activations."""
    table = (("CAST", ""), ("ADD", "int32"), ("GATHER", ""))
    out = graph.tensors[op.outputs[0]].dtype if op.outputs else ""
    if form is Form.LOOKUP:
        return table
    if form is Form.CLAMP:
        return (("ADD", ""),)
    if form is Form.COMPARE:
        return (("CAST", ""), (op.kind, "int32"))
    if form is Form.CONVERT and op.kind == "CAST":
        return (("CAST", ""), ("NOT_EQUAL", "int32")) if out == "bool" else (("CAST", ""),)
    if form is Form.CONVERT:
        return (("QUANTIZE", ""),)
    return ((op.kind, ""),)
