"""Probabilities that vary by less than a step of the scale that their kernels demand.

LOGISTIC and SOFTMAX have one scale for all models: 1/256 in 8 bits. A class that never fires (5e-6 for most samples,
1e-5 for some) is 0 in integers of that scale. Nothing is lost there that anybody could see, yet held against its own
variation it has less than 0 dB, and no remedy gives it more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import DTYPES, Array, Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import rule_at
from edgeqwt.runtime.runners import InterpreterError, reference
from edgeqwt.verify.metrics import Sums
from edgeqwt.verify.parts import CONVERTING, MOVING, is_value

PROBABILITIES = ("LOGISTIC", "SOFTMAX")


def probable(graph: Graph, tensor: int) -> Array:
    """Which elements of a float graph's tensor are probabilities: values of LOGISTIC or SOFTMAX, moved at most.

    Args:
        graph: static shapes.
        tensor: an activation of it.

    Returns:
        Booleans of the tensor's shape.
    """
    producers, shape = graph.producers(), graph.tensors[tensor].shape
    leaves, inside = _moved(graph, tensor)
    ends = {t: t in producers and graph.ops[producers[t]].kind in PROBABILITIES for t in leaves}
    if not any(ends.values()) or min(shape, default=1) < 0:
        return np.zeros(shape, bool)
    if all(ends.values()) and not any(graph.ops[i].kind == "PAD" for i in inside):
        return np.ones(shape, bool)
    alone, new = _zeroed(graph).slice_with_index(inside, leaves, [tensor])
    feeds = {new[t]: np.full(graph.tensors[t].shape, float(end), np.float32) for t, end in ends.items()}
    try:
        found: Array = reference(alone).run(feeds)[new[tensor]] == 1
    except InterpreterError:  # an op that LiteRT does not run on floats
        return np.zeros(shape, bool)
    return found


def back_to_logistic(graph: Graph, tensor: int) -> tuple[int, ...]:
    """A tensor whose values are all results of LOGISTIC, picked or moved at most, and those on the way back to them.

    Args:
        graph: float.
        tensor: an activation of it.

    Returns:
        The tensor, and the results of LOGISTIC last; nothing where a value of it is something else.
    """
    producers, found, ends, todo = graph.producers(), dict[int, None](), list[int](), [tensor]
    while todo:
        t = todo.pop()
        op = graph.ops[producers[t]] if t in producers else None
        if t in found or op is None or op.kind not in RULES:
            if t not in found:
                return ()
            continue
        found[t] = None
        moved = [op.inputs[k] for k in RULES[op.kind].tied_inputs(op)]
        if op.kind == "LOGISTIC":
            ends.append(t)
        elif not moved or any(graph.tensors[u].is_constant for u in moved):
            return ()
        todo += [] if op.kind == "LOGISTIC" else moved
    return (*(t for t in found if t not in ends), *ends)


def probable_step(graph: Graph, tensor: int) -> float:
    """The step that LOGISTIC and SOFTMAX have at the fewest bits of a graph's probabilities on their way to a tensor.

    That is not the tensor's own: where the scale of something else that is joined in is coarser, that is to blame.

    Args:
        graph: integer, or float with some tensors rounded.
        tensor: an output of it; ops that move values or convert them are passed.

    Returns:
        In real units; 0 where they stay float, or nothing of the tensor is a probability.
    """
    producers, largest = graph.producers(), 0.0
    seen, todo = {tensor}, [(tensor, 0)]
    while todo:
        t, behind = todo.pop()
        here = graph.tensors[t]
        bits = min({8 * np.dtype(DTYPES[here.dtype]).itemsize if here.quantization else 0, behind} - {0}, default=0)
        op = graph.ops[producers[t]] if t in producers else None
        if op is not None and op.kind in PROBABILITIES:
            fixed = rule_at(op.kind, bits).fixed_output if bits in (8, 16) else None
            largest = max(largest, fixed[0] if fixed else 0.0)
        elif op is not None and op.kind in MOVING | CONVERTING:
            further = [u for u in op.inputs if is_value(graph, u) and u not in seen]
            seen.update(further)
            todo += [(u, bits) for u in further]
    return largest


def unresolved(sums: Sums, step: float) -> bool:
    """Whether a probability is the same for all samples as far as steps tell, and the integers say so, too.

    Args:
        sums: of it, with what varies.
        step: what `probable_step` has.
    """
    return sums.spread is not None and sums.samples > 1 and sums.spread.reach < step and sums.max_abs < step


def _moved(graph: Graph, tensor: int) -> tuple[list[int], list[int]]:
    """The tensors that a tensor's values are moved from, and the ops that move them, in order."""
    producers, leaves, inside, todo = graph.producers(), set[int](), set[int](), [tensor]
    while todo:
        t = todo.pop()
        op = graph.ops[producers[t]] if t in producers else None
        if op is None or op.kind not in MOVING or op.activation != "NONE":
            leaves.add(t)
        elif producers[t] not in inside:
            inside.add(producers[t])
            todo += [u for u in op.inputs if is_value(graph, u)]
    made = {t for i in inside for t in graph.ops[i].outputs}
    return sorted(leaves - made), sorted(inside)


def _zeroed(graph: Graph) -> Graph:
    """The graph whose real constants are zeros: they are no probabilities."""
    constants = ((i, t) for i, t in enumerate(graph.tensors) if t.is_float and t.is_constant)
    return graph.with_tensors({i: replace(t, data=np.zeros_like(t.data)) for i, t in constants})
