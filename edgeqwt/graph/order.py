"""Ops of a file in an order in which they can run.

The format asks for one, and not every writer keeps to it: onnx2tf 2.6.9 puts a slice or a product of a tensor before
the convolution that computes that tensor. LiteRT's own kernels run ops as they are written, and read what happens to
lie where nothing was written yet; XNNPACK sorts them, so that the same file gives two results (measured with 2.1).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from edgeqwt.graph.graph import Op, Tensor

STATEFUL = frozenset({"CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CUSTOM", "IF", "WHILE", "CALL"})
"""Ops that may read or write more than their tensors: they stay in the order in which they were written."""


def in_order(ops: Sequence[Op], tensors: Sequence[Tensor], inputs: Sequence[int]) -> tuple[int, ...]:
    """The indices of a subgraph's ops in an order in which every tensor is written before it is read.

    Of all such orders the one closest to the order as written: always the first op that can run (Kahn 1962, with a
    heap). An order that is valid stays, and so does one that cannot be repaired: where ops wait for each other or for a
    tensor that nothing writes, or two write the same tensor.

    Args:
        ops: of one subgraph, as written.
        tensors: the subgraph's.
        inputs: the subgraph's.
    """
    as_written = tuple(range(len(ops)))
    variables = {t for t, tensor in enumerate(tensors) if tensor.is_variable}
    have = {*inputs, *variables, -1} | {t for t, tensor in enumerate(tensors) if tensor.is_constant}
    writers = {t: i for i, op in enumerate(ops) for t in op.outputs}
    if len(writers) != sum(len(op.outputs) for op in ops):
        return as_written
    last, before = dict[int, int](), list[set[int]]()
    for i, op in enumerate(ops):
        needed = {t for t in op.inputs if t not in have}
        if not needed <= writers.keys():
            return as_written
        touched = {*op.inputs} & variables | ({-1} if op.kind in STATEFUL or not op.outputs else set())
        before.append({writers[t] for t in needed} | {last[t] for t in touched if t in last})
        last |= dict.fromkeys(touched, i)
    found = _sorted(before)
    return found if len(found) == len(ops) else as_written


def unwritten(
    ops: Sequence[Op], tensors: Sequence[Tensor], inputs: Sequence[int], outputs: Sequence[int]
) -> tuple[int, ...]:
    """Tensors that ops read, or that are outputs, and that never get a value; in the order in which they are read."""
    written = {*inputs, *(t for op in ops for t in op.outputs)}
    wanted = (*(t for op in ops for t in op.inputs), *outputs)
    read = dict.fromkeys(t for t in wanted if 0 <= t < len(tensors) and t not in written)
    return tuple(t for t in read if not tensors[t].is_constant and not tensors[t].is_variable)


def moved(ops: Sequence[Op], tensors: Sequence[Tensor], order: Sequence[int]) -> tuple[str, ...]:
    """A sentence on the ops that stood before what they read; none where all were in order."""
    writers = {t: i for i, op in enumerate(ops) for t in op.outputs}
    early = [i for i, op in enumerate(ops) if any(writers.get(t, -1) >= i for t in op.inputs)]
    if not early or list(order) == sorted(order):
        return ()
    op = ops[early[0]]
    late = next(t for t in op.inputs if writers.get(t, -1) >= early[0])
    more = f", as {len(early) - 1} more ops did" if len(early) > 1 else ""
    return (
        f"{op.kind} #{early[0]} read {tensors[late].name!r} before anything wrote it{more}: the ops were put in order. "
        "LiteRT's own kernels, which run ops as they are written, would compute something else of the file as it was.",
    )


def _sorted(before: Sequence[set[int]]) -> tuple[int, ...]:
    """Indices, each after those that it waits for, the smallest first; none where some wait in a circle."""
    sorter = TopologicalSorter(dict(enumerate(before)))
    try:
        sorter.prepare()
    except CycleError:
        return ()
    found, ready = list[int](), list[int]()
    while sorter.is_active():
        for i in sorter.get_ready():
            heapq.heappush(ready, i)
        found.append(heapq.heappop(ready))
        sorter.done(found[-1])
    return tuple(found)
