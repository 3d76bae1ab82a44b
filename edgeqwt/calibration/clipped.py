"""Values that need no part of a range, because the ops that read them clip them away or multiply them by zero."""

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
    """

    other: int

    @property
    def reads(self) -> tuple[int, ...]:
        """The tensors whose values say what is needed."""
        return (self.other,)

    def needed(self, value: Array, values: Mapping[int, Array]) -> Array:
        """The value, and where the sum is zero the value nearest to zero that keeps it so.

        Below -other the sum is zero whatever the value: a range that ends at -other loses nothing. Where the sum is not
        zero, the value is above that.
        """
        zero: Array = np.negative(values[self.other])
        np.minimum(zero, 0, out=zero)
        np.maximum(value, zero, out=zero)
        return zero


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
                found[t] = Summand(other)
                break
    return found


@dataclass(frozen=True)
class Factor:
    """A tensor of which every reader multiplies several values of another tensor by each of its values.

    Attributes:
        others: what the readers multiply by it.
    """

    others: tuple[int, ...]

    @property
    def reads(self) -> tuple[int, ...]:
        """The tensors whose values say what is needed."""
        return self.others

    def needed(self, value: Array, values: Mapping[int, Array]) -> Array:
        """The value, and zero where all that it multiplies is zero: the products are zero whatever it is.

        A normalization's 1 / sqrt(variance + epsilon) is a million on a row of zeros (a class token before training, a
        token that a mask has emptied), where those of other rows are about one.
        """
        multiplies = np.logical_or.reduce([_any_in_row(values[other] != 0, value.shape) for other in self.others])
        return np.where(multiplies, value, np.zeros((), value.dtype))


def _any_in_row(found: Array, shape: tuple[int, ...]) -> Array:
    """Whether any of the values is true that one value of a tensor of some shape is broadcast to; of that shape."""
    found = np.broadcast_to(found, np.broadcast_shapes(found.shape, shape))
    padded = (1,) * (found.ndim - len(shape)) + shape
    along = tuple(axis for axis, length in enumerate(padded) if length == 1)
    return np.asarray(found.any(axis=along)).reshape(shape)


def factors(graph: Graph) -> dict[int, Factor]:
    """The tensors that all their readers multiply longer ones by, by tensor index."""
    readers, tensors = graph.consumers(), graph.tensors
    found: dict[int, Factor] = {}
    for t in (t for op in graph.ops for t in op.outputs if t not in graph.outputs and tensors[t].is_float):
        reading = [graph.ops[i] for i in dict.fromkeys(readers.get(t, ()))]
        others = [other for op in reading for other in op.inputs if other != t]
        alone = all(op.kind == "MUL" for op in reading) and len(others) == len(reading)
        if others and alone and all(not tensors[o].is_constant and tensors[o].size > tensors[t].size for o in others):
            found[t] = Factor(tuple(others))
    return found


def spared(graph: Graph) -> dict[int, Summand | Factor]:
    """What says, by tensor index, which of a tensor's values need no part of its range."""
    return {**factors(graph), **summands(graph)}
