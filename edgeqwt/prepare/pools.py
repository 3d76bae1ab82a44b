"""Max pools whose padding is an op of its own: the smallest value pads nothing in, so it may be any that is exact.

PyTorch pads max pools with -infinity, onnx2tf and litert-torch write that as PADV2 before a pool without padding.
Where TensorFlow's SAME padding lies the same way, the pool does it itself; behind a RELU zero is small enough; else
the pad's value becomes a fill (`graph.fills`), for which the lowest integer stands.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op
from edgeqwt.graph.opset import MOVES
from edgeqwt.prepare.rewriting import activation_like, constant, integers, sole_reader, uses, value, without

SMALL = -1e3  # what pads a max pool and lies below is not meant as data
POSITIVE = ("RELU", "RELU6", "RELU_0_TO_1", "LOGISTIC", "SOFTMAX", "EXP", "ABS", "SQRT", "RSQRT")
KEEPS_SIGN = (*MOVES, "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN")


def same_pools(graph: Graph) -> tuple[Graph, list[str]]:
    """Max pools take their padding from the pool itself, or from zeros, where that is the same."""
    editor, dropped, names = Editor(graph), set[int](), list[str]()
    written: dict[int, Op] = {}
    for i, op in enumerate(graph.ops):
        pad = _padding(graph, op)
        if pad is None:
            continue
        index, amounts = pad
        padded = graph.ops[index]
        trimmed = _trimmed(graph, op, amounts)
        if _is_same(graph, op, padded.inputs[0], trimmed):
            written[i] = replace(op, inputs=padded.inputs[:1]).with_options(padding="SAME")
            dropped.add(index)
        elif is_positive(graph, padded.inputs[0]):
            written[index] = _zero_padded(editor, graph, padded, trimmed)
            written[i] = replace(op, inputs=written[index].outputs)
        elif not np.array_equal(trimmed, amounts):
            written[index] = _with_amounts(editor, graph, padded, trimmed)
            written[i] = replace(op, inputs=written[index].outputs)
        else:
            continue
        names.append(graph.tensors[op.outputs[0]].name)
    if not names:
        return graph, []
    return without(graph, dropped, written, editor), names


def _padding(graph: Graph, pool: Op) -> tuple[int, Array] | None:
    """The PADV2 that pads a max pool's image with values below all data, every window being more than padding."""
    if pool.kind != "MAX_POOL_2D" or pool.options.get("padding") != "VALID":
        return None
    index = uses(graph).producers.get(pool.inputs[0], -1)
    if index < 0 or graph.ops[index].kind != "PADV2" or sole_reader(graph, pool.inputs[0]) is None:
        return None
    amounts, fill = value(graph, graph.ops[index].inputs[1]), value(graph, graph.ops[index].inputs[2])
    if amounts is None or fill is None or float(fill.reshape(-1)[0]) > SMALL:
        return None
    amounts = amounts.astype(np.int64)
    shape = graph.tensors[graph.ops[index].inputs[0]].shape
    if len(shape) != 4 or amounts[[0, 3]].any() or not _sees_data(graph, pool, shape, amounts):
        return None
    return index, amounts


def _window(pool: Op, axis: int) -> tuple[int, int]:
    """Size and stride along an axis of the image."""
    name = ("H", "W")[axis - 1]
    return int(pool.options[f"filter{'Height' if name == 'H' else 'Width'}"]), int(pool.options[f"stride{name}"])


def _sees_data(graph: Graph, pool: Op, shape: tuple[int, ...], amounts: Array) -> bool:
    for axis in (1, 2):
        size, stride = _window(pool, axis)
        starts = np.arange(graph.tensors[pool.outputs[0]].shape[axis]) * stride - amounts[axis, 0]
        if not ((starts + size > 0) & (starts < shape[axis])).all():
            return False
    return True


def _trimmed(graph: Graph, pool: Op, amounts: Array) -> Array:
    """The paddings without what no window reaches."""
    found = amounts.copy()
    for axis in (1, 2):
        size, stride = _window(pool, axis)
        read = (graph.tensors[pool.outputs[0]].shape[axis] - 1) * stride + size
        unread = graph.tensors[pool.inputs[0]].shape[axis] - read
        found[axis, 1] = max(0, int(amounts[axis, 1]) - unread)
    return found


def _is_same(graph: Graph, pool: Op, x: int, amounts: Array) -> bool:
    """Whether SAME padding is just these amounts: half of what is needed, the odd one behind."""
    for axis in (1, 2):
        size, stride = _window(pool, axis)
        n, out = graph.tensors[x].shape[axis], graph.tensors[pool.outputs[0]].shape[axis]
        total = max((out - 1) * stride + size - n, 0)
        if out != -(-n // stride) or (total // 2, total - total // 2) != tuple(amounts[axis]):
            return False
    return True


def is_positive(graph: Graph, t: int) -> bool:
    """Whether an activation has no values below zero, by the op that it comes from."""
    index = uses(graph).producers.get(t, -1)
    if index < 0:
        return False
    op = graph.ops[index]
    if op.activation in ("RELU", "RELU6") or op.kind in POSITIVE:
        return True
    return op.kind in KEEPS_SIGN and is_positive(graph, op.inputs[0])


def _zero_padded(editor: Editor, graph: Graph, pad: Op, amounts: Array) -> Op:
    made = _with_amounts(editor, graph, pad, amounts)
    return replace(made, kind="PAD", inputs=made.inputs[:2], version=1, options={}, extra={})


def _with_amounts(editor: Editor, graph: Graph, pad: Op, amounts: Array) -> Op:
    name, shape = graph.tensors[pad.outputs[0]].name, graph.tensors[pad.inputs[0]].shape
    wanted = tuple(int(n + a + b) for n, (a, b) in zip(shape, amounts, strict=True))
    out = activation_like(editor, graph, pad.outputs[0], "padded", wanted)
    paddings = integers(editor, f"{name}/paddings", amounts)
    return replace(pad, inputs=(pad.inputs[0], paddings, *pad.inputs[2:]), outputs=(out,))


def pads_between(graph: Graph) -> tuple[Graph, list[str]]:
    """TRANSPOSE, PADV2 with a fill, TRANSPOSE: the fill comes last, and the TRANSPOSEs meet."""
    editor, producers = Editor(graph), uses(graph).producers
    for i, op in enumerate(graph.ops):
        before = producers.get(op.inputs[0], -1) if op.kind == "PADV2" else -1
        reader = sole_reader(graph, op.outputs[0]) if before >= 0 else None
        if reader is None or {graph.ops[before].kind, graph.ops[reader].kind} != {"TRANSPOSE"}:
            continue
        turn = graph.ops[reader]
        fill, amounts, order = (value(graph, t) for t in (op.inputs[2], op.inputs[1], turn.inputs[1]))
        if fill is None or amounts is None or order is None or abs(float(fill.reshape(-1)[0])) < -SMALL:
            continue
        shape, out = graph.tensors[op.inputs[0]].shape, turn.outputs[0]
        turned = activation_like(editor, graph, out, "turned", tuple(shape[a] for a in order.reshape(-1)))
        paddings = constant(editor, f"{graph.tensors[out].name}/paddings", amounts[order.reshape(-1)])
        first = replace(turn, inputs=(op.inputs[0], turn.inputs[1]), outputs=(turned,))
        then = replace(op, inputs=(turned, paddings, op.inputs[2]), outputs=(out,))
        return without(graph, set(), {i: first, reader: then}, editor), [graph.tensors[op.outputs[0]].name]
    return graph, []
