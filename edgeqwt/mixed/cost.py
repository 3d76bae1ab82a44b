"""What widths cost: bytes of the file, or a model of the time that a run takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import multiplications, slots
from edgeqwt.graph.schema import BUFFER_ALIGNMENT
from edgeqwt.lowering.borders import with_borders
from edgeqwt.lowering.codebooks import with_codebooks
from edgeqwt.lowering.int4 import takes_int4, with_dense_pointwise, with_packed_weights
from edgeqwt.mixed.width_groups import Layer
from edgeqwt.profile import TargetProfile
from edgeqwt.recipe.recipe import Recipe
from edgeqwt.techniques.codebook import Codebook
from edgeqwt.widths.plan import Plan, copies
from edgeqwt.widths.precision import OpTimes, Widths
from edgeqwt.widths.time import elements_time, is_layer

# An op, its tensors, their names and scales: about so much a copy adds to a file. The choice is checked
# against the true size, so that this only steers.
COPY_BYTES = {8: 200.0, 16: 480.0}
TABLE_BYTES = 1120.0
"""A copy to 16 bits that is a table (`profile.Kernels.quick_tables`)."""


@dataclass(frozen=True)
class Costs:
    """What parts of a graph cost, in one unit; a choice's sum is a model, `exact` functions have the last word.

    Attributes:
        layer: a layer's weights, biases and work.
        op: any other op, by index, at some width of activations.
        copy: a copy of an activation, by tensor index, to some width.
    """

    layer: Callable[[Layer, Widths], float]
    op: Callable[[int, int], float]
    copy: Callable[[int, int], float]


def size(graph: Graph, tflm: bool) -> Costs:
    """Bytes: of weights and biases as the file stores them, padded to the alignment of buffers; about, of copies.

    Args:
        graph: float.
        tflm: whether TFLite Micro must be able to run the file.
    """

    def layer(found: Layer, widths: Widths) -> float:
        weights = graph.tensors[found.weight]
        kinds = {graph.ops[i].kind for i in found.ops}
        taken = all(takes_int4(kind, weights.shape, widths.activations, tflm) for kind in kinds)
        packed = widths.weights <= 4 and taken
        channels = weights.shape[slots(graph.ops[found.ops[0]]).axis]
        bias = channels * (8 if widths.activations == 16 else 4)
        return _padded(-(-weights.size // 2) if packed else weights.size) + len(found.ops) * _padded(bias)

    copy = COPY_BYTES if tflm else {**COPY_BYTES, 16: TABLE_BYTES}
    return Costs(layer, lambda i, bits: 0.0, lambda t, bits: copy[bits])


def latency(graph: Graph, op_times: OpTimes) -> Costs:
    """Time, in that of a multiplication with 8-bit weights and activations: multiplications, elements, copies."""

    def layer(found: Layer, widths: Widths) -> float:
        return sum(multiplications(graph, graph.ops[i]) for i in found.ops) * op_times.multiplication(widths)

    def op(i: int, bits: int) -> float:
        return 0.0 if is_layer(graph, i) else elements_time(graph, i, bits, op_times)

    return Costs(layer, op, lambda t, bits: graph.tensors[t].size * op_times.copy)


def total(graph: Graph, costs: Costs, layers: Iterable[Layer], weights: Mapping[str, int], plan: Plan) -> float:
    """The cost of a plan as the model has it, copies counted where the plan has them."""
    work = sum(costs.layer(layer, Widths(weights[layer.name], plan.ops[layer.ops[0]])) for layer in layers)
    others = sum(costs.op(i, bits) for i, bits in enumerate(plan.ops))
    return work + others + sum(costs.copy(t, bits) for t, bits in sorted(copies(graph, plan)))


def as_run(
    graph: Graph, sentences: tuple[str, ...], recipe: Recipe, target: TargetProfile
) -> tuple[Graph, tuple[str, ...]]:
    """An integer graph with the ops that run its 4-bit weights fastest, and what was done, where `stored` packs them.

    Args:
        graph: integer, adapted to the target.
        sentences: what that did.
        recipe: whether weights are packed.
        target: whose kernels count.
    """
    if not _packs(recipe, target) or "tflm" in target.runtimes:
        return graph, sentences
    dense = with_dense_pointwise(graph)
    count = sum(a.kind != b.kind for a, b in zip(graph.ops, dense.ops, strict=True))
    done = f"{count} 1×1 convolutions became FULLY_CONNECTED, which XNNPACK runs on int4 weights."
    return (dense, (*sentences, done)) if count else (graph, sentences)


def stored(graph: Graph, recipe: Recipe, target: TargetProfile) -> Graph:
    """An integer graph as the recipe wants it in the file: its borders, and the width of its stored weights."""
    if _packs(recipe, target):
        graph = with_packed_weights(graph, tflm="tflm" in target.runtimes)
    for technique in recipe.techniques:
        # NPUs and microcontrollers need constant weights.
        if isinstance(technique, Codebook) and technique.lookup and "xnnpack" in target.runtimes and not target.plugin:
            graph, _ = with_codebooks(graph, technique.length)
    return with_borders(graph, {name: port.type for name, port in recipe.precision.ports.items()}, recipe.float_io)


def file_size(graph: Graph, recipe: Recipe, target: TargetProfile) -> int:
    """Bytes of the file that an integer graph becomes."""
    return len(flatbuffer.to_bytes(stored(graph, recipe, target)))


def _packs(recipe: Recipe, target: TargetProfile) -> bool:
    return recipe.precision.pack_int4 and "no_int4" not in target.limits


def _padded(count: int) -> float:
    return float(-(-count // BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT)
