"""Which channels of a float graph share one factor, if the function is to stay the same.

A channel of a layer may be multiplied by k > 0 if everything that reads it divides by k. The
factor passes through ops that commute with it (RELU, pooling, PAD, TRANSPOSE, ...); ADD needs
the same factor on both sides; other ops need the factor 1. Here every element of every
activation gets the number of its factor; what an op moves about is found out by letting the op
move those numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.opset import RULES, slots
from edgeqwt.runtime.runners import reference

ANY, FIXED = 0, 1  # what is always zero takes any factor; the number of the factor that is 1
HOMOGENEOUS = ("NONE", "RELU")  # fused activations f with f(k x) = k f(x) for k > 0


@dataclass(frozen=True, eq=False)
class Channels:
    """Numbers of factors.

    Attributes:
        of: float activation tensor index -> int64, the tensor's shape: each element's factor.
        count: factors are numbered 0 (any factor will do), 1 (the factor 1) to count - 1.
    """

    of: Mapping[int, Array]
    count: int


class _Factors:
    """Union-find over factor numbers; FIXED stays the representative of its set."""

    def __init__(self) -> None:
        self.parent = [ANY, FIXED]

    def fresh(self, count: int) -> Array:
        first = len(self.parent)
        self.parent += range(first, first + count)
        return np.arange(first, first + count)

    def find(self, factor: int) -> int:
        root = factor
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[factor] != root:
            self.parent[factor], factor = root, self.parent[factor]
        return root

    def tie(self, first: Array, second: Array) -> None:
        """Makes factors equal, element by element."""
        pairs = np.stack(np.broadcast_arrays(first, second)).reshape(2, -1)
        for a, b in np.unique(pairs[:, (pairs != ANY).all(axis=0)], axis=1).T.tolist():
            low, high = sorted((self.find(a), self.find(b)))
            self.parent[high] = low

    def fix(self, factors: Array) -> None:
        self.tie(factors, np.full(1, FIXED))

    def numbered(self, of: Mapping[int, Array]) -> Channels:
        """All tensors' factors by their representatives, numbered without gaps."""
        roots = np.array([self.find(f) for f in range(len(self.parent))])
        kept, dense = np.unique(roots, return_inverse=True)
        return Channels({t: dense[factors] for t, factors in of.items()}, len(kept))


def channels(graph: Graph) -> Channels:
    """The factors of a float graph's activations; those of its inputs and outputs are 1."""
    factors, of = _Factors(), {t: np.full(graph.tensors[t].shape, FIXED) for t in graph.inputs}
    for op in graph.ops:
        rule = PASSAGES.get(op.kind, _fixed)
        if op.activation not in HOMOGENEOUS and not RULES[op.kind].linear:
            rule = _fixed
        of |= dict(zip(op.outputs, rule(graph, op, of, factors), strict=True))
    for t in graph.outputs:
        if t in of:
            factors.fix(of[t])
    return factors.numbered({t: f for t, f in of.items() if graph.tensors[t].is_float})


Passage = Callable[[Graph, Op, Mapping[int, Array], _Factors], list[Array]]
"""Gives the factors of an op's outputs, and ties those of its inputs as the op needs it."""


def _fixed(graph: Graph, op: Op, of: Mapping[int, Array], factors: _Factors) -> list[Array]:
    for t in op.inputs:
        if t in of:
            factors.fix(of[t])
    return [np.full(graph.tensors[t].shape, FIXED) for t in op.outputs]


def _linear(graph: Graph, op: Op, of: Mapping[int, Array], factors: _Factors) -> list[Array]:
    """New channels; the input's have one factor each, wherever they are read."""
    s = slots(op)
    out = graph.tensors[s.output]
    if not graph.tensors[s.weight].is_constant or (s.bias >= 0 and not graph.tensors[s.bias].is_constant):
        return _fixed(graph, op, of, factors)
    if s.data in of:
        factors.tie(of[s.data], _by_channel(of[s.data]))
    made = factors.fresh(out.shape[-1])
    if op.activation not in HOMOGENEOUS:
        factors.fix(made)
    return [np.broadcast_to(made, out.shape)]


def _moved(graph: Graph, op: Op, of: Mapping[int, Array], factors: _Factors) -> list[Array]:
    """The op moves the numbers; PAD's zeros come out as ANY."""
    data = [t for t in op.inputs if t in of and graph.tensors[t].is_float]
    constants = [t for t in op.inputs if t >= 0 and graph.tensors[t].is_constant and graph.tensors[t].is_float]
    if constants or any(t in of for t in op.inputs if t not in data):
        return _fixed(graph, op, of, factors)
    piece = graph.slice([graph.ops.index(op)], list(dict.fromkeys(data)), list(op.outputs))
    given = dict(zip(piece.inputs, dict.fromkeys(data), strict=True))
    values = reference(piece).run({new: of[old].astype(np.float32) for new, old in given.items()})
    return [np.rint(values[t]).astype(np.int64) for t in piece.outputs]


def _pooled(graph: Graph, op: Op, of: Mapping[int, Array], factors: _Factors) -> list[Array]:
    """Positions of one channel are mixed."""
    x, shape = of[op.inputs[0]], graph.tensors[op.outputs[0]].shape
    if shape[-1] != x.shape[-1]:  # a mean over channels
        return _fixed(graph, op, of, factors)
    factors.tie(x, _by_channel(x))
    return [np.broadcast_to(_by_channel(x), shape)]


def _summed(graph: Graph, op: Op, of: Mapping[int, Array], factors: _Factors) -> list[Array]:
    """Both sides have the same factors; constants have the factor 1."""
    sides = [of.get(t, np.full(graph.tensors[t].shape, FIXED)) for t in op.inputs]
    factors.tie(*sides)
    return [np.maximum(*sides)]


def _scaled(graph: Graph, op: Op, of: Mapping[int, Array], factors: _Factors) -> list[Array]:
    """One side keeps its factors, the other, a gate or a constant, has the factor 1."""
    shape = graph.tensors[op.outputs[0]].shape
    kept, *others = sorted((of[t] for t in op.inputs if t in of), key=lambda f: -int((f > FIXED).sum()))
    for gate in others:
        factors.fix(gate)
    return [np.broadcast_to(kept, shape)]


def _passed(graph: Graph, op: Op, of: Mapping[int, Array], factors: _Factors) -> list[Array]:
    """f(k x) = k f(x) for k > 0, element by element."""
    return [of[op.inputs[0]]]


def _by_channel(x: Array) -> Array:
    """One factor per channel: that of a position where it is not ANY."""
    return np.asarray(x.reshape(-1, x.shape[-1]).max(axis=0))


_MOVING = (
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "CONCATENATION", "PACK", "UNPACK", "SPLIT", "SPLIT_V", "SLICE",
    "STRIDED_SLICE", "PAD", "MIRROR_PAD", "RESIZE_NEAREST_NEIGHBOR", "SPACE_TO_DEPTH", "GATHER", "TILE",
)  # fmt: skip

PASSAGES: Mapping[str, Passage] = MappingProxyType(
    {
        **{kind: _linear for kind, rule in RULES.items() if rule.linear},
        **dict.fromkeys(_MOVING, _moved),
        **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "RESIZE_BILINEAR"), _pooled),
        **dict.fromkeys(("ADD", "SUB", "MAXIMUM", "MINIMUM"), _summed),
        **dict.fromkeys(("RELU", "LEAKY_RELU", "ABS"), _passed),
        "MUL": _scaled,
    }
)
"""What each kind of op does to factors; all others need the factor 1."""
