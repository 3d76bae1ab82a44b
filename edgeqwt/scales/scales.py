"""What a search for scales starts from, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.pairing import counterparts
from edgeqwt.scales.ranges import Range
from edgeqwt.widths.precision import Precision

Sample = Mapping[int, Array]

# The gradient of the model's loss at some tensors, by tensor index, for one sample's inputs.
Gradients = Callable[[Sample], Mapping[int, Array]]


@dataclass(frozen=True, eq=False)
class Scales:
    """Scales to lower with, in place of those that the rules choose.

    Attributes:
        ranges: by float activation; of its whole group where it shares its scale.
        weights: scales per output channel, float64, by float weight tensor.
    """

    ranges: Mapping[int, Range] = field(default_factory=dict)
    weights: Mapping[int, Array] = field(default_factory=dict)

    def over(self, others: Scales) -> Scales:
        """These scales, and the others' where these say nothing."""
        return Scales({**others.ranges, **self.ranges}, {**others.weights, **self.weights})


RULED = Scales()
"""All scales as the rules choose them."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A float graph whose scales are to be searched.

    Attributes:
        graph: float, in canonical form.
        statistics: of its activations.
        precision: widths.
        lower: the integer graph, at the rules' scales but for the given ones.
        groups: activations that share one scale, one list per group; every activation is in one.
        fit: real-valued inputs by tensor index, to search on; can be read again and again.
        outputs: tensors to judge at, see `Comparator`; empty for the graph's outputs.
        gradients: of the loss, where somebody can tell it.
    """

    graph: Graph
    statistics: Mapping[int, Statistics]
    precision: Precision
    lower: Callable[[Scales], Graph]
    groups: tuple[tuple[int, ...], ...]
    fit: Iterable[Sample]
    outputs: tuple[int, ...] = ()
    gradients: Gradients | None = None

    def free_groups(self) -> tuple[tuple[int, ...], ...]:
        """The groups whose scale is up for choice: no op demands one of its own."""
        fixed = {t for op in self.graph.ops if RULES[op.kind].fixed_output is not None for t in op.outputs}
        return tuple(group for group in self.groups if not fixed & {*group})


def spans(graph: Graph, integer: Graph) -> dict[int, Range]:
    """The real range of each float activation that an integer graph holds as int8, by the float tensor."""
    found: dict[int, Range] = {}
    for t, other in counterparts(graph, integer).items():
        tensor = integer.tensors[other]
        if tensor.dtype == "int8" and tensor.quantization is not None:
            scale, zero_point = float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point[0])
            found[t] = scale * (-128 - zero_point), scale * (127 - zero_point)
    return found
