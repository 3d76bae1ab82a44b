"""Write normalizations over the channels so that each channel may have a factor of its own.

MEAN and SUB need one factor for all channels, and so does all that leads to them: behind a residual stream that ends
in a LayerNorm (BERT's, whose streams read a LayerNorm's output unnormalized and cannot be centered beforehand), the
few channels that are a hundred times as large as the others decide the step of all. A FULLY_CONNECTED to one output
with weights 1 / n takes the mean of channels whatever their factors, and a MUL by one constant per channel gives the
mean those of x again: k x - k mean(x). It costs one op, and as many multiplications as there are elements, per norm.

A mean of squares, written as the product of x and x / n, allows factors if what one side has the other divides by: one
of them is as uneven as the squares. As the product of x / sqrt(n) with itself it does not matter what x is multiplied
by: the MUL takes it up, and one op less is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.prepare.centering import mean_subtractions
from edgeqwt.prepare.rewriting import DENSE, NONE
from edgeqwt.widths.precision import Precision

SPREAD = "by_channel"  # how the new tensors' names end, behind the means'


@dataclass(frozen=True, eq=False)
class Opened:
    """A graph whose normalizations are rewritten.

    Attributes:
        graph: the same function; the tensors of the old graph have their old indices, and are all computed, some of
            them in vain.
        spread: the new activations, and the activations of the old graph that are of their kind: what they are
            subtracted from.
        squares: how many means of squares became the product of one tensor with itself.
    """

    graph: Graph
    spread: Mapping[int, int]
    squares: int

    def precision(self, given: Precision) -> Precision:
        """The old graph's widths, with those of the new activations: they are as wide as what they enter."""
        readers, layers = self.graph.consumers(), dict(given.layers)
        for t in self.spread:
            entered = self.graph.tensors[self.graph.ops[readers[t][0]].outputs[0]].name
            if entered in layers:
                layers[self.graph.tensors[t].name] = layers[entered]
        return replace(given, layers=layers)


def opened(graph: Graph) -> Opened:
    """The graph with every mean of the channels, and of their squares, rewritten.

    Args:
        graph: float.
    """
    even, squares = _with_even_squares(graph)
    return replace(_with_means_spread(even), squares=squares)


def needed(graph: Graph, precision: Precision) -> tuple[Graph, Precision]:
    """The graph without ops whose outputs nothing reads, and the widths of what is left; tensors keep their indices."""
    read, ops = {*graph.outputs}, list[Op]()
    for op in reversed(graph.ops):
        if read & {*op.outputs}:
            ops.append(op)
            read |= {*op.inputs}
    computed = {graph.tensors[t].name for op in ops for t in op.outputs}
    layers = {name: widths for name, widths in precision.layers.items() if name in computed}
    left = replace(precision, layers=layers, floats=precision.floats & computed)
    return replace(graph, ops=tuple(reversed(ops))), left


def _with_even_squares(graph: Graph) -> tuple[Graph, int]:
    """(x) (c x)^T as (sqrt(c) x) (sqrt(c) x)^T, and how often."""
    tensors, ops, producers, readers = list(graph.tensors), list(graph.ops), graph.producers(), graph.consumers()
    count = 0
    for i, op in enumerate(graph.ops):
        shared = _shared_square(graph, op, producers, readers)
        if shared is None:
            continue
        product, slot = shared
        old = tensors[graph.ops[product].inputs[slot]]
        inputs = list(graph.ops[product].inputs)
        inputs[slot] = len(tensors)
        tensors.append(replace(old, name=f"{old.name}/root", data=np.sqrt(old.stored)))
        ops[product] = replace(ops[product], inputs=tuple(inputs))
        ops[i] = replace(op, inputs=(op.inputs[1], op.inputs[1]))
        count += 1
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops)), count


def _shared_square(
    graph: Graph, op: Op, producers: Mapping[int, int], readers: Mapping[int, list[int]]
) -> tuple[int, int] | None:
    """For a BATCH_MATMUL of rows of x and of c x, each with itself: the MUL by c that it alone reads, and c's slot."""
    if op.kind != "BATCH_MATMUL" or op.options.get("adjX") or not op.options.get("adjY") or len(set(op.inputs)) < 2:
        return None
    left, right = (producers.get(t, -1) for t in op.inputs)
    if min(left, right) < 0 or not graph.ops[left].kind == graph.ops[right].kind == "RESHAPE":
        return None
    product = producers.get(graph.ops[right].inputs[0], -1)
    if product < 0 or graph.ops[product].kind != "MUL" or graph.ops[product].activation != "NONE":
        return None
    for slot, t in enumerate(graph.ops[product].inputs):
        data, same = graph.tensors[t].data, graph.ops[product].inputs[1 - slot] == graph.ops[left].inputs[0]
        if data is not None and data.size == 1 and data.min() > 0 and same:
            alone = all(len(readers[x]) == 1 for x in (op.inputs[1], graph.ops[right].inputs[0]))
            alike = graph.tensors[op.inputs[0]].shape == graph.tensors[op.inputs[1]].shape
            return (product, slot) if alone and alike else None
    return None


def _with_means_spread(graph: Graph) -> Opened:
    """x - mean(x) as x - k mean(x), k being ones."""
    means = _means(graph)
    tensors, ops, spread = list(graph.tensors), list[Op](), dict[int, int]()
    for i, op in enumerate(graph.ops):
        if i in means.values():
            spread[op.outputs[0]] = _write_mean(tensors, ops, op)
        else:
            ops.append(replace(op, inputs=(op.inputs[0], spread[op.inputs[1]])) if i in means else op)
    found = {
        new: graph.ops[sub].inputs[0] for sub, mean in means.items() for new in [spread[graph.ops[mean].outputs[0]]]
    }
    return Opened(replace(graph, tensors=tuple(tensors), ops=tuple(ops)), found, 0)


def _means(graph: Graph) -> dict[int, int]:
    """Subtractions of means that have no other use: SUB op index -> MEAN op index."""
    readers, found = graph.consumers(), dict[int, int]()
    for sub, mean in mean_subtractions(graph).items():
        x = graph.tensors[graph.ops[sub].inputs[0]]
        whole = len(x.shape) > 1 and x.shape[-1] > 1 and -1 not in (x.shape_signature or ())
        if whole and readers[graph.ops[sub].inputs[1]] == [sub] and graph.ops[sub].inputs[1] not in graph.outputs:
            found[sub] = mean
    return found


def _write_mean(tensors: list[Tensor], ops: list[Op], op: Op) -> int:
    """Adds the mean as a linear op, and what it is times one per channel; returns the latter."""
    x, mean = tensors[op.inputs[0]], tensors[op.outputs[0]]
    channels, first = x.shape[-1], len(tensors)
    row, ones = np.full((1, channels), 1 / channels, np.float32), np.ones(channels, np.float32)
    tensors += [
        Tensor(f"{mean.name}/one_of", row.shape, "float32", row),
        Tensor(f"{mean.name}/factors", ones.shape, "float32", ones),
        Tensor(f"{mean.name}/{SPREAD}", x.shape, "float32"),
    ]
    ops.append(Op("FULLY_CONNECTED", (op.inputs[0], first, -1), op.outputs, DENSE, version=6))
    ops.append(Op("MUL", (op.outputs[0], first + 1), (first + 2,), NONE))
    return first + 2
