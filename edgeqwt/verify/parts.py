"""Parts of an output that mean different things, such as boxes and class scores in one tensor.

One figure for the whole of such an output is that of its largest part. What a graph joins is found by its
structure; judges and reports look at each part beside the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeqwt.graph.graph import Array, Graph


@dataclass(frozen=True)
class Part:
    """Elements of a tensor that lie side by side along one axis.

    Attributes:
        name: for people: the tensor that was joined in, or the columns.
        axis: of the tensor as the file has it, batch dimension included.
        start, stop: first index along it, and the one behind the last.
    """

    name: str
    axis: int
    start: int
    stop: int

    def of(self, values: Array) -> Array:
        """The part's elements; `values` has the tensor's shape."""
        index = [slice(None)] * values.ndim
        index[self.axis] = slice(self.start, self.stop)
        part: Array = values[tuple(index)]
        return part


def parts_of(graph: Graph, tensor: int) -> tuple[Part, ...]:
    """The parts of an output of a float graph; none where it is of one kind."""
    return ()
