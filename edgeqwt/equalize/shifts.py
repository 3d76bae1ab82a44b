"""What a shift of a tensor's channels makes of the tensors behind it, if the function is to stay the same.

A tensor may be stored as x - c, c being one constant per channel, if everything that reads it makes up for c: a linear
layer takes W c into its bias, a sum with a constant takes c into the constant; sums, products with constants, moves and
means within channels hand the shift on. So do the products of attention: rows of a softmax sum to 1, and
P (V - c) = P V - c for a c that all tokens share. Everything else forbids a shift, zeros around a map included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from edgeqwt.equalize.products import upright
from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.im2col import PATCHED, matrix, patches
from edgeqwt.graph.linear import has_constant_weights, is_linear, slots
from edgeqwt.graph.opset import JOINS, MOVES, RULES, SPLITS
from edgeqwt.runtime.runners import reference

MOVING = (*MOVES, *SPLITS, *JOINS)
POOLING = ("MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D")  # within channels, where a shift of the whole channel passes


@dataclass(frozen=True, eq=False)
class Carried:
    """A shift and what it comes to.

    Attributes:
        of: what every tensor that has a shift is smaller by: tensor index -> float32, the tensor's shape.
        taken: what must be added to the biases or constants of the ops that end it: op index -> (channels,).
    """

    of: Mapping[int, Array]
    taken: Mapping[int, Array]


@dataclass(frozen=True, eq=False)
class _Passed:
    """What one op makes of the shifts that it reads: those of its outputs, and what its own constant must take."""

    outputs: Mapping[int, Array]
    taken: Array | None = None


_Shifts = Mapping[int, Array]
_BLOCKED = None


def carried(graph: Graph, given: _Shifts) -> Carried | None:
    """What shifts of some tensors come to; None where the function would not stay the same.

    Args:
        graph: float.
        given: what tensors are smaller by: index -> float32, the tensor's shape.
    """
    of, taken = dict(given), dict[int, Array]()
    for i, op in enumerate(graph.ops):
        if not any(t in of for t in op.inputs):
            continue
        passed = PASSAGES.get(op.kind, _forbidden)(graph, op, of)
        if passed is _BLOCKED:
            return None
        of |= {t: of.get(t, 0) + shift for t, shift in passed.outputs.items() if shift.any()}
        if passed.taken is not None:
            taken[i] = passed.taken
    return None if any(t in of for t in graph.outputs) else Carried(of, taken)


def sources(graph: Graph) -> dict[int, int]:
    """Tensors that may be given any shift where they are computed, and the ops whose constants take it."""
    return {
        op.outputs[0]: i
        for i, op in enumerate(graph.ops)
        if op.activation == "NONE" and (constant_bias(graph, op) or _summand(graph, op) is not None)
    }


def constant_bias(graph: Graph, op: Op) -> bool:
    """Whether an op is a linear one on constant weights whose bias is constant, or not there yet."""
    return has_constant_weights(graph, op) and (slots(op).bias < 0 or graph.tensors[slots(op).bias].is_constant)


def with_constants(graph: Graph, changes: Mapping[int, Array]) -> Graph:
    """The graph with something added to the biases or summands of ops, each of which becomes a tensor of its own.

    Args:
        graph: float.
        changes: op index -> (channels,).
    """
    tensors, ops = list(graph.tensors), list(graph.ops)
    readers = graph.consumers()
    for i, change in changes.items():
        op = ops[i]
        slot = RULES[op.kind].bias if is_linear(op) else _summand(graph, op)
        assert slot is not None
        t = op.inputs[slot] if slot < len(op.inputs) else -1
        old = None if t < 0 else tensors[t]
        data = change if old is None else (old.stored.astype(np.float64) + change.reshape(old.shape))
        data = data.astype(np.float32)
        if old is not None and readers[t] == [i]:
            tensors[t] = replace(old, data=data)
            continue
        inputs = [*op.inputs, *[-1] * (slot + 1 - len(op.inputs))]
        inputs[slot] = len(tensors)
        tensors.append(Tensor(f"{tensors[op.outputs[0]].name}/absorbed", data.shape, "float32", data))
        ops[i] = replace(op, inputs=tuple(inputs))
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops))


def _forbidden(graph: Graph, op: Op, of: _Shifts) -> _Passed | None:
    return _BLOCKED


def _weighted(graph: Graph, op: Op, of: _Shifts) -> _Passed | None:
    """A linear op's output for the shift alone goes into its bias, if it is one value per channel."""
    s = slots(op)
    weights = graph.tensors[s.weight].data
    if weights is None or op.kind not in PATCHED or not constant_bias(graph, op):
        return _BLOCKED
    # Positions that read padding, which nobody shifts, have other rows.
    rows = patches(op, of[s.data], weights.shape)
    if (rows != rows[:, :1]).any():
        return _BLOCKED
    columns = matrix(op.kind, weights.astype(np.float64), len(rows)).transpose(0, 2, 1)
    return _Passed({}, np.asarray(np.matmul(rows[:, :1].astype(np.float64), columns).reshape(-1)))


