"""Write x - mean(x) over the channels so that each channel may have a factor of its own.

MEAN and SUB need one factor for all channels, and so does all that leads to them: behind a residual stream that ends
in a LayerNorm (BERT's, whose streams read a LayerNorm's output unnormalized and cannot be centered beforehand), the
few channels that are a hundred times as large as the others decide the step of all. A FULLY_CONNECTED to one output
with weights 1 / n takes the mean of channels whatever their factors, and a MUL by one constant per channel gives the
mean those of x again: k x - k mean(x). It costs one op, and as many multiplications as there are elements, per norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.quantize.precision import Precision

NONE = {"fusedActivationFunction": "NONE"}
DENSE = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": True}
SPREAD = "by_channel"  # how the new tensors' names end, behind the means'


@dataclass(frozen=True, eq=False)
class Opened:
    """A graph whose subtractions of means are rewritten.

    Attributes:
        graph: the same function; the tensors of the old graph have their old indices.
        spread: the new activations, and the activations of the old graph that are of their kind: what they are
            subtracted from.
    """

    graph: Graph
    spread: Mapping[int, int]

    def precision(self, given: Precision) -> Precision:
        """The old graph's widths, with those of the new activations: they are as wide as what they enter."""
        readers, layers = self.graph.consumers(), dict(given.layers)
        for t in self.spread:
            entered = self.graph.tensors[self.graph.ops[readers[t][0]].outputs[0]].name
            if entered in layers:
                layers[self.graph.tensors[t].name] = layers[entered]
        return replace(given, layers=layers)


def opened(graph: Graph) -> Opened:
    """The graph with every subtraction of a mean over the channels rewritten.

    Args:
        graph: float.
    """
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
    return Opened(replace(graph, tensors=tuple(tensors), ops=tuple(ops)), found)


def _means(graph: Graph) -> dict[int, int]:
    """x - mean(x) over the last axis, the mean having no other use: SUB op index -> MEAN op index."""
    producers, readers, found = graph.producers(), graph.consumers(), dict[int, int]()
    for i, op in enumerate(graph.ops):
        mean = producers.get(op.inputs[1], -1) if op.kind == "SUB" and op.activation == "NONE" else -1
        if mean < 0 or graph.ops[mean].kind != "MEAN" or graph.ops[mean].inputs[0] != op.inputs[0]:
            continue
        x, m = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
        axes = graph.tensors[graph.ops[mean].inputs[1]].data
        last = axes is not None and axes.size == 1 and int(axes.reshape(())) % len(x.shape) == len(x.shape) - 1
        whole = m.shape == (*x.shape[:-1], 1) and len(x.shape) > 1 and -1 not in (x.shape_signature or ())
        alone = readers[op.inputs[1]] == [i] and op.inputs[1] not in graph.outputs
        if last and whole and alone and x.is_float and x.shape[-1] > 1:
            found[i] = mean
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
