"""Linear layers as matrix products on some of the float network's real inputs, for searches that try many scales."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.im2col import PATCHED, matrix, patches
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import activate
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.scales.importance import every
from edgeqwt.scales.scales import Gradients, Sample

POSITIONS = 64  # of one sample, about: neighbours say nearly the same


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear op on sampled positions.

    Attributes:
        op: index of the float op.
        x: its input rows, float32, shape (groups, positions, terms).
        weights: shape (groups, channels / groups, terms).
        bias: shape (channels,).
        activation: the fused one.
        importance: of the squared errors of its output, float32, shape (positions, channels).
    """

    op: int
    x: Array
    weights: Array
    bias: Array
    activation: str
    importance: Array

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.weights.shape[0] * self.weights.shape[1])

    def output(self, x: Array, weights: Array) -> Array:
        """The activated output for other inputs and weights of the same shapes, shape (positions, channels)."""
        product = np.matmul(x, weights.transpose(0, 2, 1)).transpose(1, 0, 2)
        return activate(product.reshape(len(product), -1) + self.bias, self.activation)


def searchable(graph: Graph) -> list[int]:
    """Ops that are matrix products with constant weights of their own."""
    readers = graph.consumers()
    return [
        i
        for i, op in enumerate(graph.ops)
        if op.kind in PATCHED
        and graph.tensors[slots(op).weight].is_constant
        and graph.tensors[slots(op).weight].is_float
        and readers[slots(op).weight] == [i]
    ]


class LayerRows:
    """Rows of several layers' inputs, and the importance of their outputs' errors, kept on disk.

    Args:
        graph: float.
        ops: of `searchable`.
        samples: inputs by tensor index; read once.
        gradients: of the loss at the ops' outputs; without them every error counts alike.
        store: where rows wait.
    """

    def __init__(
        self,
        graph: Graph,
        ops: Sequence[int],
        samples: Iterable[Sample],
        gradients: Gradients | None,
        store: ActivationStore,
    ) -> None:
        self.graph, self.store, self.count = graph, store, 0
        self.weighted = gradients is not None
        self.shapes: dict[int, tuple[int, ...]] = {}
        for i in ops:
            store.open(("input", i))
            store.open(("importance", i))
        taps = sorted({slots(graph.ops[i]).data for i in ops})

        def work(runner: Runner, inputs: Sample) -> tuple[dict[int, Array], Mapping[int, Array]]:
            values = {**inputs, **runner.run(inputs)}
            return {i: self._rows(graph.ops[i], values) for i in ops}, inputs

        for rows, inputs in ordered([xnnpack(graph, taps) for _ in range(THREADS)], work, samples):
            slopes = {} if gradients is None else gradients(inputs)
            for i, x in rows.items():
                store.put(("input", i), self.count, x[None])
                self.shapes[i] = x.shape
                out = slots(graph.ops[i]).output
                if self.weighted:
                    store.put(("importance", i), self.count, self._importance(graph.ops[i], slopes[out])[None])
            self.count += 1

    def layer(self, i: int) -> Layer:
        """One layer on all samples."""
        op, s = self.graph.ops[i], slots(self.graph.ops[i])
        weights = self.graph.tensors[s.weight].stored
        groups, positions, terms = self.shapes[i]
        x = self.store.get(("input", i), 0, self.count, self.shapes[i], np.dtype(np.float32))
        matrices = matrix(op.kind, weights.astype(np.float32), groups)
        channels = matrices.shape[0] * matrices.shape[1]
        bias = self.graph.tensors[s.bias].data if s.bias >= 0 else None
        importance: Array = np.ones((1, 1), np.float32)
        if self.weighted:
            shape = positions, channels
            importance = self.store.get(("importance", i), 0, self.count, shape, np.dtype(np.float32))
            importance = importance.reshape(-1, channels)
        rows = np.ascontiguousarray(x.transpose(1, 0, 2, 3)).reshape(groups, -1, terms)
        return Layer(i, rows, matrices, np.zeros(channels) if bias is None else bias, op.activation, importance)

    def _rows(self, op: Op, values: Mapping[int, Array]) -> Array:
        x, shape = values[slots(op).data], self.graph.tensors[slots(op).weight].shape
        return patches(op, x, shape, every(self.graph, op, POSITIONS)).astype(np.float32)

    def _importance(self, op: Op, slope: Array) -> Array:
        """Squared gradients at the positions of the rows, shape (positions, channels)."""
        step = every(self.graph, op, POSITIONS)
        taken = slope if op.kind == "FULLY_CONNECTED" else slope[:, ::step, ::step]
        return np.square(taken.reshape(-1, slope.shape[-1])).astype(np.float32)
