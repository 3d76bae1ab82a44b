"""What the channels of activations are like on samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack


@dataclass(frozen=True, eq=False)
class ChannelValues:
    """The values of a tensor's channels (last axis), float64, shape (channels,); zeros without samples.

    Attributes:
        low, high: extremes.
        mean: of all samples and positions.
    """

    low: Array
    high: Array
    mean: Array


def channel_values(
    graph: Graph, tensors: tuple[int, ...], samples: Iterable[Mapping[int, Array]]
) -> dict[int, ChannelValues]:
    """Of some activations, by tensor index.

    Args:
        graph: float.
        tensors: with at least one axis.
        samples: inputs by tensor index; read once.
    """

    def work(runner: Runner, inputs: Mapping[int, Array]) -> dict[int, ChannelValues]:
        values = runner.run(inputs)
        flat = {t: values[t].reshape(-1, values[t].shape[-1]).astype(np.float64) for t in tensors}
        return {t: ChannelValues(rows.min(axis=0), rows.max(axis=0), rows.mean(axis=0)) for t, rows in flat.items()}

    found, count = dict[int, ChannelValues](), 0
    for seen in ordered([xnnpack(graph, tensors) for _ in range(THREADS)], work, samples):
        found = {t: _joined(found[t], new) if t in found else new for t, new in seen.items()}
        count += 1
    zeros = {t: np.zeros(graph.tensors[t].shape[-1]) for t in tensors}
    whole = {t: ChannelValues(v.low, v.high, v.mean / count) for t, v in found.items()}
    return {t: whole.get(t, ChannelValues(zero, zero, zero)) for t, zero in zeros.items()}


def _joined(a: ChannelValues, b: ChannelValues) -> ChannelValues:
    """Of two sets of samples; means are summed up."""
    return ChannelValues(np.minimum(a.low, b.low), np.maximum(a.high, b.high), a.mean + b.mean)