def _moved(graph: Graph, op: Op, of: _Shifts) -> _Passed | None:
    """The op moves the shifts; what it joins to them has none."""
    joined = [t for t in op.inputs if graph.tensors[t].is_float]
    if op.activation != "NONE" or any(not graph.tensors[t].is_constant for t in op.inputs if t not in joined):
        return _BLOCKED
    piece, new = graph.slice_with_index([graph.ops.index(op)], joined, list(op.outputs))
    given = {new[t]: of.get(t, np.zeros(graph.tensors[t].shape)).astype(np.float32) for t in joined}
    values = reference(piece).run(given)
    return _Passed({t: values[new[t]] for t in op.outputs})


def _pooled(graph: Graph, op: Op, of: _Shifts) -> _Passed | None:
    """Each output is of elements of one channel, all shifted alike."""
    shift, out = of[op.inputs[0]], graph.tensors[op.outputs[0]]
    rows = shift.reshape(-1, shift.shape[-1])
    if op.activation != "NONE" or (rows != rows[0]).any() or out.shape[-1] != shift.shape[-1]:
        return _BLOCKED
    return _moved(graph, op, of)


def _summed(graph: Graph, op: Op, of: _Shifts) -> _Passed | None:
    """A constant per channel takes the shift; otherwise the sum has both."""
    if op.activation != "NONE":
        return _BLOCKED
    shape, sign = graph.tensors[op.outputs[0]].shape, -1 if op.kind == "SUB" else 1
    first, second = (np.broadcast_to(of.get(t, np.float32(0)), shape) for t in op.inputs)
    shift = np.asarray(first + sign * second)
    rows = shift.reshape(-1, shape[-1]) if shape else shift
    if _summand(graph, op) is None or (rows != rows[0]).any():
        return _Passed({op.outputs[0]: shift})
    return _Passed({}, rows[0].astype(np.float64))


def _scaled(graph: Graph, op: Op, of: _Shifts) -> _Passed | None:
    """A constant multiplies the shift along."""
    constant = next((graph.tensors[t].data for t in op.inputs if graph.tensors[t].is_constant), None)
    if constant is None or op.activation != "NONE":
        return _BLOCKED
    shift = next(of[t] for t in op.inputs if t in of)
    return _Passed({op.outputs[0]: np.broadcast_to(shift * constant, graph.tensors[op.outputs[0]].shape)})


def _attended(graph: Graph, op: Op, of: _Shifts) -> _Passed | None:
    """P V: each row of P sums to 1."""
    producer = graph.producers().get(op.inputs[0])
    weights = None if producer is None else graph.ops[producer].kind
    if weights != "SOFTMAX" or op.options.get("adjX"):
        return _BLOCKED
    values = upright(op, 1, of[op.inputs[1]])
    if (values != values[..., :1, :]).any():
        return _BLOCKED
    return _Passed({op.outputs[0]: np.broadcast_to(values[..., :1, :], graph.tensors[op.outputs[0]].shape)})


def _summand(graph: Graph, op: Op) -> int | None:
    """The slot of an ADD's constant that has a value for each channel; None where there is none."""
    if op.kind != "ADD" or not graph.tensors[op.outputs[0]].is_float:
        return None
    shape = graph.tensors[op.outputs[0]].shape
    for slot, t in enumerate(op.inputs):
        constant, other = graph.tensors[t], graph.tensors[op.inputs[1 - slot]]
        each = constant.is_constant and constant.shape and constant.size == constant.shape[-1] == shape[-1]
        if each and not other.is_constant and other.shape == shape:
            return slot
    return None


_Passage = Callable[[Graph, Op, _Shifts], _Passed | None]

PASSAGES: Mapping[str, _Passage] = MappingProxyType(
    {
        **{kind: _weighted for kind, rule in RULES.items() if rule.linear},
        **dict.fromkeys(MOVING, _moved),
        **dict.fromkeys(POOLING, _pooled),
        **dict.fromkeys(("ADD", "SUB"), _summed),
        "MUL": _scaled,
        "BATCH_MATMUL": _attended,
    }
)
"""What each kind of op does to shifts; all others forbid them."""
