"""Which op ends an interpreter's process: asked when one has ended, so that the error names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.opset16 import RULES16, bits_of
from edgeqwt.runtime.child import EndedError
from edgeqwt.runtime.interpreters import InterpreterError
from edgeqwt.runtime.subprocess_runners import Host

TOGETHER = "no single op, but all of them together,"


class KernelEndedError(InterpreterError):
    """A kernel ended its process: a check of its own failed, or it wrote where it must not.

    Attributes:
        graph: what ran.

    Args:
        graph: what ran.
        op: the index of the op that ends the process when it is run alone on the same values; None where none does.
        kind: of runner, a key of `runtime.runners.RUNNERS`.
        error: how the process ended.
        when: the words for what it was doing.
    """

    def __init__(self, graph: Graph, op: int | None, kind: str, error: EndedError, when: str = "on a sample") -> None:
        super().__init__(*error.arguments)
        what = TOGETHER if op is None else graph.describe(op)
        self.graph = graph
        self.op = "" if op is None else what
        self.message = f"{what} ends the process of the {kind} kernels {when}: {error.arguments[2][-1]}"
        self.args = (self.message,)
        if op is None or not graph.ops[op].outputs:
            return
        name = graph.tensors[graph.ops[op].outputs[0]].name
        if graph.ops[op].kind in RULES16 and bits_of(graph, graph.ops[op]) == 8:
            self.hint = f"Give it 16-bit activations: --layer '{name}=w8a16' (the name is the float graph's)."


def first_ending(graph: Graph, tried: Callable[[Graph], object]) -> int | None:
    """The first op that ends the process when it is tried alone; None where none does."""
    for i in range(len(graph.ops)):
        try:
            tried(graph.alone(i)[0])
        except EndedError:
            return i
        except (InterpreterError, InvariantError, InputError):  # it makes no sense alone
            continue
    return None


def ending_op(graph: Graph, inputs: Mapping[int, Array], kind: str, host: Host) -> int | None:
    """The first op that ends the process when it is run alone on what the ops before it computed.

    Args:
        graph: any, whose ops keep no state.
        inputs: a sample on which the process ended, as the interpreter takes it.
        kind: a key of `runtime.runners.RUNNERS`.
        host: runs the ops one by one.

    Returns:
        Its index; None where no op does so by itself, or one cannot run alone.
    """
    values = dict(inputs)
    for i, op in enumerate(graph.ops):
        part, fed = graph.alone(i)
        try:
            found = host.runner(kind, part).run({new: values[old] for old, new in fed.items()})
        except EndedError:
            return i
        except (InterpreterError, InvariantError, InputError, KeyError):
            return None
        values |= {old: found[new] for old, new in zip(op.outputs, part.outputs, strict=True)}
    return None
