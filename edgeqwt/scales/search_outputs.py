"""Ranges searched on the error of the model's outputs: LAPQ.

At 8 bits the error is flat and nearly separable in the ranges (the paper's section 4), so that what is
found on few samples is easily chance: measured on ResNet-20, nothing that held. It is meant for
fewer bits, and `search` keeps it only where it helps on held-out samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.scales.ranges import Lp, Range
from edgeqwt.scales.scales import Problem, Scales, spans
from edgeqwt.verify.comparator import Comparator

Ranges = Mapping[int, Range]  # by the first tensor of a group
Point = tuple[float, float]  # where, and the error there

POWERS = (1.75, 2.0, 2.5, 3.0, 4.0)
WIDEST_MOVE = 2  # in steps: a parabola through three points says little about what is far away


@dataclass(frozen=True)
class Lapq:
    """Loss-aware post-training quantization (Nahshan et al. 2021, algorithm 1), with the real interpreter.

    Ranges of least |error|^p for some p; a parabola through their errors at the model's outputs gives the
    best p; from there Powell's method: along each tensor's range in turn a parabola through three
    points, and after each round once more along the sum of its moves.

    Attributes:
        samples: to search on, at most.
        evaluations: runs of all samples through an integer graph, at most.
        step: first move of a range, as a share of it.
    """

    samples: Annotated[int, Ge(1)] = 96
    evaluations: Annotated[int, Ge(1)] = 80
    step: Annotated[float, Interval(ge=0.001, le=0.4)] = 0.1

    def propose(self, problem: Problem) -> list[Scales]:
        """The best of the rules' ranges and Lp ranges, and what the descent from there found."""
        base = problem.lower(Scales())
        span = spans(problem.graph, base)
        groups = [group for group in problem.free_groups() if group[0] in span]
        with Comparator(problem.graph, islice(problem.fit, self.samples), problem.outputs) as comparator:
            counted = _Budget(lambda ranges: comparator.noise(problem.lower(Scales(ranges))), self.evaluations)
            start = best_power(problem.statistics, groups, {group[0]: span[group[0]] for group in groups}, counted)
            descended = descend(start, self.step, counted)
        return [Scales(start), Scales(descended)]


class _Budget:
    """An error to be minimized that may be asked for so many times."""

    def __init__(self, error: Callable[[Ranges], float], evaluations: int) -> None:
        self.error, self.left = error, evaluations

    def __call__(self, ranges: Ranges) -> float:
        """The error, or infinity once the budget is spent: nothing is then accepted any more."""
        if self.left <= 0:
            return np.inf
        self.left -= 1
        return self.error(ranges)


def best_power(
    statistics: Mapping[int, Statistics],
    groups: Sequence[Sequence[int]],
    plain: Ranges,
    error: Callable[[Ranges], float],
) -> Ranges:
    """The ranges with the least error of the plain ones, Lp's for some p, and Lp's where a parabola over p is least."""
    merged = {group[0]: _merged([statistics[t] for t in group]) for group in groups}

    def ranges(p: float) -> Ranges:
        return {t: Lp(p).choose(s, 256) for t, s in merged.items()}

    tried = [(error(ranges(p)), p) for p in POWERS]
    vertex = lowest([(p, e) for e, p in tried if np.isfinite(e)])
    if vertex is not None and POWERS[0] < vertex < POWERS[-1]:
        tried.append((error(ranges(vertex)), vertex))
    least, power = min(tried)
    return plain if error(plain) <= least else ranges(power)


def descend(start: Ranges, step: float, error: Callable[[Ranges], float]) -> Ranges:
    """Powell's method over the ranges' widths, until a round brings nothing or the error is infinite.

    Args:
        start: ranges, each to be scaled as a whole.
        step: first move, as a share.
        error: of some ranges; infinite once no more may be asked.
    """
    here, least = dict(start), error(start)
    while np.isfinite(least):
        before, reached = dict(here), least
        for t in start:
            points = [(1.0, least), *((f, error(_scaled(here, t, f))) for f in (1 - step, 1 + step))]
            vertex = lowest([point for point in points if np.isfinite(point[1])])
            if vertex is not None:
                vertex = float(np.clip(vertex, 1 - WIDEST_MOVE * step, 1 + WIDEST_MOVE * step))
                points.append((vertex, error(_scaled(here, t, vertex))))
            factor, found = min(points, key=lambda point: point[1])
            if found < least:
                here, least = _scaled(here, t, factor), found
        onward = {t: _product(here[t], here[t][1] - here[t][0], before[t][1] - before[t][0]) for t in here}
        if least < reached and (found := error(onward)) < least:
            here, least = onward, found
        if least >= reached:
            break
    return here


def lowest(points: Sequence[Point]) -> float | None:
    """Where the parabola of least squares through some points is lowest; None where it is not convex."""
    if len(points) < 3:
        return None
    x, y = np.array(points).T
    center = x.mean()
    a, b, _ = np.polyfit(x - center, y / np.abs(y).max(), 2)
    return None if a <= 0 else float(center - b / (2 * a))


def _scaled(ranges: Ranges, t: int, factor: float) -> dict[int, Range]:
    low, high = ranges[t]
    return {**ranges, t: (low * factor, high * factor)}


def _product(limits: Range, now: float, before: float) -> Range:
    """A range moved once more as it was moved from one width to another."""
    factor = now / before if before > 0 else 1.0
    return limits[0] * factor, limits[1] * factor


def _merged(parts: Sequence[Statistics]) -> Statistics:
    total = Statistics()
    for part in parts:
        total.merge(part)
    return total
