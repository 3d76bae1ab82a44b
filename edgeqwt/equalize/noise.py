"""What rounding costs at the outputs, as a function of the channels' factors.

Every activation is stored with the step s of its scale, and errs by s^2 / 12; every weight row with
its own step, and errs by that for each value it meets. Both reach the outputs multiplied by
`autograd.influence`. Multiplying channel f by k_f divides its share of the first by k_f^2 as long as
the range, and so the step, stays; and multiplies what its readers' weights cost.
In log k every term is a sum of exponentials and maxima, so the total is convex (a geometric program):
there is one minimum, whatever the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.equalize.channels import ANY, FIXED, Channels
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import RULES, slots
from edgeqwt.quantize.activations import Assignment, levels
from edgeqwt.quantize.precision import Precision
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Seen:
    """One activation on the calibration samples, by factor: float64, shape (count of factors,).

    Attributes:
        low, high: extremes, at most and at least 0.
        square: mean square.
    """

    low: Array
    high: Array
    square: Array


def observe_channels(graph: Graph, channels: Channels, samples: Iterable[Mapping[int, Array]]) -> dict[int, Seen]:
    """Extremes and mean squares of every activation that has factors; by tensor index."""
    tensors = list(channels.of)
    workers = [xnnpack(graph, tensors) for _ in range(THREADS)]

    def run(runner: Runner, inputs: Mapping[int, Array]) -> dict[int, Array]:
        values = {**inputs, **runner.run(inputs)}
        return {t: values[t] for t in tensors}

    zeros = {t: np.zeros(graph.tensors[t].shape) for t in tensors}
    low, high, square = (({t: z.copy() for t, z in zeros.items()}) for _ in range(3))
    count = 0
    for values in ordered(workers, run, samples):
        for t, x in values.items():
            np.minimum(low[t], x, out=low[t])
            np.maximum(high[t], x, out=high[t])
            square[t] += x.astype(np.float64) ** 2
        count += 1
    return {t: _by_factor(channels, t, low[t], high[t], square[t] / max(count, 1)) for t in tensors}


def _by_factor(channels: Channels, t: int, low: Array, high: Array, square: Array) -> Seen:
    factors = channels.of[t].reshape(-1)
    lowest, highest = np.zeros(channels.count), np.zeros(channels.count)
    np.minimum.at(lowest, factors, low.reshape(-1))
    np.maximum.at(highest, factors, high.reshape(-1))
    total = np.bincount(factors, square.reshape(-1), channels.count)
    return Seen(lowest, highest, total / np.maximum(np.bincount(factors, minlength=channels.count), 1))


@dataclass(frozen=True, eq=False)
class Stored:
    """A group of activations with one scale.

    Attributes:
        factors: that occur in it.
        low, high: their extremes, all tensors together.
        felt: their influence, summed over the elements that are rounded.
        levels: number of integers; with zero point 0 where `symmetric`.
    """

    factors: Array
    low: Array
    high: Array
    felt: Array
    levels: int
    symmetric: bool


@dataclass(frozen=True, eq=False)
class Rows:
    """A linear op's weights.

    Attributes:
        factors: of each input channel, shape (channels,).
        largest: magnitude of the largest weight of each row and input channel, shape (rows, channels).
        felt: influence of each row's output, summed over positions, shape (rows,).
        energy: mean square of what a row meets of each channel, all taps, shape (channels,).
        levels: integers on one side of zero.
    """

    factors: Array
    largest: Array
    felt: Array
    energy: Array
    levels: int


@dataclass(frozen=True, eq=False)
class Noise:
    """The model of a graph.

    Attributes:
        stored: what activations cost.
        rows: what weights cost.
        count: number of factors.
    """

    stored: tuple[Stored, ...]
    rows: tuple[Rows, ...]
    count: int

    def at(self, log_factors: torch.Tensor) -> torch.Tensor:
        """The outputs' expected squared error, given the factors' logarithms, float64, shape (count,)."""
        import torch

        k = torch.exp(log_factors)
        terms = []
        for s in self.stored:
            mine = k[s.factors]
            high, low = (torch.as_tensor(s.high) * mine).max(), (torch.as_tensor(-s.low) * mine).max()
            reach = 2 * torch.maximum(high, low) if s.symmetric else high + low
            terms.append((reach / (s.levels - 1)) ** 2 * (torch.as_tensor(s.felt) / mine**2).sum())
        for r in self.rows:
            mine = k[r.factors]
            step = (torch.as_tensor(r.largest) / mine).max(dim=1).values / r.levels
            terms.append((torch.as_tensor(r.felt) * step**2).sum() * (torch.as_tensor(r.energy) * mine**2).sum())
        return torch.stack(terms).sum() / 12


def noise(
    graph: Graph,
    channels: Channels,
    seen: Mapping[int, Seen],
    influence: Mapping[int, Array],
    assignment: Assignment,
    precision: Precision,
) -> Noise:
    """The model of a float graph.

    Args:
        graph: float, lowerable.
        channels: its factors.
        seen: its activations on calibration samples.
        influence: see `autograd.influence`; an activation that is missing there does not matter.
        assignment: which activations share a scale; the scales themselves are not looked at.
        precision: widths.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for t in channels.of:
        place = t, assignment.plan.home[t]
        groups.setdefault(assignment.group.get(place, place), []).append(t)
    producers = graph.producers()
    rounded = {t for t in channels.of if t not in producers or RULES[graph.ops[producers[t]].kind].bound > 0}
    stored = [
        _stored(channels, seen, {t: influence[t] for t in ts if t in rounded and t in influence}, ts, root[1])
        for root, ts in groups.items()
        if all(_free(graph, t) for t in ts)
    ]
    rows = [
        _rows(graph, op, channels, seen, influence, precision.of(graph.tensors[op.outputs[0]].name).weights)
        for op in graph.ops
        if RULES[op.kind].linear
    ]
    return Noise(tuple(stored), tuple(r for r in rows if r is not None), channels.count)


