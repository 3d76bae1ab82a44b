"""LayerNorm behind a residual stream without its mean: what writes to the stream leaves none (pre-norm networks).

LayerNorm sees x - mean(x) over the channels. If each summand of x is linear in its inputs, its own mean over the
channels can be taken out of its weights beforehand: W - mean over rows of W, b - mean of b. Then mean(x) is 0, MEAN
and SUB go, and what is left is RMS normalization (Ashkboos et al. 2024, SliceGPT, section 3.1). Nothing else may see
the mean: whatever reads the stream must subtract it, or hand it on to what does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op
from edgeqwt.graph.linear import slots
from edgeqwt.prepare.constants import LARGEST_GROWTH
from edgeqwt.prepare.layer_norm import long_axes
from edgeqwt.prepare.rewriting import constant, uses, value

WRITERS = ("FULLY_CONNECTED", "CONV_2D", "TRANSPOSE_CONV")  # each output channel has weights of its own for all inputs


@dataclass(frozen=True, eq=False)
class _Stream:
    """Tensors that are sums of the same summands, moved about.

    Attributes:
        constants: summands; their last axis holds the channels.
        writers: linear ops that make summands.
        carriers: ops that add and move summands.
        norms: SUB op index -> MEAN op index, of what subtracts the mean.
    """

    constants: frozenset[int]
    writers: frozenset[int]
    carriers: frozenset[int]
    norms: Mapping[int, int]


def center(graph: Graph) -> tuple[Graph, list[str]]:
    """Takes the means out of the first stream whose readers all subtract it; names its norms."""
    norms = _subtractions(graph)
    for x in dict.fromkeys(graph.ops[sub].inputs[0] for sub in norms):
        stream = _stream(graph, x, norms)
        if stream is not None and not _grows(graph, stream):
            return _centered(graph, stream), [graph.tensors[graph.ops[sub].outputs[0]].name for sub in stream.norms]
    return graph, []


def mean_subtractions(graph: Graph) -> dict[int, int]:
    """x - mean(x) over the last axis: SUB op index -> MEAN op index; who else reads them is not looked at."""
    found, producers = dict[int, int](), uses(graph).producers
    for i, op in enumerate(graph.ops):
        mean = producers.get(op.inputs[1], -1) if op.kind == "SUB" and op.activation == "NONE" else -1
        if mean < 0 or graph.ops[mean].kind != "MEAN" or graph.ops[mean].inputs[0] != op.inputs[0]:
            continue
        x, m = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
        axes = value(graph, graph.ops[mean].inputs[1])
        last = axes is not None and long_axes(x.shape, axes) == {len(x.shape) - 1}
        if last and x.is_float and m.shape == (*x.shape[:-1], 1):
            found[i] = mean
    return found


def _subtractions(graph: Graph) -> dict[int, int]:
    """Those whose means have no other use, and whose results the caller does not read."""
    seen = uses(graph)
    found = {
        sub: mean
        for sub, mean in mean_subtractions(graph).items()
        if seen.named.isdisjoint((graph.ops[sub].inputs[1], graph.ops[sub].outputs[0]))
    }
    return {
        sub: mean
        for sub, mean in found.items()
        if all(found.get(r) == mean for r in seen.readers[graph.ops[mean].outputs[0]])
    }


def _stream(graph: Graph, start: int, norms: Mapping[int, int]) -> _Stream | None:
    """The stream that a tensor belongs to; None if something writes a mean to it that stays, or reads its mean."""
    known, channels = uses(graph), graph.tensors[start].shape[-1]
    constants, writers, carriers, used = set[int](), set[int](), set[int](), dict[int, int]()
    queue, seen = [start], {start}
    while queue:
        t = queue.pop()
        tensor = graph.tensors[t]
        if not tensor.is_float or tensor.shape[-1:] != (channels,) or t in known.named:
            return None
        if tensor.is_constant:
            constants.add(t)
            continue
        touching = known.readers.get(t, [])
        if t not in known.producers:
            return None
        if _writes(graph, graph.ops[known.producers[t]]):
            writers.add(known.producers[t])
        else:
            touching = [known.producers[t], *touching]
        for i in touching:
            if i in norms:
                used[i] = norms[i]
                continue
            carried = () if i in norms.values() else _carried(graph, graph.ops[i], t)
            if carried is None:
                return None
            if carried:
                carriers.add(i)
            queue += [u for u in dict.fromkeys(carried) if u not in seen]
            seen.update(carried)
    return _Stream(frozenset(constants), frozenset(writers), frozenset(carriers), used)


def _writes(graph: Graph, op: Op) -> bool:
    """Whether an op is linear with constants that can be centered."""
    if op.kind not in WRITERS or op.activation != "NONE":
        return False
    s = slots(op)
    held = [value(graph, t) for t in (s.weight, s.bias) if t >= 0]
    return all(data is not None and data.dtype == np.float32 for data in held)


Carried = Callable[[Graph, Op], tuple[int, ...] | None]
"""The tensors whose rows over the last axis an op adds or moves as wholes; None if it does something else."""


def _carried(graph: Graph, op: Op, t: int) -> tuple[int, ...] | None:
    """What belongs to a tensor's stream by an op that reads or writes it."""
    rule = CARRIERS.get(op.kind)
    data = rule(graph, op) if rule is not None and op.activation == "NONE" else None
    if data is None or t not in (*data, *op.outputs):
        return None
    return (*data, *op.outputs)


