"""Values that need no room in a range, because the op that reads them clips them away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array, Graph

CLIPPING = ("RELU", "RELU6")  # they make zero of all that is below zero


@dataclass(frozen=True)
class Summand:
    """A tensor whose one reader adds another tensor to it and clips the sum below at zero.

    Attributes:
        other: the other summand.
        total: the clipped sum.
    """

    other: int
    total: int

    def needed(self, value: Array, values: Mapping[int, Array]) -> Array:
        """The value, and where the sum is zero the value nearest to zero that keeps it so.

        Below -other the sum is zero whatever the value: a range that ends at -other loses nothing.
        """
        zero = np.minimum(-values[self.other], 0)
        return np.where(values[self.total] > 0, value, np.maximum(value, zero))


def summands(graph: Graph) -> dict[int, Summand]:
    """The summands that a clipped sum is the only reader of, by tensor index; of two such, the first."""
    readers, computed = graph.consumers(), {t for op in graph.ops for t in op.outputs}
    found: dict[int, Summand] = {}
    for op in graph.ops:
        if op.kind != "ADD" or op.activation not in CLIPPING:
            continue
        a, b = op.inputs
        shapes = {graph.tensors[t].shape for t in (a, b, *op.outputs)}
        for t, other in ((a, b), (b, a)):
            alone = readers.get(t) == [graph.ops.index(op)] and t not in graph.outputs
            if t != other and len(shapes) == 1 and t in computed and alone and not graph.tensors[other].is_constant:
                found[t] = Summand(other, op.outputs[0])
                break
    return found
