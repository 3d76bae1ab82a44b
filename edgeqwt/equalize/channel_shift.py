"""Shift channels that lie far from each other to zero, function unchanged.

One scale has to reach over all channels of a tensor. Where each channel keeps near a value of its own, most of the
range is the distance between these values: Outlier Suppression+ (Wei et al. 2023, eq. 2) subtracts a constant per
channel where it is computed, and adds W times it to the biases of the layers that read it. RepQ-ViT (Li et al. 2023,
section 3.2) does so behind LayerNorm by beta. Here it is done wherever constants can take it (`equalize.shifts`), in
whole residual groups. The paper takes the middle of each channel's extremes, here it is the mean: the mean of a sum
is the sum of the means, so that all tensors of a group are centered at once.

In attention it gains more than range: the integers of a softmax's row do not sum to 1 exactly, and what they are off
by multiplies what is common to all values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.equalize.channel_values import channel_values
from edgeqwt.equalize.shifts import carried, sources, with_constants
from edgeqwt.graph.graph import Array, Graph


@dataclass(frozen=True, eq=False)
class Group:
    """Tensors that are shifted together.

    Attributes:
        means: of the channels of the tensors that are given shifts, float32, shape (channels,), by tensor index.
        tensors: these and all that follow.
    """

    means: Mapping[int, Array]
    tensors: frozenset[int]


def groups(graph: Graph, samples: Iterable[Mapping[int, Array]]) -> tuple[Group, ...]:
    """All groups of tensors that may be shifted, with the shifts that center their channels.

    Args:
        graph: float, lowerable.
        samples: inputs by tensor index; read once.
    """
    reached = {t: reach for t in sources(graph) if (reach := _reached(graph, t))}
    if not reached:
        return ()
    values = channel_values(graph, tuple(reached), samples)
    means = {t: found.mean.astype(np.float32) for t, found in values.items()}
    return tuple(Group({t: means[t] for t in members}, tensors) for members, tensors in _together(reached))


def shifted(graph: Graph, chosen: Iterable[Group]) -> Graph:
    """The graph with some groups shifted, the same function up to float32's rounding; all indices stay."""
    means, ops = {t: mean for group in chosen for t, mean in group.means.items()}, sources(graph)
    found = carried(graph, {t: _spread(graph, t, mean) for t, mean in means.items()})
    assert found is not None  # each alone is taken up, and all that shifts pass is linear
    changes = dict(found.taken)
    for t, mean in means.items():
        changes[ops[t]] = changes.get(ops[t], 0) - mean.astype(np.float64)
    return with_constants(graph, changes)


def _reached(graph: Graph, source: int) -> frozenset[int]:
    """The tensors that a shift of one comes to; none where it is forbidden."""
    shape = graph.tensors[source].shape
    if len(shape) < 2 or shape[-1] < 2:
        return frozenset()
    # Equal shifts, or such that sum to zero, might pass where others do not.
    some = np.random.default_rng(0).uniform(1, 2, shape[-1]).astype(np.float32)
    found = carried(graph, {source: _spread(graph, source, some)})
    return frozenset() if found is None else frozenset(found.of)


def _spread(graph: Graph, t: int, by_channel: Array) -> Array:
    return np.broadcast_to(by_channel, graph.tensors[t].shape)


def _together(reached: Mapping[int, frozenset[int]]) -> list[tuple[frozenset[int], frozenset[int]]]:
    """Sources whose shifts come to tensors in common, and all tensors that these come to."""
    found = list[tuple[frozenset[int], frozenset[int]]]()
    for t, reach in reached.items():
        touched = [group for group in found if group[1] & reach]
        members = frozenset({t}).union(*(g[0] for g in touched))
        found = [g for g in found if g not in touched] + [(members, reach.union(*(g[1] for g in touched)))]
    return found
