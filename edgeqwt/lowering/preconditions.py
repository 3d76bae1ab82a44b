"""What stands in the way of an integer graph, said in terms of the source model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.errors import InputError, UnsupportedError
from edgeqwt.graph.fills import chosen_from
from edgeqwt.graph.graph import Graph, Op
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import ACTIVATION_LIMITS, RULES, Form
from edgeqwt.graph.opset16 import DTYPE, RULES16
from edgeqwt.lowering.forms import form_of, has_one_variable
from edgeqwt.profile import LITERT, Kernels
from edgeqwt.runtime.boundary import limits

Objection = tuple[str, str]
"""The rule that an op breaks, as the end of a sentence, and a hint."""

OTHER_FLOATS = ("float16", "float64", "bfloat16", "complex64", "complex128", "string")
# Beyond, products of two scales leave float32, and multipliers the 31 bits that kernels can shift by.
SMALLEST_SCALE, LARGEST_SCALE = 1e-35, 1e18
TWO_VARIABLES = "Make one of both a number, or cut the model there and compute it in the application."
REPLACE = "Replace it in the source model, or cut the model there."


def check_lowerable(
    graph: Graph, kernels: Kernels = LITERT, floats: Set[str] = frozenset(), every: bool = False
) -> None:
    """Looks for what has no integer form, before anything is run.

    Args:
        graph: float.
        kernels: what the target's kernels can do, and the target's name and source locations, for messages.
        floats: names of tensors whose ops stay float, and need no such form.
        every: whether all ops stay float.

    Raises:
        UnsupportedError: names the first such op, its location in the source model, the rule and a way out.
        InputError: a constant holds NaN or infinite values.
    """
    if graph.others:
        what = f"it has {len(graph.others) + 1} subgraphs (control flow)"
        raise UnsupportedError("the model", kernels.target, what, "Export it without loops and conditions on data.")
    for i, op in enumerate(graph.ops):
        kept = op.kind in RULES and (every or any(graph.tensors[t].name in floats for t in op.outputs))
        objection = None if kept else _objection(graph, op)
        if objection is not None:
            raise UnsupportedError(described(graph, i, kernels.locations), kernels.target, *objection)
        _check_constants(graph, i, kernels.locations)


def large_values(graph: Graph, statistics: Mapping[int, Statistics]) -> set[int]:
    """The ops, by index, whose values their 8-bit form does not hold as that of 16 does.

    CASTs of integers beyond 8 bits at scale 1, which are places in a large map, and functions whose 8-bit kernels have
    an output scale of their own, where values lie beyond its end: LOG_SOFTMAX ends at -16, and classes of which a
    network is sure that they are not there have less.
    """
    found = set[int]()
    for i, op in enumerate(graph.ops):
        seen = statistics.get(op.outputs[0]) if op.outputs and op.kind in RULES16 else None
        if seen is not None and op.kind == "CAST":
            found |= {i} if _holds(16, seen) and not _holds(8, seen) else set()
        elif seen is not None and (fixed := RULES[op.kind].fixed_output) is not None:
            scale, zero_point = fixed
            found |= {i} if seen.low < (limits("int8")[0] - zero_point - 1) * scale else set()
    return found


def _holds(bits: int, seen: Statistics) -> bool:
    """Whether integers of a width hold all values at scale 1."""
    low, high = limits(DTYPE[bits])
    return low <= seen.low and seen.high <= high


def check_observed(
    graph: Graph, statistics: Mapping[int, Statistics], widths: Sequence[int], kernels: Kernels = LITERT
) -> None:
    """Looks for values on the calibration data that an op's integer form cannot have.

    Args:
        graph: float, lowerable.
        statistics: of every float activation.
        widths: of the activations of each op, in bits.
        kernels: what messages name.

    Raises:
        UnsupportedError: as check_lowerable.
    """
    for i, op in enumerate(graph.ops):
        objection = None
        if op.kind == "CAST" and op.outputs[0] in statistics and widths[i] in DTYPE:
            seen = statistics[op.outputs[0]]
            if not _holds(widths[i], seen):
                objection = (
                    f"its integers reach {seen.low:g}..{seen.high:g}, which does not fit {DTYPE[widths[i]]} at scale 1",
                    "Divide them by a number before they become floats, as integers (//), or let it be float: "
                    f"--layer '{graph.tensors[op.outputs[0]].name}=keep_float'.",
                )
        if objection is not None:
            raise UnsupportedError(described(graph, i, kernels.locations), kernels.target, *objection)


def check_scales(
    graph: Graph, scales: Mapping[int, float], locations: Mapping[str, str], statistics: Mapping[int, Statistics]
) -> None:
    """Looks for scales at which kernels abort: those of values that no network computes on purpose.

    Args:
        graph: float.
        scales: of its activations.
        locations: tensor name to the location in the source model.
        statistics: of every float activation.

    Raises:
        InputError: names the tensor, what it holds, and the op that computes it.
    """
    producers = graph.producers()
    for t, scale in scales.items():
        if SMALLEST_SCALE <= scale <= LARGEST_SCALE:
            continue
        seen, op = statistics.get(t), producers.get(t)
        by = "an input of the model" if op is None else f"computed by {described(graph, op, locations)}"
        values = "" if seen is None else f", whose values reach {seen.low:.3g}..{seen.high:.3g}"
        raise InputError(
            f"tensor {graph.tensors[t].name!r}, {by}{values}, would need a scale of {scale:.3g}: integer kernels "
            f"take {SMALLEST_SCALE:.0e} to {LARGEST_SCALE:.0e}",
            "Look for a fill value or a mask (-1e9, -3.4e38) that is computed with, and write it as torch.where or "
            "masked_fill right before the softmax or maximum, or with a number no larger than the data.",
        )


def described(graph: Graph, op_index: int, locations: Mapping[str, str]) -> str:
    """An op as messages name it: kind, index, output tensor, and its location in the source model if known."""
    names = [graph.tensors[t].name for t in graph.ops[op_index].outputs]
    location = next((locations[name] for name in names if name in locations), "")
    return graph.describe(op_index) + (f" (in the source: {location})" if location else "")


def _objection(graph: Graph, op: Op) -> Objection | None:
    if op.kind not in RULES:
        name = f"custom op {op.custom_code!r}" if op.kind == "CUSTOM" else op.kind
        return f"{name} is not in the op table", REPLACE
    tensors = [graph.tensors[t] for t in op.tensors]
    odd = next((t for t in tensors if t.dtype in OTHER_FLOATS), None)
    if odd is not None:
        return f"tensor {odd.name!r} is {odd.dtype}", "Export the model in float32."
    if not any(t.is_float for t in tensors):
        return None
    if op.activation not in ACTIVATION_LIMITS:
        return f"its fused activation {op.activation} has no integer form", REPLACE
    form = form_of(graph, op)
    if all(t < 0 or graph.tensors[t].is_constant for t in op.inputs):
        return "all its inputs are constant", "Compute it beforehand (edgeqwt.prepare does)."
    if form is Form.REWRITTEN:
        return "it is not in the form that edgeqwt writes with other ops", f"{RULES[op.kind].note} {REPLACE}"
    if form is Form.LOOKUP and not has_one_variable(graph, op):
        return f"{op.kind} of two variables has no integer kernel", TWO_VARIABLES
    if form is Form.INTEGER and any(graph.tensors[t].is_float for t in op.outputs):
        return f"{op.kind} has no int8 form", REPLACE
    return _linear_objection(graph, op) if form is Form.LINEAR else None


def _linear_objection(graph: Graph, op: Op) -> Objection | None:
    s = slots(op)
    weights, bias = graph.tensors[s.weight], graph.tensors[s.bias] if s.bias >= 0 else None
    if not weights.is_constant:
        return f"its weights {weights.name!r} are not constant", "Write it as a matrix product of two tensors."
    if not weights.is_float:
        return f"its weights {weights.name!r} are {weights.dtype} already", "Give the float model it was made from."
    if bias is not None and not bias.is_constant:
        return f"its bias {bias.name!r} is not constant", "Write the sum as an op of its own."
    return None


def _check_constants(graph: Graph, op_index: int, locations: Mapping[str, str]) -> None:
    for t in graph.ops[op_index].inputs:
        tensor = graph.tensors[t] if t >= 0 else None
        if tensor is None or tensor.data is None or not tensor.is_float or np.isfinite(tensor.data).all():
            continue
        op = graph.ops[op_index]
        chosen = chosen_from(op.kind, len(op.inputs))
        compared = op.kind in RULES and RULES[op.kind].form is Form.COMPARE
        if not np.isnan(tensor.data).any() and (
            compared or all(s in chosen for s, u in enumerate(op.inputs) if u == t)
        ):
            continue  # a fill, for which the end of the range does; or a comparison with infinity, which is decided
        raise InputError(
            f"constant {tensor.name!r} of {described(graph, op_index, locations)} holds NaN or infinite values",
            "Check the model's weights; write masks with finite numbers.",
        )
