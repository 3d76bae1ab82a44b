"""What techniques hand on to each other, and how each of them accounts for what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Graph
from edgeqwt.rounding.structure import UNSTRUCTURED, Structure
from edgeqwt.scales.ranges import MinMax, RangeRule
from edgeqwt.scales.scales import RULED, Scales
from edgeqwt.widths.precision import Precision
from edgeqwt.widths.regions import Region


@dataclass(frozen=True, eq=False)
class State:
    """A model between two techniques: a float graph, what was observed in it, and how it will be made integers.

    Scales follow from `statistics`, `precision` and `ranges` whenever the state is lowered (`Context.lowered`), but for
    those that `scales` gives; weights are rounded to nearest then. `integer` is the graph that came of it once a
    technique changed more of it than lowering would make again.

    Attributes:
        graph: float; what is lowered.
        statistics: of its activations, by tensor index.
        precision: widths of weights and activations.
        ranges: chooses the ranges of activations from their statistics.
        scales: stand in for those that would follow.
        structure: zeros and clusters of the weights that stay.
        regions: connected ops whose activations have 16 bits for the accuracy's sake.
        trained: the float graph that rounds as training with quantization did; None where there was no such training.
        integer: the integer graph; None until a technique works on one, and after the float graph changed.
    """

    graph: Graph
    statistics: Mapping[int, Statistics]
    precision: Precision
    ranges: RangeRule = field(default_factory=MinMax)
    scales: Scales = RULED
    structure: Structure = UNSTRUCTURED
    regions: tuple[Region, ...] = ()
    trained: Graph | None = None
    integer: Graph | None = None

    @property
    def reference(self) -> Graph:
        """The float graph that the integer one is to compute, and that errors count against."""
        return self.graph if self.trained is None else self.trained

    @property
    def integer_graph(self) -> Graph:
        """The integer graph, where there is one."""
        assert self.integer is not None
        return self.integer


@dataclass(frozen=True, eq=False)
class Account:
    """What a technique did to a model.

    Attributes:
        sentences: for people, one line each; none where there was nothing to do.
        data: for the report: numbers, strings, lists and tables of them.
        kept: whether the model is another one now.
        withdraws: names of techniques that turned out not to pay: the build starts again without them, so that nothing
            stays that was done for their sake.
        detail: what was found, as a value, for programs.
    """

    sentences: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = True
    withdraws: tuple[str, ...] = ()
    detail: object = None


NOTHING = Account(kept=False)
"""There was nothing to do."""
