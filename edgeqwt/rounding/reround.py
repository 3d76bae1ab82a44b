"""Round weights anew, layer by layer, looking at the inputs that each layer really gets.

For each linear op in topological order the integer graph, with everything before the op rounded
already, gives the op's inputs; their second moments are all that a rounding rule needs. Rules that aim at the
float layer's output also get their moments with the inputs that the float graph has at the same op.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.im2col import PATCHED, from_matrix, matrix, patches, terms_of
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset16 import bits_of, rule_at
from edgeqwt.graph.pairing import op_counterparts
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.layerwise.segmented_run import Chunk, SegmentedRun
from edgeqwt.progress import Advance, handed_back, quiet
from edgeqwt.rounding.attention import Attended, mixed
from edgeqwt.rounding.blocks import cut, joined, parts
from edgeqwt.rounding.methods import Layer, Rounded, RoundingRule
from edgeqwt.rounding.moments import Moments, Rows, moments
from edgeqwt.rounding.row_weights import RowWeights, counting, noting
from edgeqwt.rounding.structure import UNSTRUCTURED, Structure, zeros
from edgeqwt.runtime.boundary import feed_as
from edgeqwt.runtime.parallel import THREADS, chunk_size
from edgeqwt.runtime.threads import one_thread
from edgeqwt.scales.weights import BIAS_LIMIT, bias_quantization, quantize_bias
from edgeqwt.widths.precision import Precision

POSITIONS = 1024
"""Of one sample, about, that second moments are summed over: where samples are few, positions are what is most of. With
64 of them ResNet-20 loses 0.2 dB at 4-bit weights.
"""
ROWS = 1 << 17  # positions of all samples: many samples need fewer of each, which takes a large share of a build's time
LEAST = 256  # of one sample, about
DEPTHWISE = 1 << 13, 32  # positions of all samples, and least of one: moments of a channel's few weights need no more
CHUNK = 8  # samples whose patches a thread has in memory at a time, at most
MOMENTS = 6  # arrays of the size of a second moment that are in memory at a time
LARGE = 1 << 26  # bytes of a second moment before which memory that samples took is handed back
ELEMENTS = 1 << 23  # of their patches, at most, or one sample's

Run = Callable[[Chunk], Array]


def reround(
    graph: Graph,
    reference: Graph,
    samples: Iterable[Mapping[int, Array]],
    rule: RoundingRule,
    precision: Precision,
    on_layer: Advance = quiet,
    threads: int = THREADS,
    token_weights: RowWeights | None = None,
    kept: Structure = UNSTRUCTURED,
) -> Graph:
    """The integer graph with its linear ops' weights rounded by the rule.

    Scales stay as they are, unless the rule searches them: then weights and biases have new ones. Weights
    that several ops share stay rounded as they are.

    Args:
        graph: lowered from `reference`, so that outputs have the same names.
        reference: the float graph, which has the real weights.
        samples: real-valued inputs by the reference's input tensor index; the first `rule.samples` are used.
        rule: how to round.
        precision: the weights' widths.
        on_layer: called after each layer.
        threads: that run at a time; the result does not depend on it.
        token_weights: how much the rows that dense layers meet count; None: all alike.
        kept: zeros that stay, and layers whose weights are clustered: those stay as they are.
    """
    real = {i: reference.ops[j] for j, i in op_counterparts(reference, graph).items()}
    ops = [i for i in _roundable(graph) if graph.tensors[graph.ops[i].outputs[0]].name not in kept.clusters]
    sources = [real[i] for i in ops]
    with ActivationStore() as store, one_thread():
        integer = SegmentedRun("rounding", graph, [slots(graph.ops[i]).data for i in ops], store)
        walks = [integer]
        if rule.float_targets:
            walks.append(SegmentedRun("float", reference, [slots(op).data for op in sources], store))
        attended = Attended(reference, store) if rule.attention else None
        count = 0
        weights_of: list[list[Array]] = [[] for _ in ops]
        watched = noting(islice(samples, rule.samples), token_weights, sources, weights_of)
        for count, sample in enumerate(watched, start=1):
            integer.feed(count - 1, feed_as(graph, reference, sample))
            for walk in walks[1:]:
                walk.feed(count - 1, sample)
            if attended is not None:
                noted = zip(sources, weights_of, strict=True)
                attended.see(count - 1, sample, {op.outputs[0]: rows[-1] for op, rows in noted if counting(rows)})
        on_layer(0, len(ops))
        for k, (i, source) in enumerate(zip(ops, sources, strict=True)):
            for walk in walks:
                walk.start(k)
            workers = [
                [walk.runner(k, g) for walk, g in zip(walks, (graph, reference), strict=False)] for _ in range(threads)
            ]
            weights = reference.tensors[slots(source).weight].stored
            mixing = None if attended is None else attended.mixing(source.outputs[0])
            found = _moments(graph, i, weights, workers, count, counting(weights_of[k]), mixing)
            layer = _layer(graph, i, reference, source, precision, found)
            layer = replace(
                layer,
                zeros=zeros(kept, reference.tensors[source.outputs[0]].name, layer.weights),
                coupling=None if attended is None or layer.parted else attended.coupling(source.outputs[0]),
            )
            del found  # as large as what is factored now
            if layer.hessian.nbytes > LARGE:
                handed_back()
            graph = _written(graph, i, reference, source, rule.round(layer))
            for walk in walks:
                walk.finish(k)
            on_layer(k + 1, len(ops), reference.tensors[source.outputs[0]].name)
    return graph


def in_parts(graph: Graph) -> dict[str, int]:
    """Into how many parts the terms of large layers are cut (`blocks`), by the name of the output."""
    found = {}
    for i in _roundable(graph):
        op = graph.ops[i]
        if (count := parts(terms_of(op.kind, graph.tensors[slots(op).weight].shape))) > 1:
            found[graph.tensors[op.outputs[0]].name] = count
    return found


def memory(graph: Graph) -> int:
    """Bytes that the second moments of the largest layer take, and what factors them, about."""
    sizes = [terms_of(graph.ops[i].kind, graph.tensors[slots(graph.ops[i]).weight].shape) for i in _roundable(graph)]
    return max((8 * MOMENTS * math.ceil(terms / parts(terms)) * terms for terms in sizes), default=0)


def _roundable(graph: Graph) -> list[int]:
    """The linear ops of integers whose weights are theirs alone: what suits one op's inputs need not suit another's.

    Weights that are all alike take a mean: they are exact, and no other weights would be one.
    """
    readers = graph.consumers()
    return [
        i
        for i, op in enumerate(graph.ops)
        if op.kind in PATCHED
        and graph.tensors[slots(op).weight].quantization is not None
        and len(readers[slots(op).weight]) == 1
        and (data := graph.tensors[slots(op).weight].data) is not None
        and (data != data.flat[0]).any()
    ]


def _steadied(weights: Array, ours: Array, theirs: Array | None) -> Array:
    """The rows' weights, less for rows whose inputs err far more than most; shape (groups, rows, 1).

    A few tokens on which a range saturates err by more than all others together, and no weights can mend that: one
    step of reweighted least squares, as in `compensate.layer`.
    """
    if theirs is None:
        return weights[None, :, None]
    errors = np.square(theirs - ours).sum(axis=2, dtype=np.float64)
    counted = weights > 0.1 * weights.mean()  # not padding
    usual = np.median(errors[:, counted], axis=1, keepdims=True) if counted.any() else np.ones((len(errors), 1))
    return np.asarray(weights / (1 + errors / np.maximum(usual, 1e-9)))[..., None]


def _moments(
    graph: Graph,
    i: int,
    weights: Array,
    workers: list[list[Run]],
    count: int,
    row_weights: Sequence[Array] = (),
    mixing: Run | None = None,
) -> Moments:
    """Sums over positions and samples of what the op reads, in steps of its input's scale.

    Args:
        graph: integer.
        i: the op.
        weights: real, as the float graph has them.
        workers: run the integer graph up to the op's input, and the float graph where that is asked for.
        count: samples.
        row_weights: of each sample's rows; none: all count alike.
        mixing: the attention weights (samples, heads, queries, keys) by which the op's rows are mixed before they
            count: there is a moment for each head then.
    """
    op, x = graph.ops[i], slots(graph.ops[i]).data
    tensor, (scale, zero_point) = graph.tensors[x], _steps(graph.tensors[x])
    terms = terms_of(op.kind, weights.shape)
    count_of_parts = parts(terms)
    mixing = mixing if count_of_parts == 1 else None
    dtype = np.dtype(np.float32 if tensor.dtype != "int16" and mixing is None else np.float64)  # see `moments`
    height_width = graph.tensors[op.outputs[0]].shape[1:3] if op.kind != "FULLY_CONNECTED" else (1, 1)
    every = stride(height_width, count, *(DEPTHWISE if op.kind == "DEPTHWISE_CONV_2D" else (ROWS, LEAST)))
    positions = math.prod(-(-side // every) for side in height_width)
    if op.kind == "FULLY_CONNECTED":
        positions = tensor.size // terms
    size = chunk_size(terms * positions, CHUNK, ELEMENTS)

    def patched(values: Array, outside: int = 0) -> Array:
        # As they are stored: a map's values become floats where they are taken.
        found = patches(op, values.reshape(-1, *tensor.shape[1:]), weights.shape, every, outside)
        return cut(found.astype(dtype) - outside if outside else found.astype(dtype), count_of_parts)

    def rows(runs: list[Run], first: int) -> Rows:
        chunk = range(first, min(first + size, count))
        ours = patched(runs[0](chunk), zero_point)
        theirs = patched(runs[1](chunk)) / scale if len(runs) > 1 else None
        if mixing is not None:
            shares = mixing(chunk).astype(dtype)
            ours, theirs = mixed(ours, shares), None if theirs is None else mixed(theirs, shares)
        counted = np.concatenate([row_weights[n] for n in chunk]) if row_weights else None
        counted = counted if counted is None or len(counted) == ours.shape[1] else None
        steadied = None if counted is None else _steadied(counted, ours, theirs)
        if theirs is None:
            return Rows(ours, None, steadied)
        columns = _in_parts(op.kind, weights.astype(dtype), len(ours), count_of_parts).swapaxes(-1, -2)
        return Rows(ours, (theirs - ours) @ columns, steadied)

    return moments(workers, rows, size, count)


def _steps(tensor: Tensor) -> tuple[float, int]:
    """Scale and zero point of what an op reads; 1 and 0 of floats, which are rounded at run time."""
    q = tensor.quantization
    return (1.0, 0) if q is None else (float(q.scale[0]), int(q.zero_point[0]))


def stride(height_width: tuple[int, ...], samples: int, rows: int = ROWS, least: int = LEAST) -> int:
    """Every how many positions of a map, along height and width, second moments are summed over.

    Neighbouring positions say nearly the same, and large maps have thousands of them.
    """
    wanted = min(POSITIONS, max(least, rows // samples))
    return max(1, math.ceil(math.sqrt(math.prod(height_width) / wanted)))


def _in_parts(kind: str, weights: Array, groups: int, count: int) -> Array:
    """Weights as (groups, channels, terms), with parts of the terms for groups where there are several."""
    return cut(matrix(kind, weights, groups if count == 1 else 1), count)


def _layer(graph: Graph, i: int, reference: Graph, source: Op, precision: Precision, found: Moments) -> Layer:
    """The op as a rounding rule sees it."""
    op, s = graph.ops[i], slots(graph.ops[i])
    data, q = reference.tensors[slots(source).weight].stored, graph.tensors[s.weight].grid
    count = parts(terms_of(op.kind, data.shape))
    weights = _in_parts(op.kind, data.astype(np.float64), len(found.hessian), count)
    shape = weights.shape[:2]

    def by_channel(values: Array) -> Array:
        """In groups; of parts of terms all alike."""
        one = shape if count == 1 else (1, shape[1])
        return np.broadcast_to(np.broadcast_to(values, (math.prod(one),)).reshape(one), shape)

    scale = by_channel(q.scale.astype(np.float64))
    limit = 2 ** (precision.of(graph.tensors[s.output].name).weights - 1) - 1
    layer = Layer(weights, scale, limit, found.hessian, found.pull, found.folds, rows=found.rows, parted=count > 1)
    channels = scale.size // count
    if len(q.scale) != channels or (s.bias >= 0 and len(graph.consumers()[s.bias]) > 1):
        return layer
    low, high = _bounds(graph, i, reference, source)
    return replace(layer, bounds=(by_channel(low), by_channel(high)))


def _bounds(graph: Graph, i: int, reference: Graph, source: Op) -> tuple[Array, Array]:
    """Per channel, the scale below which the bias would not fit, and that above which kernels refuse the model."""
    s = slots(graph.ops[i])
    x, y = (graph.tensors[t].quantization for t in (s.data, s.output))
    w = graph.tensors[s.weight].grid
    if x is None or y is None:  # rounded at run time: the bias is float, and nothing multiplies integers by a ratio
        return np.full(w.scale.shape, 1e-30), np.full(w.scale.shape, np.inf)
    largest = rule_at(graph.ops[i].kind, bits_of(graph, graph.ops[i])).largest_ratio
    low = np.abs(_real_bias(reference, source, len(w.scale))) / (float(x.scale[0]) * BIAS_LIMIT)
    high = 0.99 * largest * float(y.scale[0]) / float(x.scale[0])
    # Below 1e-30 float32 scales, and their products with others, lose precision.
    return np.maximum(low, 1e-30), np.maximum(w.scale.astype(np.float64), high)


def _real_bias(reference: Graph, source: Op, channels: int) -> Array:
    bias = slots(source).bias
    data = reference.tensors[bias].data if bias >= 0 else None
    return np.zeros(channels) if data is None else data.astype(np.float64)


def _written(graph: Graph, i: int, reference: Graph, source: Op, rounded: Rounded) -> Graph:
    """The graph with the op's new integers, and scales where they changed."""
    op, s = graph.ops[i], slots(graph.ops[i])
    weight, x = graph.tensors[s.weight], graph.tensors[s.data]
    integers, scale, terms = rounded.integers.astype(np.int8), rounded.scale, terms_of(op.kind, weight.shape)
    if parts(terms) > 1:
        integers, scale = joined(integers, terms), scale[:1]
    data = from_matrix(op.kind, integers, weight.shape)
    old, new = weight.grid, scale.reshape(-1).astype(np.float32)
    if len(old.scale) != len(new) or np.array_equal(old.scale, new):
        return graph.with_tensors({s.weight: replace(weight, data=data)})
    changes = {s.weight: replace(weight, data=data, quantization=replace(old, scale=new))}
    if s.bias >= 0 and x.quantization is not None:
        bias, bq = graph.tensors[s.bias], bias_quantization(x.quantization.scale[0], new)
        integers = quantize_bias(_real_bias(reference, source, len(new)), bq, bias.dtype)
        changes[s.bias] = replace(bias, data=integers, quantization=bq)
    return graph.with_tensors(changes)
