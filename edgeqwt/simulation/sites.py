"""Which activations a study quantizes: what enters linear ops and products, by what they are.

The vision-transformer papers quantize the operands of linear layers and of both products of attention; norms, softmax,
GELU and residual sums stay in float. So does a study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import linear_ops, slots
from edgeqwt.graph.opset import MOVES

MOVING = frozenset({*MOVES, "SPLIT", "SPLIT_V"})
SUMMED = MOVING | {"ADD", "MUL", "MAXIMUM"}
"""What lies between a product that sums squares for a normalization and its RSQRT."""


class Role(StrEnum):
    """What an activation is, for quantizers that suit one kind of distribution."""

    SOFTMAX = "softmax"
    """Attention weights: between 0 and 1, most of them near 0."""
    GELU = "gelu"
    """Behind GELU: a short negative side and a long positive one."""
    NORM = "norm"
    """Behind a normalization over channels: ranges differ between channels."""
    OTHER = "other"
    """Anything else."""


@dataclass(frozen=True)
class Site:
    """One operand that is quantized.

    Attributes:
        op: index of the op that reads it.
        slot: of the op's inputs.
        tensor: index of the activation.
        role: what it is.
        linear: whether the op has constant weights, whose input channels lie along the activation's last axis.
    """

    op: int
    slot: int
    tensor: int
    role: Role
    linear: bool


def sites(graph: Graph) -> tuple[Site, ...]:
    """The operands that a study quantizes, in the order of the graph.

    Args:
        graph: float, prepared.
    """
    producers, linear, found = graph.producers(), set(linear_ops(graph)), list[Site]()
    for i, op in enumerate(graph.ops):
        if i in linear:
            operands, mixes = [op.inputs.index(slots(op).data)], op.kind != "DEPTHWISE_CONV_2D"
        elif op.kind == "BATCH_MATMUL" and not leads_to(graph, i, "RSQRT", SUMMED):
            operands, mixes = [k for k, t in enumerate(op.inputs) if not graph.tensors[t].is_constant], False
        else:
            continue
        for slot in operands:
            t = op.inputs[slot]
            found.append(Site(i, slot, t, role(graph, producers, t), mixes))
    return tuple(found)


def role(graph: Graph, producers: Mapping[int, int], tensor: int) -> Role:
    """What an activation is, by the op that makes it; ops that only move values are looked through."""
    i = producers.get(tensor, -1)
    while i >= 0 and graph.ops[i].kind in MOVING:
        tensor = next(t for t in graph.ops[i].inputs if not graph.tensors[t].is_constant)
        i = producers.get(tensor, -1)
    if i < 0:
        return Role.OTHER
    match graph.ops[i].kind:
        case "SOFTMAX":
            return Role.SOFTMAX
        case "GELU":
            return Role.GELU
    return Role.NORM if _normalized(graph, producers, i) else Role.OTHER


def _normalized(graph: Graph, producers: Mapping[int, int], i: int) -> bool:
    """Whether an op is the end of a normalization: x · rsqrt(…), times and plus constants or conditions.

    A condition is the same for all positions, as the shifts and factors of a diffusion transformer's adaLN are.
    """
    while i >= 0 and graph.ops[i].kind in ("MUL", "ADD"):
        op = graph.ops[i]
        made = [producers.get(t, -1) for t in op.inputs]
        if op.kind == "MUL" and any(k >= 0 and graph.ops[k].kind == "RSQRT" for k in made):
            return True
        wide = not one_position(graph, op.outputs[0])
        values = [t for t in op.inputs if not (graph.tensors[t].is_constant or (wide and one_position(graph, t)))]
        if len(values) == len(op.inputs):
            return False
        i = producers.get(values[0], -1) if values else -1
    return False


def one_position(graph: Graph, tensor: int) -> bool:
    """Whether an activation has channels alone: its shape is 1 but for the last axis."""
    return math.prod(graph.tensors[tensor].shape[:-1]) == 1


def leads_to(graph: Graph, i: int, kind: str, through: Set[str]) -> bool:
    """Whether what follows an op is one of a kind, with nothing between but ops of some kinds that are read once."""
    readers = graph.consumers()
    while len(following := list(readers.get(graph.ops[i].outputs[0], ()))) == 1:
        i = following[0]
        if graph.ops[i].kind == kind:
            return True
        if graph.ops[i].kind not in through:
            return False
    return False
