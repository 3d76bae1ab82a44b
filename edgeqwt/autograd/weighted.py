"""Statistics in which a value counts as much as the outputs feel its error.

A range rule that minimizes the squared error over a histogram treats all values alike. In a network they are
not: what a mask hides, what a GELU flattens, or one outlier of a token that says little, may take most of a
range and matter to nobody. With squared gradients as weights the rule minimizes the outputs' expected squared
error instead, to second order: the diagonal of the Gauss-Newton Hessian, as in PTQ4ViT's metric (Yuan et al.
2022, section 3.3), value by value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeqwt.autograd.evaluate import Program
from edgeqwt.autograd.influence import one_thread
from edgeqwt.autograd.slopes import squared_slopes
from edgeqwt.calibration.clipped import summands
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Array, Graph


@dataclass(frozen=True)
class Weighting:
    """How values are weighted.

    Attributes:
        samples: how many samples gradients are taken from, at most.
    """

    samples: int = 32


FLOOR = 0.01
"""Share of a tensor's mean weight that every value has besides: gradients say nothing of large errors."""


def weighted(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    outputs: Sequence[int],
    statistics: Mapping[int, Statistics],
    draws: int = 2,
    seed: int = 0,
) -> dict[int, Statistics]:
    """The statistics with counts weighted by squared gradients; extremes stay.

    Gradients are estimated with random signs, as in `autograd.influence`. What the outputs do not depend on keeps
    its counts. Weights are scaled to a mean of 1 over all tensors, so that merged tensors compare.

    Args:
        graph: float; every op must have a kernel (`autograd.kernels.missing`).
        samples: graph inputs by tensor index.
        outputs: tensors whose squared errors count.
        statistics: of every float activation.
        draws: random sign vectors per sample.
        seed: of the signs.
    """
    import torch

    program, clipped = Program(graph, outputs), summands(graph)
    found = {t: Statistics() for t in statistics}
    generator, total, count = torch.Generator().manual_seed(seed), 0.0, 0
    with one_thread():
        for sample in samples:
            values, felt = squared_slopes(program, sample, draws, generator)
            for t in felt.keys() & found.keys():
                value = clipped[t].needed(values[t], values) if t in clipped else values[t]
                found[t].add(value, felt[t] + FLOOR * felt[t].mean())
                total, count = total + float(felt[t].sum()), count + felt[t].size
    unit = count / total if total > 0 else 1.0
    return {t: _with_counts(old, found[t], unit) for t, old in statistics.items()}


def _with_counts(old: Statistics, new: Statistics, unit: float) -> Statistics:
    if new.counts is None or not new.counts.sum() > 0:
        return old
    return Statistics(old.low, old.high, new.reach, new.counts * unit, old.zeros)
