"""What ops that only move elements do to a tensor."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgeqwt.graph.graph import Array, Graph


def order_of(graph: Graph, source: int, chain: Iterable[int]) -> Array:
    """Where each element of a chain's result comes from: flat indices into the source, of the result's shape.

    Args:
        graph: any.
        source: the tensor that the first op reads.
        chain: ops that follow one another: TRANSPOSE by a constant, or others that keep the order of elements.
    """
    tensor = graph.tensors[source]
    order: Array = np.arange(tensor.size).reshape(tensor.shape)
    for i in chain:
        op = graph.ops[i]
        axes = graph.tensors[op.inputs[1]].data if op.kind == "TRANSPOSE" else None
        order = order.reshape(graph.tensors[op.outputs[0]].shape) if axes is None else order.transpose(axes.tolist())
    return order
