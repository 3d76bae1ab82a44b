"""Tensors of a converted file that ops read and nothing writes: what they should hold is written.

onnx2tf 2.6.9 takes the TRANSPOSE away that brings a convolution's output back to the source's layout, and leaves the
slice or the product that reads what it wrote. The value is still in the file, in the other layout. It is found by
value, as everything else about a conversion is (`trace`): on one sample, the open end must hold what the source has
under its name; the tensor of the file that holds the same numbers takes its place, through a TRANSPOSE. Whether that
is right for all samples is for the parity gate to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations, product
from pathlib import Path

import numpy as np

from edgeqwt.converters.binding import layouts
from edgeqwt.converters.onnx2tf_tool import spelled
from edgeqwt.converters.trace import MATCH, statistics
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import DTYPES, Array, Graph, Op, Tensor
from edgeqwt.graph.order import in_order
from edgeqwt.runtime.runners import xnnpack

TRIED = 16  # combinations of the inputs' layouts, where their shapes leave several open
RANK = 6  # of the largest tensor that LiteRT's TRANSPOSE takes


def read(path: Path, values: Callable[[], Mapping[str, Array]], named: Mapping[str, Sequence[str]]) -> Graph:
    """The model in a converted file, with its open ends computed where it has any.

    Args:
        path: of the file.
        values: see `closed`; asked for where there are open ends only.
        named: see `closed`.

    Raises:
        InputError: as `flatbuffer.read`, where an open end cannot be closed too.
    """
    graph, own = flatbuffer.read_open(path)
    if len(graph.inputs) > own:
        graph = closed(graph, own, values(), named)
    return graph if len(graph.inputs) == own else flatbuffer.read(path)


def closed(graph: Graph, own: int, values: Mapping[str, Array], named: Mapping[str, Sequence[str]]) -> Graph:
    """The graph with its open ends computed; with those that cannot be, as they are, still among its inputs.

    Args:
        graph: its open ends are inputs behind its own (`flatbuffer.from_bytes`).
        own: how many inputs are its own.
        values: of the source on one sample, by the source's names; its inputs too.
        named: the converter's records: graph tensor name to names of the source's.
    """
    ends, spelt = graph.inputs[own:], {spelled(name): value for name, value in values.items()}
    wanted = {t: options[-1] for t in ends if (options := _expected(graph.tensors[t], spelt, named))}
    fed = [_expected(graph.tensors[t], spelt, named) for t in graph.inputs[:own]]
    if len(wanted) < len(ends) or not all(fed):
        return graph
    runner, best = xnnpack(graph, [t for op in graph.ops for t in op.outputs]), dict[int, _Source]()
    for choice in islice(product(*fed), TRIED):
        given = dict(zip(graph.inputs, choice, strict=False))
        computed = {**runner.run({**given, **wanted}), **given}
        sources = {t: _found(computed, wanted[t]) for t in ends}
        best = max(best, {t: found for t, found in sources.items() if found is not None}, key=len)
        if len(best) == len(ends):
            break
    return _with_transposes(graph, own, best)


@dataclass(frozen=True)
class _Source:
    """A tensor, and the axes that give the open end when it is transposed by them."""

    tensor: int
    axes: tuple[int, ...]


def _expected(tensor: Tensor, values: Mapping[str, Array], named: Mapping[str, Sequence[str]]) -> list[Array]:
    """What the source has under a tensor's name, in the tensor's type and in every layout of its shape.

    The layout of the source itself comes last: open ends have it, since that is how they were lost.
    """
    for name in (tensor.name, *reversed(named.get(tensor.name, ()))):
        value = values.get(name)
        if value is None or value.size != tensor.size:
            continue
        ways = sorted(layouts(value.shape, tensor.shape), key=lambda way: way is None)
        moved = [value if way is None else value.transpose(way) for way in ways]
        return [np.ascontiguousarray(m.reshape(tensor.shape), DTYPES[tensor.dtype]) for m in moved]
    return []


def _found(computed: Mapping[int, Array], wanted: Array) -> _Source | None:
    """The tensor with the same numbers; of several, the nearest, and of those the first."""
    found: list[tuple[float, _Source]] = []
    largest = max(float(np.abs(wanted.astype(np.float64)).max(initial=0)), 1e-30)
    for t, value in computed.items():
        if value.dtype != wanted.dtype or sorted(value.shape) != sorted(wanted.shape) or value.ndim > RANK:
            continue
        if not np.abs(statistics(value) - statistics(wanted)).max() <= MATCH * largest:
            continue
        for axes in _axes(value.shape, wanted.shape):
            error = float(np.abs(value.transpose(axes).astype(np.float64) - wanted).max(initial=0)) / largest
            if error <= MATCH:
                found.append((error, _Source(t, axes)))
    return min(found, key=lambda pair: pair[0], default=(0.0, None))[1]


def _axes(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return (axes for axes in permutations(range(len(shape))) if tuple(shape[a] for a in axes) == wanted)


def _with_transposes(graph: Graph, own: int, sources: Mapping[int, _Source]) -> Graph:
    tensors, behind = list(graph.tensors), dict[int, list[Op]]()
    for t, source in sources.items():
        axes = np.array(source.axes, np.int32)
        tensors.append(Tensor(f"{graph.tensors[t].name}/axes", axes.shape, "int32", axes))
        behind.setdefault(source.tensor, []).append(Op("TRANSPOSE", (source.tensor, len(tensors) - 1), (t,)))
    ops = [op for t in graph.inputs for op in behind.get(t, ())]
    for op in graph.ops:
        ops += [op, *(added for t in op.outputs for added in behind.get(t, ()))]
    left = (*graph.inputs[:own], *(t for t in graph.inputs[own:] if t not in sources))
    order = in_order(ops, tensors, left)
    return replace(
        graph,
        tensors=tuple(tensors),
        ops=tuple(ops[i] for i in order),
        inputs=left,
        remarks=(*graph.remarks, *_remarks(graph, sources)),
    )


def _remarks(graph: Graph, sources: Mapping[int, _Source]) -> Iterator[str]:
    for t, source in list(sources.items())[:1]:
        name, where = graph.tensors[t].name, graph.tensors[source.tensor].name
        more = f", and as much for {len(sources) - 1} more tensors" if len(sources) > 1 else ""
        yield (
            f"onnx2tf left out what computes {name!r}: it is {where!r} in another layout, and got a TRANSPOSE from "
            f"there{more}"
        )
