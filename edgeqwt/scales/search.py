"""Search for scales that fit real inputs better than what rules see in statistics.

A method is a frozen dataclass whose fields are its options. Each proposes scales; what is kept is decided on other
samples, by the error at the outputs in the real interpreter, and it may be the rules' scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeqwt.graph.graph import Graph
from edgeqwt.scales.scales import Problem, Scales
from edgeqwt.verify.comparator import Comparator


class Method(Protocol):
    """Proposes scales."""

    def propose(self, problem: Problem) -> list[Scales]:
        """Scales that may be better than the rules', found on `problem.fit` alone."""
        ...


@dataclass(frozen=True, eq=False)
class Found:
    """What a search ended with.

    Attributes:
        scales: to lower with; none where no candidate was better.
        before: output SQNR of the rules' scales on held-out samples, dB; with several outputs
            their noises, each relative to its signal, are added.
        after: of `scales`.
        candidates: how many were compared with the rules' scales; 0 where no output is a real number.
    """

    scales: Scales
    before: float
    after: float
    candidates: int


Against = Callable[[Graph, Sequence[int]], Comparator]
"""Judges by samples that nothing is fitted on: a float graph and the tensors at which errors count -> a comparator."""


def search(method: Method, problem: Problem, against: Against) -> Found:
    """The scales with the least error at the outputs on held-out samples: the rules' or a candidate's.

    Args:
        method: proposes.
        problem: the graph, its samples, and how to lower it.
        against: see Against.

    Raises:
        InputError: there are no samples.
    """
    if not any(problem.graph.tensors[t].is_float for t in problem.outputs or problem.graph.outputs):
        return Found(Scales(), math.nan, math.nan, 0)
    candidates = method.propose(problem)
    if not candidates:
        return Found(Scales(), math.nan, math.nan, 0)
    with against(problem.graph, problem.outputs) as comparator:
        before = comparator.noise(problem.lower(Scales()))
        noises = [comparator.noise(problem.lower(scales)) for scales in candidates]
    least = min(noises)
    if not least < before:  # nan counts as worse
        return Found(Scales(), _decibels(before), _decibels(before), len(candidates))
    return Found(candidates[noises.index(least)], _decibels(before), _decibels(least), len(candidates))


def _decibels(noise: float) -> float:
    return math.inf if noise == 0 else -10 * math.log10(noise)
