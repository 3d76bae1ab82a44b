"""How far a tensor's values can reach, by the ops that compute it: whatever goes in, a sigmoid lies between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset import ACTIVATION_LIMITS, MOVES, SPLITS

CURVES: Mapping[str, tuple[float, float]] = {
    "LOGISTIC": (0, 1), "SOFTMAX": (0, 1), "TANH": (-1, 1), "SIN": (-1, 1), "COS": (-1, 1),
    **dict.fromkeys(("RELU", "ABS", "SQUARE", "SQUARED_DIFFERENCE", "EXP", "SQRT", "RSQRT"), (0, math.inf)),
     "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1),
    "RELU_0_TO_1": (0, 1),
}  # fmt: skip
KEEPING = (
    *MOVES, *SPLITS, "GATHER", "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "AVERAGE_POOL_2D", "MAX_POOL_2D",
    "MEAN", "REDUCE_MAX", "REDUCE_MIN", "BROADCAST_TO", "TILE",
)  # fmt: skip
WHOLE: Mapping[str, Callable[[float], float]] = {"FLOOR": math.floor, "CEIL": math.ceil, "ROUND": round}
SUMS = ("SUM", "FULLY_CONNECTED", "BATCH_MATMUL")
ANY = (-math.inf, math.inf)
FARTHEST = 32  # ops that are looked back over: what bounds an output stands near it


def reach(graph: Graph, t: int) -> tuple[float, float]:
    """The lowest and the highest value that a tensor can have; infinite where its ops leave that open.

    Args:
        graph: float.
        t: a tensor of real numbers.
    """
    producers, known = graph.producers(), dict[int, tuple[float, float]]()

    def found(t: int, left: int) -> tuple[float, float]:
        tensor, i = graph.tensors[t], producers.get(t)
        if tensor.data is not None and tensor.data.size:
            return float(tensor.data.min()), float(tensor.data.max())
        if i is None or not left:
            return ANY
        if t not in known:
            op = graph.ops[i]
            real = [u for u in op.inputs if u >= 0 and graph.tensors[u].is_float]
            square = op.kind == "MUL" and op.inputs[0] == op.inputs[1]
            low, high = _computed("SQUARE" if square else op.kind, [found(u, left - 1) for u in real])
            least, most = ACTIVATION_LIMITS.get(op.activation, (None, None))
            known[t] = low if least is None else max(low, least), high if most is None else min(high, most)
        return known[t]

    return found(t, FARTHEST)


def _computed(kind: str, given: list[tuple[float, float]]) -> tuple[float, float]:
    """What an op makes of what its real inputs reach."""
    if kind in CURVES:
        return CURVES[kind]
    if kind in KEEPING:
        return given[0]
    if kind in WHOLE and all(map(math.isfinite, given[0])):
        return WHOLE[kind](given[0][0]), WHOLE[kind](given[0][1])
    if kind in SUMS:
        return (0, math.inf) if all(low >= 0 for low, _ in given) else ANY
    if len(given) != 2:
        return ANY
    (a, b), (c, d) = given
    match kind:
        case "ADD":
            return a + c, b + d
        case "SUB":
            return a - d, b - c
        case "MINIMUM":
            return min(a, c), min(b, d)
        case "MAXIMUM":
            return max(a, c), max(b, d)
        case "MUL":
            ends = [0.0 if math.isnan(end) else end for end in (a * c, a * d, b * c, b * d)]
            return min(ends), max(ends)
    return ANY
