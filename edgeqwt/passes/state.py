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
    """A model between two techniques.

    Attributes:
        graph: float; what is lowered.
        statistics: of its activations, by tensor index.
        precision: widths of weights and activations.
        ranges: chooses the ranges of activations.
        scales: stand in for those that the rules choose.
        structure: zeros and clusters of the weights that stay.
        regions: connected ops whose activations have 16 bits for the accuracy's sake.
        reference: the float graph that errors count against; None: `graph`.
        integer: the integer graph; None until a technique works on one, and after the float graph changed.
    """

    graph: Graph
    statistics: Mapping[int, Statistics]
    precision: Precision
    ranges: RangeRule = field(default_factory=MinMax)
    scales: Scales = RULED
    structure: Structure = UNSTRUCTURED
    regions: tuple[Region, ...] = ()
    reference: Graph | None = None
    integer: Graph | None = None

    @property
    def wanted(self) -> Graph:
        """The float graph that the integer one is to compute."""
        return self.graph if self.reference is None else self.reference


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
