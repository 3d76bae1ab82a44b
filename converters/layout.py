"""Transposes at a file's ends, taken into its interface.

litert-torch keeps a source's layout at inputs and outputs: images come in channels first, and a TRANSPOSE moves the
channels to the end, where TFLite's kernels want them. On a device that is a copy for nothing: there the camera's
picture has its channels last already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeqwt.converted import Binding
from edgeqwt.graph.graph import Editor, Graph, Op

Moved = Mapping[int, tuple[int, ...]]
"""Tensor index to the axes such that its array = the source's array transposed by them."""


def without_transposes(graph: Graph) -> tuple[Graph, Moved, Moved]:
    """The graph without TRANSPOSE ops of its inputs and outputs that move the channels.

    Returns:
        The graph; of its inputs, and of its outputs, those that are in another layout now.
    """
    graph, inputs = _at_inputs(graph)
    graph, outputs = _at_outputs(graph)
    return graph, {graph.inputs[k]: p for k, p in inputs.items()}, {graph.outputs[k]: p for k, p in outputs.items()}


def named_as_in_source(graph: Graph, bindings: Sequence[Binding]) -> Graph:
    """The graph with its inputs and outputs called as in the source, where nothing else is called so."""
    taken = {tensor.name for tensor in graph.tensors}
    new = {b.tensor: b.spec.name for b in bindings if b.spec.name not in taken}
    if len(set(new.values())) < len(new):  # an input and an output of one name
        return graph
    changed = graph.with_tensors({t: replace(graph.tensors[t], name=name) for t, name in new.items()})
    signatures = tuple(
        replace(
            s,
            inputs=tuple((new.get(t, name), t) for name, t in s.inputs),
            outputs=tuple((new.get(t, name), t) for name, t in s.outputs),
        )
        for s in graph.signatures
    )
    return replace(changed, signatures=signatures)


def named_after_locations(graph: Graph, locations: Mapping[str, str]) -> tuple[Graph, dict[str, str]]:
    """The graph with what ops compute named after its location in the source, and the locations by new names.

    litert-torch's own names spell out the class of every module around an op. Inputs and outputs keep theirs.
    """
    ends = {*graph.inputs, *graph.outputs}
    computed = [t for op in graph.ops for t in op.outputs if t not in ends and graph.tensors[t].name in locations]
    taken = Counter(tensor.name for t, tensor in enumerate(graph.tensors) if t not in computed)
    new: dict[int, str] = {}
    for t in computed:
        base = locations[graph.tensors[t].name].partition(" (")[0]
        name, k = base, 1
        while taken[name]:
            name, k = f"{base}_{k}", k + 1
        taken[name] += 1
        new[t] = name
    kept = {graph.tensors[t].name for t in graph.outputs}
    where = {name: location for name, location in locations.items() if name in kept}
    where |= {name: locations[graph.tensors[t].name] for t, name in new.items()}
    return graph.with_tensors({t: replace(graph.tensors[t], name=name) for t, name in new.items()}), where


def _at_inputs(graph: Graph) -> tuple[Graph, dict[int, tuple[int, ...]]]:
    readers, editor = graph.consumers(), Editor(graph)
    moved: dict[int, tuple[int, ...]] = {}
    replaced: dict[int, int] = {}
    for k, t in enumerate(graph.inputs):
        ops = [graph.ops[i] for i in readers.get(t, [])]
        orders = {_channels_last(graph, op) for op in ops}
        results = [op.outputs[0] for op in ops]
        if len(orders) != 1 or t in graph.outputs or any(r in graph.outputs for r in results):
            continue
        [order] = orders
        if order is not None:
            editor.tensors[t] = replace(graph.tensors[t], shape=graph.tensors[results[0]].shape)
            moved[k] = order
            replaced |= dict.fromkeys(results, t)
    for op in graph.ops:
        if op.outputs[0] not in replaced:
            editor.add_op(replace(op, inputs=tuple(replaced.get(t, t) for t in op.inputs)))
    return (editor.finish(), moved) if moved else (graph, {})


def _at_outputs(graph: Graph) -> tuple[Graph, dict[int, tuple[int, ...]]]:
    readers, writers, editor = graph.consumers(), graph.producers(), Editor(graph)
    outputs, moved, gone = list(graph.outputs), {}, set()
    for k, t in enumerate(graph.outputs):
        i = writers.get(t)
        if i is None or readers.get(t) or graph.outputs.count(t) > 1:
            continue
        order, source = _order(graph, graph.ops[i]), graph.ops[i].inputs[0]
        rank = len(graph.tensors[t].shape)
        if order != (0, rank - 1, *range(1, rank - 1)) or rank < 3:
            continue
        if source in graph.inputs or source in outputs or source not in writers:
            continue
        outputs[k], moved[k] = source, tuple(int(a) for a in np.argsort(order))
        gone.add(i)
    for i, op in enumerate(graph.ops):
        if i not in gone:
            editor.add_op(op)
    return (editor.finish(outputs=outputs), moved) if moved else (graph, {})


def _channels_last(graph: Graph, op: Op) -> tuple[int, ...] | None:
    """The order of an op that moves axis 1 to the end, None for every other op."""
    order = _order(graph, op)
    return order if order is not None and len(order) > 2 and order == (0, *range(2, len(order)), 1) else None


def _order(graph: Graph, op: Op) -> tuple[int, ...] | None:
    data = graph.tensors[op.inputs[1]].data if op.kind == "TRANSPOSE" else None
    return None if data is None else tuple(int(a) for a in data.ravel())
