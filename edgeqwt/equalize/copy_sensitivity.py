"""Output sensitivity of activations, and of their copies of fewer bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.widths.plan import Plan, copies


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """Output sensitivity (`autograd.output_sensitivity`), float64, of the tensors' shapes.

    Attributes:
        of: of each activation that leads to an output, by tensor index.
        narrowed: of the copies of fewer bits, through the ops that read these.
    """

    of: Mapping[int, Array]
    narrowed: Mapping[int, Array]


def sensitivities(
    graph: Graph, samples: Iterable[Mapping[int, Array]], outputs: Sequence[int], plan: Plan
) -> Sensitivities:
    """The output sensitivity of every activation of a graph, and of the copies that a plan needs."""
    from edgeqwt.autograd.output_sensitivity import output_sensitivity

    apart, copied = _with_copies(graph, plan)
    found = output_sensitivity(apart, samples, outputs, by_channel=True)
    return Sensitivities(
        {t: value for t, value in found.items() if t < len(graph.tensors)},
        {t: found[copy] for t, copy in copied.items() if copy in found},
    )


def _with_copies(graph: Graph, plan: Plan) -> tuple[Graph, dict[int, int]]:
    """The graph with an op for each copy of fewer bits, and their tensors; the old tensors keep their indices."""
    narrower = sorted(t for t, bits in copies(graph, plan) if bits < plan.computed_bits[t])
    copied = {t: len(graph.tensors) + i for i, t in enumerate(narrower)}
    tensors = [replace(graph.tensors[t], name=f"{graph.tensors[t].name}/narrowed", data=None) for t in narrower]
    ops: list[Op] = []
    waiting = set(narrower)
    for op, bits in zip(graph.ops, plan.ops, strict=True):
        read = {t for t in op.inputs if t in copied and bits < plan.computed_bits[t]}
        ops += [Op("RESHAPE", (t,), (copied[t],)) for t in sorted(read & waiting)]
        ops.append(replace(op, inputs=tuple(copied[t] if t in read else t for t in op.inputs)))
        waiting -= read
    left = {t: copy for t, copy in copied.items() if t not in waiting}  # what only the interface reads has no copy here
    used = replace(graph, tensors=(*graph.tensors, *tensors), ops=tuple(ops))
    return used, left
