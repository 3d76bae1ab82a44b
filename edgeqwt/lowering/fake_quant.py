"""Networks trained with quantization: the ranges that training learned, taken out of the graph and put back.

Such a network rounds its activations and weights while it computes in float: QUANTIZE and DEQUANTIZE in a row, or
FAKE_QUANT (Jacob et al. 2018, section 3; what TensorFlow's model optimization toolkit and PyTorch's PT2E export).
`extracted` gives the float network below, whose weights are those that training rounded to, and the learned scales;
`inserted` makes the rounding network of it again, which is what an integer file is judged against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.converted import LearnedRanges
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Quantization, Tensor
from edgeqwt.graph.linear import channel_rows, is_linear, slots
from edgeqwt.graph.opset import RULES, Form
from edgeqwt.scales.ranges import Range
from edgeqwt.scales.scales import Scales

LOWEST = {"int8": -128, "uint8": 0, "int16": -32768, "int4": -8}
HIGHEST = {"int8": 127, "uint8": 255, "int16": 32767, "int4": 7}
LIMIT = 127  # of the integers of weights
ON_GRID = 1e-3  # steps that a weight may lie off its integer: float32 keeps 127 steps to 2^-24 * 127 < 1e-5


def is_fake_quantized(graph: Graph) -> bool:
    """Whether a graph computes in float and rounds on the way: what quantization-aware training exports."""
    graph = _moving_floats(graph)
    return any(op.kind == "FAKE_QUANT" for op in graph.ops) or (
        bool(_pairs(graph)) and all(_floats(graph, op) for op in graph.ops if op.kind not in ("QUANTIZE", "DEQUANTIZE"))
    )


def extracted(graph: Graph) -> tuple[Graph, LearnedRanges]:
    """The float graph without its rounding, and the scales that it rounds to.

    Args:
        graph: one that `is_fake_quantized`.
    """
    graph = _moving_floats(graph)
    activations: dict[str, tuple[float, int]] = {}
    weights: dict[str, Array] = {}
    editor, moved = Editor(graph), dict[int, int]()
    pairs = {pair.last: pair for pair in _pairs(graph)}
    dropped = {i for pair in pairs.values() for i in (pair.first, pair.last) if i is not None}
    for i, op in enumerate(graph.ops):
        if i in pairs:
            source, q, dtype = pairs[i].source, pairs[i].quantization, pairs[i].dtype
            tensor = graph.tensors[source]
            if tensor.data is None:
                moved[op.outputs[0]] = moved.get(source, source)
                activations.setdefault(tensor.name, _as_int8(q, dtype))
            else:
                integers = tensor.data if tensor.dtype == dtype else _rounded(tensor.data, q, dtype)
                values, name = q.real(integers).astype(np.float32), graph.tensors[op.outputs[0]].name
                editor.tensors[op.outputs[0]] = Tensor(name, values.shape, "float32", values)
                weights[name] = q.scale.astype(np.float64)
        elif i not in dropped:
            editor.add_op(replace(op, inputs=tuple(moved.get(t, t) for t in op.inputs)))
    outputs = [moved.get(t, t) for t in graph.outputs]
    return editor.finish(outputs=outputs), LearnedRanges(activations, weights)


def inserted(graph: Graph, learned: LearnedRanges) -> Graph:
    """A float graph that rounds the activations whose ranges were learned, as training did.

    Args:
        graph: float; activations are found by their names.
        learned: from `extracted`.
    """
    editor, moved = Editor(graph), dict[int, int]()

    def rounded(t: int) -> None:
        tensor = graph.tensors[t]
        if tensor.name not in learned.activations or not tensor.is_float:
            return
        q = Quantization.per_tensor(*learned.activations[tensor.name])
        # Whoever compares by name compares with what was rounded; only inputs must keep their names.
        before, after = (tensor.name, "real") if t in graph.inputs else (f"{tensor.name}/unrounded", "")
        editor.tensors[t] = replace(tensor, name=before)
        integer = editor.add_tensor(Tensor(f"{tensor.name}/rounded", tensor.shape, "int8", quantization=q))
        editor.tensors.append(Tensor(f"{tensor.name}/{after}".rstrip("/"), tensor.shape, "float32"))
        moved[t] = len(editor.tensors) - 1
        editor.add_op(Op("QUANTIZE", (t,), (integer,)))
        editor.add_op(Op("DEQUANTIZE", (integer,), (moved[t],), version=2))

    for t in graph.inputs:
        rounded(t)
    for op in graph.ops:
        editor.add_op(replace(op, inputs=tuple(moved.get(t, t) for t in op.inputs)))
        for t in op.outputs:
            rounded(t)
    return editor.finish(outputs=[moved.get(t, t) for t in graph.outputs])


def scales(graph: Graph, learned: LearnedRanges) -> Scales:
    """The learned scales by the tensors of a float graph.

    Where weights have no scale that is known, or rewrites of the graph have changed them since (a factor that went into
    them), it is the finest one at which they are integers; weights that are none at any are left to the rule.
    """
    activations = {*graph.inputs, *(t for op in graph.ops for t in op.outputs)}
    ranges: dict[int, Range] = {}
    for t in activations:
        found = learned.activations.get(graph.tensors[t].name)
        if found is not None:
            scale, zero_point = found
            ranges[t] = scale * (-128 - zero_point), scale * (127 - zero_point)
    weights: dict[int, Array] = {}
    for op in graph.ops:
        if not is_linear(op):
            continue
        t = slots(op).weight
        data, chosen = graph.tensors[t].data, learned.weights.get(graph.tensors[t].name)
        if data is None:
            continue
        rows = channel_rows(data.astype(np.float64), slots(op).axis)
        per_channel: Array | None = None
        if chosen is not None and len(chosen) in (1, len(rows)):
            per_channel = np.broadcast_to(chosen, (len(rows),)).astype(np.float64)
        if per_channel is None or not _on_grid(rows, per_channel).all():
            per_channel = _grid(rows)
        if per_channel is not None:
            weights[t] = per_channel
    return Scales(ranges, weights)


def _on_grid(rows: Array, scale: Array) -> Array:
    """Whether each channel's weights are integers at a scale."""
    steps = rows / scale[:, None]
    off = np.abs(steps - np.rint(steps)).max(axis=1, initial=0)
    return np.asarray((off < ON_GRID) & (np.abs(steps).max(axis=1, initial=0) < LIMIT + 0.5))


