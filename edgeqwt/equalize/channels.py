"""Which channels of a float graph share one factor, if the function is to stay the same.

A channel of a layer may be multiplied by k > 0 if everything that reads it divides by k. The
factor passes through ops that commute with it (RELU, pooling, PAD, TRANSPOSE, ...); ADD needs
the same factor on both sides; other ops need the factor 1. Here every element of every
activation gets the number of its factor; what an op moves about is found out by letting the op
move those numbers.

Constants are where factors change for free. Linear layers, embedding tables and products with a constant per channel
(LayerNorm's gamma) take up the factors of what they read and give their output new ones; a constant summand (beta,
position embeddings) is multiplied along. In attention, what Q is multiplied by K is divided by, and V's channels are
those of the heads' outputs (`equalize.products`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from edgeqwt.equalize.factors import ANY, FIXED, Channels, Factors, by_channel, by_element, varying
from edgeqwt.equalize.products import matmul
from edgeqwt.graph.fills import has_fills
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.opset import JOINS, MOVES, RULES, SPLITS
from edgeqwt.runtime.runners import reference

POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "RESIZE_BILINEAR")
HOMOGENEOUS = ("NONE", "RELU")  # fused activations f with f(k x) = k f(x) for k > 0


def channels(graph: Graph) -> Channels:
    """The factors of a float graph's activations; those of its inputs and outputs are 1."""
    factors, of = Factors(), {t: np.full(graph.tensors[t].shape, FIXED) for t in graph.inputs}
    for op in graph.ops:
        rule = PASSAGES.get(op.kind, _fixed)
        if op.activation not in HOMOGENEOUS and not is_linear(op):
            rule = _fixed
        # Integers have no factors; what is made of constants alone keeps its own.
        if not all(graph.tensors[t].is_float for t in op.outputs) or not any(t in of for t in op.inputs):
            rule = _fixed
        of |= dict(zip(op.outputs, rule(graph, op, of, factors), strict=True))
    for t in graph.outputs:
        if t in of:
            factors.fix(of[t])
    return factors.numbered({t: f for t, f in of.items() if graph.tensors[t].is_float})


Passage = Callable[[Graph, Op, Mapping[int, Array], Factors], list[Array]]
"""Gives the factors of an op's outputs, and ties those of its inputs as the op needs it."""


