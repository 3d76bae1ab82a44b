"""Let the next layer's bias take what a channel never falls below (Nagel et al. 2019, section 4.1.3).

A channel whose values before a RELU are never below c > 0 is stored as x - c, and W c goes into the bias of
whatever reads it: relu(z) - c = relu(z - c) and W (x - c) + (b + W c) = W x + b. The function is the same on every
input on which the channel stays above c; elsewhere x is as if it were c. What is gained is range: the largest channel
decides the scale of all, and high biases make large channels (the paper: after equalization, above all).

The paper takes c = mean - 3 standard deviations from batch normalization. Here c is what the channel stays above on
samples, less a share of how far it moves there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.patches import PATCHED, matrix, patches
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, reference, xnnpack

MOVING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE")
POOLING = ("MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D")  # within channels, where a shift of the whole channel passes


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
    sources = {t: i for t, i in _sources(graph).items() if _taken_up(graph, t, np.ones(graph.tensors[t].shape))}
    if not sources:
        return Absorbed(graph, 0)
    lows, highs = _extremes(graph, tuple(sources), samples)
    changes: dict[int, Array] = {}
    shifted = 0
    for t, i in sources.items():
        shift = np.maximum(lows[t] - margin * (highs[t] - lows[t]), 0)
        taken = _taken_up(graph, t, np.broadcast_to(shift, graph.tensors[t].shape)) if shift.any() else None
        if taken is not None:
            shifted += int((shift > 0).sum())
            for op, change in [(i, -shift), *taken.items()]:
                changes[op] = changes.get(op, 0) + change
    return Absorbed(_with_biases(graph, changes), shifted) if changes else Absorbed(graph, 0)


def _sources(graph: Graph) -> dict[int, int]:
    """Outputs of RELUs right behind linear ops, and those ops, whose biases can take a shift."""
    readers, found = graph.consumers(), {}
    for i, op in enumerate(graph.ops):
        if not is_linear(op) or not _constant_bias(graph, op):
            continue
        t, after = slots(op).output, readers.get(slots(op).output, [])
        if op.activation == "RELU":
            found[t] = i
        elif op.activation == "NONE" and len(after) == 1 and graph.ops[after[0]].kind == "RELU":
            found |= {graph.ops[after[0]].outputs[0]: i} if t not in graph.outputs else {}
    return {t: i for t, i in found.items() if t not in graph.outputs}


def _taken_up(graph: Graph, t: int, shift: Array) -> dict[int, Array] | None:
    """What must be added to the biases of linear ops if a tensor is smaller by `shift`; None if that is not enough."""
    found: dict[int, Array] = {}
    if t in graph.outputs:
        return None
    for i in graph.consumers().get(t, []):
        op = graph.ops[i]
        if is_linear(op) and op.inputs.count(t) == 1 and slots(op).data == t:
            change = _weighted(graph, op, shift)
            if change is None:
                return None
            found[i] = found.get(i, 0) + change
        elif op.kind in MOVING or (
            op.kind in POOLING and op.activation == "NONE" and _pools_channels(graph, op, shift)
        ):
            for out, moved in _passed(graph, op, t, shift).items():
                further = _taken_up(graph, out, moved)
                if further is None:
                    return None
                for reader, change in further.items():
                    found[reader] = found.get(reader, 0) + change
        else:
            return None
    return found


def _weighted(graph: Graph, op: Op, shift: Array) -> Array | None:
    """A linear op's output for the shift alone, if it is one value per channel; None if not."""
    weights = graph.tensors[slots(op).weight].data
    if weights is None or op.kind not in PATCHED or not _constant_bias(graph, op):
        return None
    # Positions that read padding, which nobody shifts, have other rows.
    rows = patches(op, shift, weights.shape)
    if (rows != rows[:, :1]).any():
        return None
    columns = matrix(op.kind, weights.astype(np.float64), len(rows)).transpose(0, 2, 1)
    return np.asarray(np.matmul(rows[:, :1].astype(np.float64), columns).reshape(-1))


def _pools_channels(graph: Graph, op: Op, shift: Array) -> bool:
    """Whether the op takes each output from elements of one channel, all shifted alike."""
    rows = shift.reshape(-1, shift.shape[-1])
    return bool((rows == rows[0]).all()) and graph.tensors[op.outputs[0]].shape[-1] == shift.shape[-1]


def _passed(graph: Graph, op: Op, t: int, shift: Array) -> dict[int, Array]:
    """The shifts of an op's outputs."""
    piece = graph.slice([graph.ops.index(op)], [t], list(op.outputs))
    values = reference(piece).run({piece.inputs[0]: shift.astype(np.float32)})
    return {old: values[new] for old, new in zip(op.outputs, piece.outputs, strict=True)}


def _constant_bias(graph: Graph, op: Op) -> bool:
    bias = slots(op).bias
    return bias < 0 or graph.tensors[bias].is_constant


def _extremes(
    graph: Graph, tensors: tuple[int, ...], samples: Iterable[Mapping[int, Array]]
) -> tuple[dict[int, Array], dict[int, Array]]:
    """The smallest and the largest value of each channel; zeros without samples."""

    def work(runner: Runner, inputs: Mapping[int, Array]) -> dict[int, tuple[Array, Array]]:
        values = runner.run(inputs)
        flat = {t: values[t].reshape(-1, values[t].shape[-1]).astype(np.float64) for t in tensors}
        return {t: (rows.min(axis=0), rows.max(axis=0)) for t, rows in flat.items()}

    low: dict[int, Array] = {}
    high: dict[int, Array] = {}
    for found in ordered([xnnpack(graph, tensors) for _ in range(THREADS)], work, samples):
        for t, (least, most) in found.items():
            low[t], high[t] = np.minimum(low.get(t, least), least), np.maximum(high.get(t, most), most)
    zeros = {t: np.zeros(graph.tensors[t].shape[-1]) for t in tensors}
    return {**zeros, **low}, {**zeros, **high}


def _with_biases(graph: Graph, changes: Mapping[int, Array]) -> Graph:
    """The graph with something added to linear ops' biases, each of which becomes a tensor of its own."""
    tensors, ops = list(graph.tensors), list(graph.ops)
    readers = graph.consumers()
    for i, change in changes.items():
        op, s = ops[i], slots(ops[i])
        old = None if s.bias < 0 else tensors[s.bias].data
        data = ((0.0 if old is None else old.astype(np.float64)) + change).astype(np.float32)
        if s.bias >= 0 and readers[s.bias] == [i]:
            tensors[s.bias] = replace(tensors[s.bias], data=data)
            continue
        slot = RULES[op.kind].bias
        assert slot is not None
        inputs = [*op.inputs, *[-1] * (slot + 1 - len(op.inputs))]
        inputs[slot] = len(tensors)
        tensors.append(Tensor(f"{tensors[s.output].name}/absorbed", data.shape, "float32", data))
        ops[i] = replace(op, inputs=tuple(inputs))
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops))
