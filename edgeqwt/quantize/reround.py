"""Round weights anew, layer by layer, looking at the inputs that each layer really gets.

For each linear op in topological order the integer graph, with everything before the op rounded
already, gives the op's inputs; their second moments are all that a rounding rule needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.opset import slots
from edgeqwt.layerwise.spool import Spool
from edgeqwt.layerwise.stretches import Stretches
from edgeqwt.quantize.patches import PATCHED, from_matrix, matrix, patches
from edgeqwt.quantize.precision import Precision
from edgeqwt.quantize.rounding import RoundingRule
from edgeqwt.runtime.boundary import feed_as

POSITIONS = 256  # of one sample, about, that a layer's second moments are summed over
CHUNK = 8  # samples whose patches are in memory at a time


def reround(
    graph: Graph,
    reference: Graph,
    samples: Iterable[Mapping[int, Array]],
    rule: RoundingRule,
    precision: Precision,
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> Graph:
    """The integer graph with its linear ops' weights rounded by the rule; scales stay as they are.

    Args:
        graph: lowered from `reference`, so that outputs have the same names.
        reference: the float graph, which has the real weights.
        samples: real-valued inputs by the reference's input tensor index; the first `rule.samples` are used.
        rule: how to round.
        precision: the weights' width.
        on_layer: called with (layers done, layers in all).
    """
    real = {reference.tensors[op.outputs[0]].name: op for op in reference.ops}
    ops = [i for i, op in enumerate(graph.ops) if op.kind in PATCHED and graph.tensors[slots(op).weight].is_constant]
    with Spool() as spool:
        stretches = Stretches("rounding", graph, [slots(graph.ops[i]).data for i in ops], spool)
        count = 0
        for count, sample in enumerate(islice(samples, rule.samples), start=1):
            stretches.feed(count - 1, feed_as(graph, reference, sample))
        for k, i in enumerate(ops):
            source = real[graph.tensors[graph.ops[i].outputs[0]].name]
            weights = reference.tensors[slots(source).weight].data
            assert weights is not None
            hessian = _hessian(graph, i, stretches, k, count, weights.shape)
            graph = _rounded(graph, i, weights, hessian, rule, precision)
            stretches.finish(k)
            on_layer(k + 1, len(ops))
    return graph


def _hessian(graph: Graph, i: int, stretches: Stretches, k: int, count: int, weights_shape: tuple[int, ...]) -> Array:
    """Sum of x x^T over samples and positions, in steps of the input's scale; float64, (groups, terms, terms).

    Inputs are integers below 2^9, so every partial sum below 2^53 is exact, and the result does not
    depend on how BLAS splits the work.
    """
    op, x = graph.ops[i], stretches.cuts[k]
    quantization = graph.tensors[x].quantization
    assert quantization is not None
    zero_point = int(quantization.zero_point[0])
    stretches.start(k)

    run = stretches.runner(k, graph)
    # Neighbouring positions say nearly the same, and large maps have thousands of them.
    height_width = graph.tensors[op.outputs[0]].shape[1:3] if op.kind != "FULLY_CONNECTED" else (1, 1)
    every = math.ceil(math.sqrt(math.prod(height_width) / POSITIONS))
    total: Array = np.zeros(())
    # One interpreter, not one per core: the matrix products take all cores by themselves.
    for first in range(0, count, CHUNK):
        values = run(range(first, min(first + CHUNK, count))).astype(np.float64) - zero_point
        rows = patches(op, values.reshape(-1, *graph.tensors[x].shape[1:]), weights_shape, every)
        total = total + np.matmul(rows.transpose(0, 2, 1), rows)
    return total


def _rounded(graph: Graph, i: int, weights: Array, hessian: Array, rule: RoundingRule, precision: Precision) -> Graph:
    op = graph.ops[i]
    tensor = graph.tensors[slots(op).weight]
    assert tensor.quantization is not None
    limit = 2 ** (precision.weight_bits - 1) - 1
    groups = len(hessian)
    rows = matrix(op.kind, weights, groups)
    scale = np.broadcast_to(tensor.quantization.scale, (rows.shape[0] * rows.shape[1],)).reshape(groups, -1)
    integers = np.stack([rule.round(rows[g], scale[g], hessian[g], limit) for g in range(groups)])
    data = from_matrix(op.kind, integers, weights.shape)
    return graph.with_tensors({slots(op).weight: replace(tensor, data=data)})