def _fixed(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    for t in op.inputs:
        if t in of:
            factors.fix(of[t])
    return [np.full(graph.tensors[t].shape, FIXED) for t in op.outputs]


def _linear(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    """New channels; the input's have one factor each, wherever they are read."""
    s = slots(op)
    out = graph.tensors[s.output]
    held = [graph.tensors[t] for t in (s.weight, s.bias) if t >= 0]
    if not all(tensor.is_constant and tensor.is_float for tensor in held):
        return _fixed(graph, op, of, factors)
    if s.data in of:
        x = of[s.data]
        if op.kind == "FULLY_CONNECTED":  # its rows may be made of several axes
            x = x.reshape(-1, graph.tensors[s.weight].shape[1])
        factors.tie(x, by_channel(x))
    made = factors.fresh(out.shape[-1])
    if op.activation not in HOMOGENEOUS:
        factors.fix(made)
    return [np.broadcast_to(made, out.shape)]


def _moved(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    """The op moves the numbers; PAD's zeros come out as ANY. A constant that is joined to others has channels too."""
    data = {t: of[t] for t in op.inputs if t in of and graph.tensors[t].is_float}
    joined = {t for t in op.inputs if t >= 0 and graph.tensors[t].is_constant and graph.tensors[t].is_float}
    if (joined and op.kind != "CONCATENATION") or any(t in of for t in op.inputs if t not in data):
        return _fixed(graph, op, of, factors)
    for t in sorted(joined):
        shape = graph.tensors[t].shape
        data[t] = np.broadcast_to(factors.fresh(shape[-1]), shape)
    piece = graph.slice([graph.ops.index(op)], list(data), list(op.outputs))
    given = dict(zip(piece.inputs, data.values(), strict=True))
    values = reference(piece).run({t: numbers.astype(np.float32) for t, numbers in given.items()})
    return [np.rint(values[t]).astype(np.int64) for t in piece.outputs]


def _padded(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    """PADV2 with zero, or with a fill, which have any factor."""
    amounts, pad = (graph.tensors[t].data for t in op.inputs[1:3])
    if amounts is None or pad is None or op.inputs[0] not in of or (pad.any() and not has_fills(pad)):
        return _fixed(graph, op, of, factors)
    return [np.pad(of[op.inputs[0]], [tuple(pair) for pair in amounts.tolist()], constant_values=ANY)]


def _gathered(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    """Columns of a constant table are new channels, whichever rows are picked."""
    if not table_columns(graph, op):
        return _moved(graph, op, of, factors)
    shape = graph.tensors[op.outputs[0]].shape
    return [np.broadcast_to(factors.fresh(shape[-1]), shape)]


def table_columns(graph: Graph, op: Op) -> bool:
    """Whether a GATHER picks rows of a constant float table, whose columns then are the output's channels."""
    if op.kind != "GATHER" or op.options.get("batchDims"):
        return False
    table = graph.tensors[op.inputs[0]]
    picked = int(op.options.get("axis", 0)) % max(len(table.shape), 1)
    return table.is_constant and table.is_float and len(table.shape) > 1 and picked != len(table.shape) - 1


def _pooled(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    """Positions of one channel are mixed."""
    x, shape = of[op.inputs[0]], graph.tensors[op.outputs[0]].shape
    axes = np.array([1, 2]) if op.kind in POOLS else graph.tensors[op.inputs[1]].data
    if axes is None or not shape or shape[-1] != x.shape[-1] or (x.ndim - 1 in axes.reshape(-1) % x.ndim):
        return _fixed(graph, op, of, factors)  # a mean over channels
    factors.tie(x, by_channel(x))
    return [np.broadcast_to(by_channel(x), shape)]


def _summed(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    """Both sides have the same factors; a constant is multiplied along, element by element."""
    shape = graph.tensors[op.outputs[0]].shape
    sides = [np.broadcast_to(of[t], shape) for t in op.inputs if t in of]
    if len(sides) == 1 and op.kind in ("ADD", "SUB"):
        wide = _constant_shape(graph, op, varying(factors.canonical(sides[0])))
        sides.append(np.broadcast_to(by_element(sides[0], wide), shape))
    sides += [np.full(shape, FIXED)] * (2 - len(sides))
    factors.tie(*sides)
    return [np.maximum(*sides)]


def _scaled(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    """A constant takes up factors and gives channels new ones; a gate has the factor 1, the other side keeps its."""
    shape = graph.tensors[op.outputs[0]].shape
    kept, *others = sorted((of[t] for t in op.inputs if t in of), key=lambda f: -int((f > FIXED).sum()))
    if others:
        for gate in others:
            factors.fix(gate)
        return [np.broadcast_to(kept, shape)]
    x = np.broadcast_to(kept, shape)
    apart = varying(factors.canonical(x))
    wide = _constant_shape(graph, op, apart)
    factors.tie(x, by_element(x, wide))
    # Of what a constant has besides channels, positions say, factors of their own would be of no use to readers.
    new = tuple(n if a == len(wide) - 1 or apart[a] else 1 for a, n in enumerate(wide))
    return [np.broadcast_to(factors.fresh(int(np.prod(new))).reshape(new), shape)]


def _constant_shape(graph: Graph, op: Op, apart: tuple[bool, ...]) -> tuple[int, ...]:
    """The shape of an op's constant operand, repeated along the axes along which the other's factors vary."""
    shape = graph.tensors[op.outputs[0]].shape
    own = next(graph.tensors[t].shape for t in op.inputs if graph.tensors[t].is_constant)
    own = (1,) * (len(shape) - len(own)) + own
    return tuple(n if varies else o for n, o, varies in zip(shape, own, apart, strict=True))


def _passed(graph: Graph, op: Op, of: Mapping[int, Array], factors: Factors) -> list[Array]:
    """f(k x) = k f(x) for k > 0, element by element."""
    return [of[op.inputs[0]]]


_MOVING = (
    *MOVES, *SPLITS, *JOINS, "PAD", "MIRROR_PAD", "RESIZE_NEAREST_NEIGHBOR", "SPACE_TO_DEPTH", "TILE",
    "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "BROADCAST_TO", "REVERSE_V2",
)  # fmt: skip

PASSAGES: Mapping[str, Passage] = MappingProxyType(
    {
        **{kind: _linear for kind, rule in RULES.items() if rule.linear},
        **dict.fromkeys(_MOVING, _moved),
        **dict.fromkeys((*POOLS, "MEAN", "REDUCE_MAX", "REDUCE_MIN"), _pooled),
        **dict.fromkeys(("ADD", "SUB", "MAXIMUM", "MINIMUM"), _summed),
        **dict.fromkeys(("RELU", "LEAKY_RELU", "PRELU", "ABS"), _passed),
        "GATHER": _gathered,
        "PADV2": _padded,
        "MUL": _scaled,
        "BATCH_MATMUL": matmul,
    }
)
"""What each kind of op does to factors; all others need the factor 1."""
