"""How much memory gradients take: known before torch is loaded for them."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.device import MOST

BATCH = 16  # samples in memory at a time, at most
BYTES = 24  # of each: itself, what its gradient needs, the gradient, and its square in float64
TORCH = 490 << 20  # that loading torch takes: 2.13 with CUDA's libraries
ELEMENTS = 2**23
"""Of activations in memory at a time, at most, or one sample's; gradients and what they need take several times as
much."""


def memory(graph: Graph) -> int:
    """Bytes that gradients of a batch of samples take, about."""
    one = activations(graph)
    return to_load() + MOST * BYTES * max(one, min(BATCH * one, ELEMENTS))


def to_load() -> int:
    """Bytes that torch takes when gradients are first asked for; 0 where it is loaded already, or missing."""
    return TORCH if "torch" not in sys.modules and find_spec("torch") is not None else 0


def activations(graph: Graph) -> int:
    """Real values that the ops of a graph compute of one sample."""
    return sum(graph.tensors[t].size for op in graph.ops for t in op.outputs if graph.tensors[t].is_float)