def _summed(graph: Graph, op: Op) -> tuple[int, ...] | None:
    return op.inputs


def _moved(graph: Graph, op: Op) -> tuple[int, ...] | None:
    """Rows stay whole where the last axis keeps its length: these ops keep the order of values."""
    return op.inputs[:1]


def _transposed(graph: Graph, op: Op) -> tuple[int, ...] | None:
    order = value(graph, op.inputs[1])
    return op.inputs[:1] if order is not None and int(order[-1]) == order.size - 1 else None


def _sliced(graph: Graph, op: Op) -> tuple[int, ...] | None:
    """A slice as long as the last axis is all of it, unless indices take axes away or add some."""
    rank, dropped = len(graph.tensors[op.inputs[0]].shape), int(op.options.get("shrinkAxisMask", 0))
    renamed = op.options.get("ellipsisMask") or op.options.get("newAxisMask") or dropped >> (rank - 1) & 1
    return None if renamed else op.inputs[:1]


def _joined(graph: Graph, op: Op) -> tuple[int, ...] | None:
    rank = len(graph.tensors[op.outputs[0]].shape)
    return None if int(op.options["axis"]) % rank == rank - 1 else op.inputs


def _gathered(graph: Graph, op: Op) -> tuple[int, ...] | None:
    rank = len(graph.tensors[op.inputs[0]].shape)
    return None if int(op.options.get("axis", 0)) % rank == rank - 1 else op.inputs[:1]


def _averaged(graph: Graph, op: Op) -> tuple[int, ...] | None:
    axes, rank = value(graph, op.inputs[1]), len(graph.tensors[op.inputs[0]].shape)
    return None if axes is None or (rank - 1 in axes.reshape(-1) % rank) else op.inputs[:1]


def _scaled(graph: Graph, op: Op) -> tuple[int, ...] | None:
    """One factor for a whole row, or for all."""
    rows = [t for t in op.inputs if graph.tensors[t].shape[-1:] == graph.tensors[op.outputs[0]].shape[-1:]]
    factors = [t for t in op.inputs if graph.tensors[t].shape[-1:] in ((), (1,))]
    return tuple(rows) if len(rows) == len(factors) == 1 else None


CARRIERS: Mapping[str, Carried] = MappingProxyType(
    {
        **dict.fromkeys(("ADD", "SUB"), _summed),
        **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "SPLIT_V"), _moved),
        "SPLIT": lambda graph, op: op.inputs[1:],
        "TRANSPOSE": _transposed,
        "STRIDED_SLICE": _sliced,
        **dict.fromkeys(("CONCATENATION", "PACK"), _joined),
        "GATHER": _gathered,
        "MEAN": _averaged,
        "MUL": _scaled,
    }
)
"""What may stand between a summand and a norm; each needs outputs with as many channels as its inputs."""


def _grows(graph: Graph, stream: _Stream) -> bool:
    """Whether constants that others read too, and that the file would hold twice, are large."""
    inside = stream.writers | stream.carriers
    held = {*stream.constants, *(t for i in stream.writers for t in _held(graph.ops[i]))}
    readers = uses(graph).readers
    return any(4 * graph.tensors[t].size > LARGEST_GROWTH for t in held if not inside.issuperset(readers[t]))


def _held(op: Op) -> list[int]:
    s = slots(op)
    return [t for t in (s.weight, s.bias) if t >= 0]


def _centered(graph: Graph, stream: _Stream) -> Graph:
    """The graph with centered constants and without the stream's subtractions."""
    editor, made = Editor(graph), dict[tuple[int, int], int]()

    def without_mean(t: int, axis: int) -> int:
        data = graph.tensors[t].stored
        if (t, axis) not in made:
            made[t, axis] = constant(editor, graph.tensors[t].name, _without_mean(data, axis))
        return made[t, axis]

    unchanged = {graph.ops[sub].outputs[0]: graph.ops[sub].inputs[0] for sub in stream.norms}
    gone = {*stream.norms, *stream.norms.values()}
    for i, op in enumerate(graph.ops):
        if i in gone:
            continue
        inputs = [unchanged.get(t, t) for t in op.inputs]
        if i in stream.writers:
            axes = {slots(op).weight: slots(op).axis, slots(op).bias: 0}
            inputs = [without_mean(t, axes[t]) if t in axes and t >= 0 else t for t in inputs]
        elif i in stream.carriers:
            inputs = [without_mean(t, -1) if t in stream.constants else t for t in inputs]
        editor.add_op(replace(op, inputs=tuple(inputs)))
    return editor.finish()


def _without_mean(data: Array, axis: int) -> Array:
    exact = data.astype(np.float64)
    return np.asarray(exact - exact.mean(axis=axis, keepdims=True)).astype(np.float32)
