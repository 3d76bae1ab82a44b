"""Functions of one variable that exporters write out, written as the one op that computes them.

GELU comes as tanh(0.7979 (x + 0.0447 x^3)) in many spellings, and as an erf that is itself a polynomial times EXP:
up to two dozen ops, each of which would be rounded; HARD_SWISH as x relu6(x + 3) / 6. No spelling is looked for. Ops
that make an element of their result from one element of one tensor are run, in LiteRT, on numbers all over the range
where the function is curved, and replaced where they give its values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from math import erf

import numpy as np

from edgeqwt.errors import ToolError
from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.prepare.rewriting import rewritten, uses, value
from edgeqwt.runtime.runners import xnnpack

ELEMENTWISE = (
    "ADD", "SUB", "MUL", "DIV", "POW", "SQUARE", "SQUARED_DIFFERENCE", "SQRT", "RSQRT", "EXP", "ABS", "SIGN", "NEG",
    "TANH", "LOGISTIC", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "RELU_0_TO_1",
)  # fmt: skip
CURVES = frozenset({"TANH", "EXP", "LOGISTIC"})  # one of them is in every spelling of GELU
CLIPS = frozenset({"RELU6", "RELU_0_TO_1", "MINIMUM"})  # and of these of HARD_SWISH; RELU6 may be fused
POINTS = np.concatenate([np.linspace(-12, 12, 4001), [-50.0, -20.0, 20.0, 50.0]]).astype(np.float32)
# At x, rounding in float32 is a few times 2^-24 of what is added to x; erf is within 1.5e-7 by Abramowitz and
# Stegun 7.1.26. The two GELUs are 5e-4 apart.
TOLERANCE = 1e-6
LONGEST = 32  # ops that a function is written out with


@dataclass(frozen=True)
class _Region:
    """Ops that together compute a function of each element.

    Attributes:
        source: the only activation that they read from outside.
        ops: their indices.
    """

    source: int
    ops: frozenset[int]


def gelu(graph: Graph) -> tuple[Graph, list[str]]:
    """Replaces ops that compute GELU, exact or by tanh."""

    def found(region: _Region, out: int) -> Op | None:
        approximate = _gelu(graph, region, out)
        return None if approximate is None else Op("GELU", (region.source,), (out,), {"approximate": approximate})

    return _replaced(graph, ("MUL",), CURVES, found)  # by x or by 1/2: the last op of every spelling


def hard_swish(graph: Graph) -> tuple[Graph, list[str]]:
    """Replaces ops that compute HARD_SWISH."""

    def found(region: _Region, out: int) -> Op | None:
        same = _close(_values(graph, region, out), _hard_swish(POINTS.astype(np.float64)))
        return Op("HARD_SWISH", (region.source,), (out,)) if same else None

    return _replaced(graph, ("MUL", "DIV"), CLIPS, found)


def _replaced(
    graph: Graph, last: Sequence[str], bends: Set[str], found: Callable[[_Region, int], Op | None]
) -> tuple[Graph, list[str]]:
    """The graph with regions as one op each.

    Args:
        graph: float.
        last: kinds of ops that a region may end with.
        bends: kinds of ops or fused activations of which it has one.
        found: the op that stands in for a region and writes its result; None where it computes something else.
    """
    whole, dropped = dict[int, Op](), set[int]()
    for i, op in enumerate(graph.ops):
        if op.kind not in last:
            continue
        for region in _regions(graph, i, bends):
            made = found(region, op.outputs[0]) if dropped.isdisjoint(region.ops) else None
            if made is not None:
                whole[i] = made
                dropped |= region.ops - {i}
                break
    return rewritten(graph, whole, dropped)


def _regions(graph: Graph, last: int, bends: Set[str]) -> list[_Region]:
    """Regions that end with an op and have one of some ops or fused activations, the smallest first."""
    shape, ops, found = graph.tensors[graph.ops[last].outputs[0]].shape, {last}, list[_Region]()
    sources, known = _operands(graph, graph.ops[last], shape), uses(graph)
    while sources and len(ops) <= LONGEST:
        if len(sources) == 1 and any({graph.ops[i].kind, graph.ops[i].activation} & bends for i in ops):
            found.append(_Region(next(iter(sources)), frozenset(ops)))
        latest = max(sources, key=lambda t: known.producers.get(t, -1))
        index = known.producers.get(latest, -1)
        operands = _operands(graph, graph.ops[index], shape) if index >= 0 else None
        if operands is None or latest in known.named or not ops.issuperset(known.readers[latest]):
            break
        ops.add(index)
        sources = (sources - {latest}) | operands
    return found


def _operands(graph: Graph, op: Op, shape: tuple[int, ...]) -> set[int] | None:
    """The activations that an op combines element by element with numbers; None if it does something else."""
    if op.kind not in ELEMENTWISE or op.activation not in ("NONE", "RELU", "RELU6"):
        return None
    activations = {t for t in op.inputs if value(graph, t) is None}
    tensors = [graph.tensors[t] for t in (*op.inputs, *op.outputs)]
    # One number: of a constant with several, each element would get a function of its own.
    fits = all(t.size == 1 if t.is_constant else t.shape == shape for t in tensors)
    return activations if fits and all(t.is_float for t in tensors) else None


def _gelu(graph: Graph, region: _Region, out: int) -> bool | None:
    """Whether a region computes GELU by tanh (True), the exact one (False), or something else."""
    values = _values(graph, region, out)
    return next((approximate for approximate, wanted in _wanted().items() if _close(values, wanted)), None)


def _close(values: Array | None, wanted: Array) -> bool:
    return values is not None and bool((np.abs(values - wanted) <= TOLERANCE * (1 + np.abs(POINTS))).all())


def _values(graph: Graph, region: _Region, out: int) -> Array | None:
    """What a region makes of `POINTS`; None if LiteRT cannot run it."""

    def resized(tensor: Tensor) -> Tensor:
        if tensor.data is not None:
            return replace(tensor, shape=(), data=tensor.data.reshape(()), shape_signature=None)
        return replace(tensor, shape=POINTS.shape, shape_signature=None)

    alone = graph.slice(sorted(region.ops), [region.source], [out])
    alone = alone.with_tensors({t: resized(tensor) for t, tensor in enumerate(alone.tensors)})
    try:
        return xnnpack(alone).run({alone.inputs[0]: POINTS})[alone.outputs[0]].astype(np.float64)
    except ToolError:
        return None


def _exact(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + np.array([erf(v) for v in x / np.sqrt(2)])))


def _by_tanh(x: Array) -> Array:
    """Hendrycks and Gimpel 2016, section 2."""
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def _hard_swish(x: Array) -> Array:
    """Howard et al. 2019, section 5.2."""
    return np.asarray(x * np.clip(x + 3, 0, 6) / 6)


@cache
def _wanted() -> Mapping[bool, Array]:
    """GELU at `POINTS`, by whether it is the approximate one."""
    x = POINTS.astype(np.float64)
    return {False: _exact(x), True: _by_tanh(x)}