def _grid(rows: Array) -> Array | None:
    """The finest scale at which each channel's weights are integers, for weights whose scale nobody tells."""
    largest = np.abs(rows).max(axis=1, initial=0)
    largest = np.where(largest > 0, largest, 1.0)
    scale: Array = np.zeros(len(rows))
    for limit in range(LIMIT, 0, -1):
        left = np.flatnonzero(scale == 0)
        if not len(left):
            return scale
        tried = largest[left] / limit
        scale[left] = np.where(_on_grid(rows[left], tried), tried, 0)
    return scale if scale.all() else None


# -- where a graph rounds ------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """Ops that round one tensor: QUANTIZE and DEQUANTIZE, DEQUANTIZE of stored integers, or FAKE_QUANT alone."""

    first: int | None
    last: int
    source: int
    quantization: Quantization
    dtype: str


def _moving_floats(graph: Graph) -> Graph:
    """The graph with ops that move integers between QUANTIZE and DEQUANTIZE moving the rounded floats instead."""
    if not all(_rounds(op) or _moves(op) for op in graph.ops if _reads_integers(graph, op)):
        return graph  # it computes in integers
    editor, real = Editor(graph), dict[int, int]()  # integer tensor -> the same values as floats

    def floated(t: int) -> int:
        tensor = graph.tensors[t]
        if t not in real:
            real[t] = editor.add_tensor(Tensor(f"{tensor.name}/real", tensor.shape, "float32"))
            editor.add_op(Op("DEQUANTIZE", (t,), (real[t],), version=2))
        return real[t]

    moved = False
    for op in graph.ops:
        integers = [t for t in op.inputs if t >= 0 and not graph.tensors[t].is_constant and _is_rounded(graph, t)]
        if integers and _moves(op) and all(_is_rounded(graph, t) for t in op.outputs):
            inputs = tuple(floated(t) if t in integers else t for t in op.inputs)
            for t in op.outputs:
                tensor = graph.tensors[t]
                real[t] = editor.add_tensor(Tensor(f"{tensor.name}/real", tensor.shape, "float32"))
            editor.add_op(replace(op, inputs=inputs, outputs=tuple(real[t] for t in op.outputs)))
            moved = True
        elif op.kind == "DEQUANTIZE" and op.inputs[0] in real:
            # The floats are there already: a pair of its own keeps the name that readers and outputs know.
            shape = np.array(graph.tensors[op.outputs[0]].shape, np.int32)
            name = f"{graph.tensors[op.outputs[0]].name}/shape"
            constant = editor.add_tensor(Tensor(name, shape.shape, "int32", shape))
            editor.add_op(Op("RESHAPE", (real[op.inputs[0]], constant), op.outputs))
        else:
            editor.add_op(op)
    return editor.finish() if moved else graph


