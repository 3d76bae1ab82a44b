"""Search problems made of a float graph and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Array, Graph, Quantization, Tensor
from edgeqwt.graph.opset import RULES, slots
from edgeqwt.quantize.activations import spanning
from edgeqwt.quantize.lower import assigned
from edgeqwt.quantize.precision import Precision
from edgeqwt.quantize.ranges import RangeRule
from edgeqwt.quantize.scales import Problem, Scales
from edgeqwt.quantize.weights import bias_quantization, quantize, quantize_bias
from edgeqwt.quantize.writer import Writer


def problem(
    graph: Graph, samples: Sequence[Mapping[int, Array]], rule: RangeRule, precision: Precision | None = None
) -> Problem:
    """One sample in four is held out."""
    precision = precision or Precision()
    statistics, _ = observe(graph, samples)
    groups: dict[object, list[int]] = {}
    for (t, _), root in assigned(graph, statistics, rule, precision).group.items():
        groups.setdefault(root, []).append(t)
    fit = [sample for i, sample in enumerate(samples) if i % 4 != 1]
    return Problem(
        graph,
        statistics,
        precision,
        lambda scales: lowered(graph, statistics, rule, precision, scales),
        tuple(tuple(group) for group in groups.values()),
        fit,
        samples[1::4],
    )


def lowered(
    graph: Graph, statistics: Mapping[int, Statistics], rule: RangeRule, precision: Precision, scales: Scales
) -> Graph:
    """The integer graph at the rules' scales but for the given ones."""
    assignment = assigned(graph, statistics, rule, precision)
    roots = {assignment.group[t, assignment.plan.home[t]]: ends for t, ends in scales.ranges.items()}
    quantization = {
        t: spanning(*roots[root], root[1]) if (root := assignment.group[t, assignment.plan.home[t]]) in roots else q
        for t, q in assignment.quantization.items()
    }
    integer = Writer(graph, replace(assignment, quantization=quantization), precision, frozenset()).run()
    return _with_weight_scales(graph, integer, precision, scales.weights)


def _with_weight_scales(graph: Graph, integer: Graph, precision: Precision, scales: Mapping[int, Array]) -> Graph:
    twins = {integer.tensors[op.outputs[0]].name: op for op in integer.ops}
    changes: dict[int, Tensor] = {}
    for op in graph.ops:
        if not RULES[op.kind].linear or slots(op).weight not in scales:
            continue
        ours, theirs, name = (
            slots(op),
            slots(twins[graph.tensors[op.outputs[0]].name]),
            graph.tensors[op.outputs[0]].name,
        )
        weights, x = graph.tensors[ours.weight].data, integer.tensors[theirs.data].quantization
        assert weights is not None
        assert x is not None
        limit = 2 ** (precision.of(name).weights - 1) - 1
        q = Quantization.per_channel(scales[ours.weight].astype(np.float32), RULES[op.kind].channel_axis)
        data = quantize(weights, q, -limit, limit)
        changes[theirs.weight] = replace(integer.tensors[theirs.weight], data=data, quantization=q)
        bias = graph.tensors[ours.bias].data if ours.bias >= 0 else None
        bq = bias_quantization(x.scale[0], q.scale)
        zeros = np.zeros(q.scale.shape, np.int32)
        stored = zeros if bias is None else quantize_bias(bias, bq)
        changes[theirs.bias] = replace(integer.tensors[theirs.bias], data=stored, quantization=bq)
    return integer.with_tensors(changes)
