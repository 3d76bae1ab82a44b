"""Statistics in which a value counts as much as the outputs depend on it.

A range rule that minimizes the squared error over a histogram treats all values alike. In a network they are
not: what a mask hides, what a GELU flattens, or one outlier of a token that says little, may take most of a
range and matter to nobody. With squared gradients as weights the rule minimizes the outputs' expected squared
error instead, to second order: the diagonal of the Gauss-Newton Hessian, as in PTQ4ViT's metric (Yuan et al.
2022, section 3.3), value by value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count as count_from

import numpy as np
import torch

from edgeqwt.autograd.evaluate import Program
from edgeqwt.autograd.halves import Halves
from edgeqwt.autograd.squared_gradients import generators, squared_gradients
from edgeqwt.calibration.clipped import spared
from edgeqwt.calibration.statistics import BINS, Statistics
from edgeqwt.graph.fills import fills_as_zero
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.positions import every, some
from edgeqwt.runtime.device import gradient_threads
from edgeqwt.runtime.parallel import ordered
from edgeqwt.runtime.threads import torch_threads

FLOOR = 0.01
"""Share of a tensor's mean weight that every value has besides: gradients say nothing of large errors."""
PARTS = 64
"""In how many parts of [-reach, reach), which a histogram covers, mean weights are distinguished. Values of all samples
are counted: the tails of a range are seldom met in few samples, and what is not met must not look as if it did not
occur.
"""
LEAST = 32  # samples, however large the network
ENOUGH = 1 << 15  # values of a sample that are counted of each tensor, about


def weighted(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    outputs: Sequence[int],
    statistics: Mapping[int, Statistics],
    draws: int = 2,
    seed: int = 0,
) -> dict[int, Statistics]:
    """The statistics with counts weighted by squared gradients; extremes stay.

    Gradients are estimated with random signs, as in `autograd.output_sensitivity`; a value weighs as much as those
    around it do on average. What the outputs do not depend on keeps its counts. Weights are scaled to a mean of 1 over
    all tensors, so that merged tensors compare.

    Args:
        graph: float; where an op has no kernel, gradients stop (`autograd.kernels.stops`).
        samples: some graph inputs by tensor index, for gradients; as many are read as these need (`halves`).
        outputs: tensors whose squared errors count.
        statistics: of every float activation, from all samples.
        draws: random sign vectors per sample.
        seed: of the signs.
    """
    program, clipped = Program(graph, outputs), spared(graph)
    sums = {t: np.zeros((2, PARTS)) for t in statistics}
    total, count, halves = 0.0, 0, Halves(graph, LEAST)

    def summed(
        _: None, numbered: tuple[int, Mapping[int, Array], torch.Generator]
    ) -> dict[int, tuple[Array, float, int]]:
        """Of each tensor the weights and counts in each part, the sum of all weights, and how many there are."""
        number, sample, generator = numbered
        values, squares = squared_gradients(program, sample, draws, generator)
        found = {}
        for t in squares.keys() & sums.keys():
            value = fills_as_zero(clipped[t].needed(values[t], values) if t in clipped else values[t])
            step = every(value.shape, ENOUGH // max(1, value.shape[-1])) if value.ndim else 1
            value, square = (some(x, step, number % step) if x.ndim else x for x in (value, squares[t]))
            place, counted = _parts(value, statistics[t].reach), value.reshape(-1) != 0
            weights = (square + FLOOR * square.mean()).reshape(-1) * counted
            parts = np.stack([np.bincount(place, what, PARTS) for what in (weights, counted)])
            found[t] = parts, step * float(square.sum()), step * square.size
        return found

    with torch_threads(1):
        numbered = zip(count_from(), samples, generators(program, draws, seed), strict=False)
        for found in ordered(gradient_threads(), summed, numbered, window=1):
            for t, (parts, weight, size) in found.items():
                sums[t] += parts
                total, count = total + weight, count + size
            if halves.agree({t: parts[0] for t, (parts, *_) in found.items()}, 1):
                break
    unit = count / total if total > 0 else 1.0
    return {t: _weighing(old, sums[t][0], sums[t][1], unit) for t, old in statistics.items()}


def _parts(values: Array, reach: float) -> Array:
    """In which of PARTS of [-reach, reach) each value lies, or which is next to it."""
    return np.clip(np.floor(values.reshape(-1) * (PARTS / 2 / reach)) + PARTS // 2, 0, PARTS - 1).astype(np.intp)


def _weighing(old: Statistics, weights: Array, counts: Array, unit: float) -> Statistics:
    """All values' counts, times the mean weight around them, nearer to that of all where few have been seen.

    Samples are no longer distinguished, so that ranges get no margins: how far a tail reaches that the outputs hardly
    depend on in other samples says little (all-MiniLM-L6-v2 in 8 bits loses 0.7 dB by them).
    """
    if (known := old.counts) is None or not weights.sum() > 0:
        return old.pooled()
    share = (weights + weights.sum() / counts.sum()) / (counts + 1)
    return old.weighed(old.reach, known * np.repeat(share, BINS // PARTS) * unit)