def _rounds(op: Op) -> bool:
    return op.kind in ("QUANTIZE", "DEQUANTIZE")


def _moves(op: Op) -> bool:
    """Whether an op only moves or picks values, so that it is the same on integers and on what they stand for."""
    rule = RULES.get(op.kind)
    return rule is not None and rule.bound == 0 and rule.form is Form.DIRECT and bool(rule.same_scale)


def _reads_integers(graph: Graph, op: Op) -> bool:
    return any(t >= 0 and _is_rounded(graph, t) for t in op.inputs)


def _is_rounded(graph: Graph, t: int) -> bool:
    return graph.tensors[t].dtype in LOWEST and graph.tensors[t].quantization is not None


def _pairs(graph: Graph) -> list[_Pair]:
    producers, found = graph.producers(), []
    for i, op in enumerate(graph.ops):
        if op.kind == "FAKE_QUANT":
            found.append(_Pair(None, i, op.inputs[0], *_nudged(op.options)))
        if op.kind != "DEQUANTIZE":
            continue
        t = op.inputs[0]
        tensor, before = graph.tensors[t], producers.get(t)
        if tensor.quantization is None or tensor.dtype not in LOWEST:
            continue
        if tensor.is_constant:
            found.append(_Pair(None, i, t, tensor.quantization, tensor.dtype))
        elif before is not None and graph.ops[before].kind == "QUANTIZE":
            source = graph.ops[before].inputs[0]
            if graph.tensors[source].is_float:
                found.append(_Pair(before, i, source, tensor.quantization, tensor.dtype))
    return found


def _floats(graph: Graph, op: Op) -> bool:
    return all(graph.tensors[t].quantization is None for t in op.tensors if t >= 0)


def _nudged(options: Mapping[str, object]) -> tuple[Quantization, str]:
    """Scale and zero point of FAKE_QUANT: its range moved so that zero is an integer (kernels/fake_quant.cc)."""
    low, high = float(str(options.get("min", 0.0))), float(str(options.get("max", 0.0)))
    bits, narrow = int(str(options.get("numBits", 8) or 8)), bool(options.get("narrowRange", False))
    least, most = (1 if narrow else 0), 2**bits - 1
    scale = (high - low) / (most - least) or 1.0
    zero_point = int(np.clip(round(least - low / scale), least, most))
    return Quantization.per_tensor(scale, zero_point), "uint8"


def _as_int8(q: Quantization, dtype: str) -> tuple[float, int]:
    shift = 128 if dtype == "uint8" else 0
    return float(q.scale[0]), int(q.zero_point[0]) - shift


def _rounded(values: Array, q: Quantization, dtype: str) -> Array:
    """As QUANTIZE rounds: half away from zero (kernels/internal/quantization_util: TfLiteRound)."""
    scale, zero_point = q.broadcast(values.ndim)
    steps = values.astype(np.float64) / scale
    integers = np.sign(steps) * np.floor(np.abs(steps) + 0.5) + zero_point
    return np.asarray(np.clip(integers, LOWEST[dtype], HIGHEST[dtype]).astype(np.int64))