def _free(graph: Graph, t: int) -> bool:
    """Whether a range decides the tensor's scale, not the op that computes it."""
    producer = graph.producers().get(t)
    return producer is None or RULES[graph.ops[producer].kind].fixed_output is None


def _stored(
    channels: Channels, seen: Mapping[int, Seen], influence: Mapping[int, Array], tensors: list[int], bits: int
) -> Stored:
    felt = np.zeros(channels.count)
    for t, value in influence.items():
        felt += np.bincount(channels.of[t].reshape(-1), value.reshape(-1), channels.count)
    present = np.unique(np.concatenate([channels.of[t].reshape(-1) for t in tensors]))
    present = present[present != ANY]
    low = np.min([seen[t].low[present] for t in tensors], axis=0)
    high = np.max([seen[t].high[present] for t in tensors], axis=0)
    return Stored(present, low, high, felt[present], levels(bits), bits == 16)


def _rows(
    graph: Graph,
    op: Op,
    channels: Channels,
    seen: Mapping[int, Seen],
    influence: Mapping[int, Array],
    weight_bits: int,
) -> Rows | None:
    """None where factors do not change what the op's weights cost: each row of a depthwise one meets one channel."""
    s = slots(op)
    weights = graph.tensors[s.weight].data
    if op.kind == "DEPTHWISE_CONV_2D" or weights is None or s.data not in seen or s.output not in influence:
        return None
    factors = by_channel(channels.of[s.data])
    if weights.shape[-1] != len(factors):  # grouped: few, and their rows meet few channels
        return None
    largest = np.abs(weights.astype(np.float64)).reshape(weights.shape[0], -1, weights.shape[-1]).max(axis=1)
    felt = influence[s.output].reshape(-1, weights.shape[0]).sum(axis=0)
    taps = weights[0].size / weights.shape[-1]
    return Rows(factors, largest, felt, seen[s.data].square[factors] * taps, 2 ** (weight_bits - 1) - 1)


def by_channel(factors: Array) -> Array:
    """The factors along the last axis; where padding has none, those of the other positions."""
    return np.asarray(np.maximum(factors.reshape(-1, factors.shape[-1]).max(axis=0), FIXED))
