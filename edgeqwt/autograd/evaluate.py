"""Run a float graph, or a part of it, with torch, so that gradients can be taken through it.

Graphs have a fixed batch, and a RESHAPE or MEAN may well involve its axis: so ops run as the file
says, on one sample, and many samples run at a time under torch.func.vmap, which is as fast as a
batch of its own (convolutions of 16 to 64 channels, measured).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch

from edgeqwt.autograd.call import Call
from edgeqwt.autograd.kernels import kernel
from edgeqwt.errors import InvariantError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.device import device_now

Tensors = dict[int, torch.Tensor]
Hook = Callable[[int, torch.Tensor], torch.Tensor]

NO_CHANGE: Mapping[int, torch.Tensor] = MappingProxyType({})


class Program:
    """The part of a float graph that leads from some tensors to others, ready to run.

    Args:
        graph: float.
        wanted: tensors to compute; one of `given` is handed through.
        given: activations that the caller has; the graph's inputs by default.
        double: compute in float64, for checks of gradients.

    Attributes:
        ops: indices of the ops that run, in order.
        given: the activations that the part really reads, sorted.
        constants: the part's constants as torch tensors, by tensor index.
        kernels: how each op runs: what torch has no kernel for LiteRT runs, and gradients stop (`kernels.missing`).

    Raises:
        InvariantError: a wanted tensor depends on an activation that is not given.
    """

    def __init__(
        self, graph: Graph, wanted: Sequence[int], given: Sequence[int] | None = None, *, double: bool = False
    ) -> None:
        known = set(graph.inputs if given is None else given)
        self.graph, self.wanted = graph, tuple(dict.fromkeys(wanted))
        self.ops, self.given = needed(graph, self.wanted, known)
        self.kernels = {i: kernel(graph, graph.ops[i]) for i in self.ops}
        used = {t for i in self.ops for t in graph.ops[i].inputs if t >= 0 and t not in known}
        self.constants = {
            t: as_tensor(data, double) for t in sorted(used) if (data := graph.tensors[t].data) is not None
        }

    def one(
        self,
        values: Mapping[int, torch.Tensor],
        constants: Mapping[int, torch.Tensor] = NO_CHANGE,
        hook: Hook | None = None,
    ) -> Tensors:
        """Runs one sample.

        Args:
            values: of `given`, by tensor index, shapes as in the file.
            constants: take the place of the graph's, by tensor index.
            hook: changes each tensor that an op computes, given its index, before anything reads it.

        Returns:
            The wanted tensors.
        """
        known: dict[int, torch.Tensor] = {**self.constants, **constants, **values}
        for i in self.ops:
            op = self.graph.ops[i]
            found = self.kernels[i](Call(self.graph, op, [None if t < 0 else known[t] for t in op.inputs]))
            outputs = found if isinstance(found, tuple) else (found,)
            for t, value in zip(op.outputs, outputs, strict=True):
                known[t] = value if hook is None else hook(t, value)
        return {t: known[t] for t in self.wanted}

    def many(
        self,
        values: Mapping[int, torch.Tensor],
        constants: Mapping[int, torch.Tensor] = NO_CHANGE,
        hook: Hook | None = None,
    ) -> Tensors:
        """Runs several samples: as `one`, with the samples stacked in front of `values` and of the result."""

        def run(sample: Tensors) -> Tensors:
            return self.one(sample, constants, hook)

        found: Tensors = torch.func.vmap(run)({t: values[t] for t in self.given})
        return found


def evaluate(
    graph: Graph,
    values: Mapping[int, Array],
    wanted: Sequence[int],
    constants: Mapping[int, torch.Tensor] = NO_CHANGE,
    hook: Hook | None = None,
) -> dict[int, Array]:
    """One sample through a float graph, without gradients.

    Args:
        graph: float.
        values: activations by tensor index, e.g. the graph's inputs.
        wanted: tensors to compute.
        constants: see `Program.one`.
        hook: see `Program.one`.
    """
    program = Program(graph, wanted, list(values))
    with torch.no_grad():
        found = program.one({t: as_tensor(v) for t, v in values.items()}, constants, hook)
    return {t: as_array(value) for t, value in found.items()}


def as_tensor(array: Array, double: bool = False) -> torch.Tensor:
    """A copy as a torch tensor, where gradients are computed; floats in float32, or in float64 if so asked."""
    copied = torch.from_numpy(np.array(array)).to(device_now())
    return copied.to(torch.float64 if double else torch.float32) if copied.is_floating_point() else copied


def as_array(tensor: torch.Tensor) -> Array:
    """A tensor's values, from wherever it is."""
    values: Array = tensor.detach().cpu().numpy()
    return values


def needed(graph: Graph, wanted: Sequence[int], known: set[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ops between the known tensors and the wanted ones, and the known tensors that they read.

    Args:
        graph: any graph.
        wanted: tensor indices.
        known: activations that need not be computed.

    Raises:
        InvariantError: a wanted tensor depends on an activation that is not known.
    """
    producers = graph.producers()
    ops: set[int] = set()
    given: set[int] = set()
    todo = list(wanted)
    while todo:
        t = todo.pop()
        if t < 0 or graph.tensors[t].is_constant:
            continue
        if t in known:
            given.add(t)
        elif t not in producers:
            raise InvariantError(f"tensor {graph.tensors[t].name!r} is needed and not given")
        elif producers[t] not in ops:
            ops.add(producers[t])
            todo.extend(graph.ops[producers[t]].inputs)
    return tuple(sorted(ops)), tuple(sorted(given))
