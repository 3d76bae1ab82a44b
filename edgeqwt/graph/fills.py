"""Fill values: numbers that no data has, which stand where there is nothing to choose.

Max pools are padded with -infinity or the smallest float, hidden scores are replaced by it, a maximum starts at it.
In integers the lowest or highest integer of a tensor stands for such a number exactly, whatever the tensor's scale,
as long as other values are chosen over it. So fill values never count as data: no range is to span them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.opset import MOVES, SPLITS

HUGE = 2.0**100
"""From here on, infinities included, a value is a fill: no scale of an integer graph reaches it."""

LARGE = 1e3
"""From here on a constant may be meant as a fill, where what it is chosen for shows it."""

FILL = 2.0**120
"""How fills are written: still finite when multiplied by a factor of equalization, or added to a few others."""

PADDED = ("PAD", "PADV2", "MIRROR_PAD")
MOVING = (
    *MOVES, *SPLITS, "PACK", "GATHER", "GATHER_ND", "TILE", "BROADCAST_TO", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE",
    "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", *PADDED,
)  # fmt: skip
CHOOSING: Mapping[str, tuple[int, ...] | None] = {
    "PADV2": (0, 2),
    "MAXIMUM": None,
    "MINIMUM": None,
    "SELECT": (1, 2),
    "SELECT_V2": (1, 2),
    "CONCATENATION": None,
    "PACK": None,
    "FILL": (1,),
    "MAX_POOL_2D": (0,),
    "REDUCE_MAX": (0,),
    "REDUCE_MIN": (0,),
}
"""Ops whose results are values of their inputs, chosen, and the slots they choose from; None for all."""


def chosen_from(kind: str, count: int) -> tuple[int, ...]:
    """The input slots, of `count`, whose values an op hands on as they are; none where it computes new ones."""
    if kind in CHOOSING:
        slots = CHOOSING[kind]
        return tuple(range(count)) if slots is None else slots
    return ((1,) if kind == "SPLIT" else (0,)) if kind in MOVING else ()


def has_fills(data: Array | None) -> bool:
    """Whether a constant holds fill values."""
    return data is not None and data.dtype.kind == "f" and bool((np.abs(data) >= HUGE).any())


def carriers(graph: Graph) -> frozenset[int]:
    """The activations that may hold fill values: they come from constants, and are chosen or moved since."""
    found: set[int] = set()
    for op in graph.ops:
        slots = chosen_from(op.kind, len(op.inputs))
        given = [op.inputs[s] for s in slots if s < len(op.inputs) and op.inputs[s] >= 0]
        if any(t in found or has_fills(graph.tensors[t].data) for t in given):
            found |= {t for t in op.outputs if graph.tensors[t].is_float}
    return frozenset(found)


def without_fills(values: Array) -> Array:
    """The values that are no fills, flat where there are some; NaN stays."""
    fills = np.abs(values) >= HUGE
    return values[~fills] if fills.any() else values


def fills_as_zero(values: Array) -> Array:
    """The values with zero, which every scale has, in place of fills; themselves where there are none."""
    if values.size and values.min() > -HUGE and values.max() < HUGE:
        return values
    return np.where(np.abs(values) >= HUGE, np.zeros((), values.dtype), values)
