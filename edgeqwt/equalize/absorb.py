"""Let the next layer's bias take what a channel never falls below (Nagel et al. 2019, section 4.1.3).

A channel whose values before a RELU are never below c > 0 is stored as x - c, and W c goes into the bias of
whatever reads it: relu(z) - c = relu(z - c) and W (x - c) + (b + W c) = W x + b. The function is the same on every
input on which the channel stays above c; elsewhere x is as if it were c. What is gained is range: the largest channel
decides the scale of all, and high biases make large channels (the paper: after equalization, above all).

The paper takes c = mean - 3 standard deviations from batch normalization. Here c is what the channel stays above on
samples, less a share of how far it moves there. What reads a channel makes up for it as `equalize.shifts` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.equalize.channel_values import channel_values
from edgeqwt.equalize.shifts import carried, constant_bias, with_constants
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots


@dataclass(frozen=True, eq=False)
class Absorbed:
    """The graph with some channels shifted.

    Attributes:
        graph: the tensors of the old graph have their old indices; the same graph where nothing was done.
        channels: how many were shifted.
    """

    graph: Graph
    channels: int


def absorb(graph: Graph, samples: Iterable[Mapping[int, Array]], margin: float) -> Absorbed:
    """Shifts every channel that allows it.

    Args:
        graph: float, lowerable.
        samples: inputs by tensor index, of which a channel's smallest value is taken; read once.
        margin: how far below that the shift stays, as a share of the channel's span.
    """
    ones = {t: np.ones(graph.tensors[t].shape, np.float32) for t in _sources(graph)}
    sources = {t: i for t, i in _sources(graph).items() if carried(graph, {t: ones[t]}) is not None}
    if not sources:
        return Absorbed(graph, 0)
    values = channel_values(graph, tuple(sources), samples)
    changes: dict[int, Array] = {}
    shifted = 0
    for t, i in sources.items():
        shift = np.maximum(values[t].low - margin * (values[t].high - values[t].low), 0)
        found = carried(graph, {t: (shift * ones[t]).astype(np.float32)}) if shift.any() else None
        if found is not None:
            shifted += int((shift > 0).sum())
            for op, change in [(i, -shift), *found.taken.items()]:
                changes[op] = changes.get(op, 0) + change
    return Absorbed(with_constants(graph, changes), shifted) if changes else Absorbed(graph, 0)


def _sources(graph: Graph) -> dict[int, int]:
    """Outputs of RELUs right behind linear ops, and those ops, whose biases can take a shift."""
    readers, found = graph.consumers(), {}
    for i, op in enumerate(graph.ops):
        if not constant_bias(graph, op):
            continue
        t, after = slots(op).output, readers.get(slots(op).output, [])
        if op.activation == "RELU":
            found[t] = i
        elif op.activation == "NONE" and len(after) == 1 and graph.ops[after[0]].kind == "RELU":
            found |= {graph.ops[after[0]].outputs[0]: i} if t not in graph.outputs else {}
    return {t: i for t, i in found.items() if t not in graph.outputs}
