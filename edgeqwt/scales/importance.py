"""How much an error of each weight matters: the mean square of the inputs that it meets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import islice

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.im2col import PATCHED, from_matrix, patches
from edgeqwt.graph.linear import slots
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack

POSITIONS = 256  # of one sample, about: neighbours say nearly the same


def weight_importance(
    graph: Graph, samples: Iterable[Mapping[int, Array]], limit: int = 64, threads: int = THREADS
) -> dict[int, Array]:
    """By weight tensor: the mean of x^2 over samples and positions, for the x that each weight is multiplied with.

    This is the diagonal of the layer's Hessian, up to a factor, for the error of its output (LeCun et
    al. 1990, optimal brain damage). A tensor that several ops share has the mean over them.

    Args:
        graph: a float graph.
        samples: inputs by tensor index; the first `limit` are read, one at a time.
        limit: samples at most.
        threads: interpreters that run at a time; the result does not depend on it.

    Returns:
        float64, of a shape that broadcasts to the weights'. Kinds of ops whose inputs are not
        understood as patches, and weights that are computed, are missing.
    """
    ops = [op for op in graph.ops if op.kind in PATCHED and graph.tensors[slots(op).weight].is_constant]
    taps = sorted({slots(op).data for op in ops})

    def work(runner: Runner, inputs: Mapping[int, Array]) -> list[Array]:
        values = {**inputs, **runner.run(inputs)}
        return [_mean_square(graph, op, values[slots(op).data]) for op in ops]

    totals: dict[int, Array] = {}
    for parts in ordered([xnnpack(graph, taps) for _ in range(threads)], work, islice(samples, limit)):
        for op, part in zip(ops, parts, strict=True):
            t = slots(op).weight
            totals[t] = totals[t] + part if t in totals else part
    return {t: total / total.mean() if total.any() else np.ones(total.shape) for t, total in totals.items()}


def every(graph: Graph, op: Op, positions: int) -> int:
    """The stride along height and width at which a convolution's output has about so many positions."""
    shape = graph.tensors[slots(op).output].shape
    return 1 if op.kind == "FULLY_CONNECTED" else max(1, math.ceil(math.sqrt(math.prod(shape[1:3]) / positions)))


def _mean_square(graph: Graph, op: Op, x: Array) -> Array:
    shape = graph.tensors[slots(op).weight].shape
    rows = patches(op, x.astype(np.float64), shape, every(graph, op, POSITIONS))  # (groups, positions, terms)
    power = np.square(rows).mean(axis=1)
    if op.kind == "DEPTHWISE_CONV_2D":
        return from_matrix(op.kind, power, shape)
    per_channel = np.repeat(power, shape[0] // len(power), axis=0)
    return from_matrix(op.kind, per_channel, shape)
