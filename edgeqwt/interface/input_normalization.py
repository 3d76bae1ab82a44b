"""What normalizes an input goes into the first layers, exactly: W (a q + b) = (W a) q + W b.

Factors always do. Shifts go into biases, except where a convolution pads: it pads with the zero of x, and padding q
with zero instead would stand for x = b. Where -b / a is one whole number for all channels, that is what is padded with
(PADV2). Otherwise the input gets one more channel, a constant m, with the weights sum(W b) / m: where the
convolution pads, that channel is zero, too, and the shift is missing there as it has to be. It costs a PADV2, and
multiplications in the first layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.converted import ConvertedModel
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import MOVES, RULES
from edgeqwt.graph.padding import margins, same_padding
from edgeqwt.prepare.prepare import Prepared, prepare
from edgeqwt.prepare.rewriting import NONE, constant, sole_reader, uses, value
from edgeqwt.runtime.runners import reference
from edgeqwt.widths.ports import Port

ARITHMETIC = ("MUL", "ADD", "SUB")
MOVING = (*MOVES, "SPLIT", "SPLIT_V", "CONCATENATION", "SPACE_TO_DEPTH", "PAD", "GATHER")
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
POINTWISE = {
    "padding": "VALID", "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "depthMultiplier": 1,
    **NONE,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer that takes up a normalization.

    Attributes:
        index: of the op.
        factor, shift: float64, shape (channels,), of the layer's input.
        border: whether it or a PAD before it pads, and a shift is missing there.
        pad: index of that PAD, if it is one.
    """

    index: int
    factor: Array
    shift: Array
    border: bool
    pad: int | None


def prepared(model: ConvertedModel, ports: Mapping[str, Port]) -> Prepared:
    """A model's graph in canonical form, with what normalizes pixels and columns in the layers that read them.

    Args:
        model: its graph is float.
        ports: by input name; a normalization behind inputs that are neither of integers of their own nor standardized
            stays where it is.
    """
    first = prepare(model.graph)
    graph, changes = first.graph, list(first.changes)
    standardized = {model.graph.tensors[b.tensor].name for b in model.inputs if b.affine is not None}
    for position in range(len(graph.inputs)):
        t = graph.inputs[position]
        name, span = graph.tensors[t].name, ports.get(graph.tensors[t].name, Port()).span
        if (span is None and name not in standardized) or not graph.tensors[t].is_float:
            continue
        changed, how = _folded(graph, t, span)
        if how:
            graph = changed
            changes.append(f"What normalizes input {name!r} {how}.")
    if graph is first.graph:
        return first
    again = prepare(graph)
    return Prepared(again.graph, (*changes, *again.changes))


def takes_up(model: ConvertedModel, name: str) -> bool:
    """Whether what normalizes a float input goes into the layers that read it, or off against what the model does.

    Args:
        model: with the normalization in front.
        name: the input's, in the model's graph.
    """
    graph = prepare(model.graph).graph
    return any(_folded(graph, t, None)[1] for t in graph.inputs if graph.tensors[t].name == name)


def _folded(graph: Graph, t: int, span: tuple[float, float] | None) -> tuple[Graph, str]:
    """The graph with one input's normalization elsewhere, and a sentence's end; unchanged and empty if it has none."""
    chain, end, factor, shift = normalization(graph, t)
    if not any(graph.ops[i].kind in ARITHMETIC for i in chain):
        return graph, ""
    layers = _layers(graph, end, factor, shift)
    if layers is not None and (ways := [_way(graph, layer, span) for layer in layers]) and all(ways):
        changed = _absorbed(graph, chain, layers, ways, span)
        how = {
            "bias": "went into the weights and biases of the layers that read it",
            "value": "went into these layers' weights and biases; they pad with the pixel that stands for zero",
            "channel": "went into these layers' weights; one more channel of a constant has the shift where they pad",
        }
        return changed, how[max(ways, key=list(how).index)]
    arithmetic = [i for i in chain if graph.ops[i].kind in ARITHMETIC]
    if len(arithmetic) == len(chain) > 1 and len(graph.tensors[t].shape) == 4:
        return _as_one_layer(graph, chain, factor, shift), "became one layer of a weight and a bias per channel"
    if len(arithmetic) > 2:
        return _as_two_ops(graph, chain, factor, shift), "became one MUL and one ADD: nothing is rounded between"
    return graph, ""


def normalization(graph: Graph, t: int) -> tuple[list[int], int, Array, Array]:
    """The ops that normalize an input and move it, the last one's output, and its factor and shift by element."""
    shape = graph.tensors[t].shape
    factor, shift = np.ones(shape), np.zeros(shape)
    chain = list[int]()
    found = list(chain), t, factor, shift
    while (i := _only_reader(graph, t)) is not None:
        op = graph.ops[i]
        if op.kind in ARITHMETIC and op.activation == "NONE":
            other = next((value(graph, u) for u in op.inputs if u != t), None)
            if other is None or graph.tensors[op.outputs[0]].shape != graph.tensors[t].shape:
                break
            c = other.astype(np.float64)
            if op.kind == "MUL":
                factor, shift = factor * c, shift * c
            else:
                flipped = op.kind == "SUB" and op.inputs[1] == t
                factor, shift = (-factor, -shift) if flipped else (factor, shift)
                shift = shift + (-c if op.kind == "SUB" and not flipped else c)
        elif op.kind in ("TRANSPOSE", "RESHAPE") and all(u == t or value(graph, u) is not None for u in op.inputs):
            factor, shift = (_moved(graph, [i], t, v, op.outputs[0]) for v in (factor, shift))
        else:
            break
        chain.append(i)
        t = op.outputs[0]
        if op.kind in ARITHMETIC:  # what only moves at the end is the layers' matter
            found = list(chain), t, factor, shift
    return found


def _only_reader(graph: Graph, t: int) -> int | None:
    """The index of the one op that reads a tensor, which may be an input that callers see."""
    readers = uses(graph).readers.get(t, [])
    return readers[0] if len(readers) == 1 and t not in graph.outputs else None


def _moved(graph: Graph, ops: list[int], t: int, array: Array, out: int) -> Array:
    """What some ops make of an array in a tensor's place: they move it."""
    alone, new = graph.slice_with_index(ops, [t], [out])
    return np.asarray(reference(alone).run({new[t]: array.astype(np.float32)})[new[out]].astype(np.float64))


def _layers(graph: Graph, end: int, factor: Array, shift: Array) -> list[_Layer] | None:
    """The layers that read a tensor, moved about at most; None if anything else does."""
    moved, inside, found = {end}, list[int](), list[int]()
    if end in uses(graph).named:
        return None
    for i, op in enumerate(graph.ops):
        if not moved & {*op.inputs}:
            continue
        others = [u for u in op.inputs if u not in moved and u >= 0]
        if not all(graph.tensors[u].is_constant for u in others):
            return None
        if op.kind in MOVING and op.activation == "NONE" and not any(graph.tensors[u].is_float for u in others):
            inside.append(i)
            moved |= {*op.outputs}
            if moved & uses(graph).named:
                return None
        elif op.kind in LAYERS and slots(op).data in moved:
            found.append(i)
        else:
            return None
    producers = uses(graph).producers
    layers = [_layer(graph, i, end, inside, producers, factor, shift) for i in found]
    return [layer for layer in layers if layer is not None] if layers and all(layers) else None


def _layer(
    graph: Graph, index: int, end: int, inside: list[int], producers: Mapping[int, int], factor: Array, shift: Array
) -> _Layer | None:
    """What a layer has to take up; None if that is not one factor and shift per channel."""
    op = graph.ops[index]
    s = slots(op)
    arrays = [np.ones_like(factor), factor, shift]
    if s.data != end:
        arrays = [_moved(graph, inside, end, array, s.data) for array in arrays]
    mask, a, b = (array.reshape(-1, array.shape[-1]) for array in arrays)
    if op.kind == "FULLY_CONNECTED":
        width = graph.tensors[s.weight].shape[1]
        mask, a, b = (array.reshape(-1, width) for array in (mask, a, b))
    real = mask.min(axis=1) > 0  # rows that are not padding
    if not real.any() or (mask[~real] != 0).any():
        return None
    per_a, per_b = a[real][0], b[real][0]
    if (a[real] != per_a).any() or (b[real] != per_b).any():
        return None
    explicit = bool((~real).any())
    pad = producers.get(s.data) if explicit else None
    if pad is not None and graph.ops[pad].kind != "PAD":
        return None  # padded earlier and moved since
    return _Layer(index, per_a, per_b, explicit or _pads(graph, op), pad)


def _pads(graph: Graph, op: Op) -> bool:
    """Whether a convolution itself pads, as SAME may mean."""
    if op.options.get("padding") != "SAME":
        return False
    s = slots(op)
    x, w = (graph.tensors[t].shape for t in (s.data, s.weight))
    return max(margins(op, x[1:3], w[1:3])) > 0


def _way(graph: Graph, layer: _Layer, span: tuple[float, float] | None) -> str:
    """Where a layer's shift goes: bias, value (of the padding) or channel; empty if nowhere."""
    op = graph.ops[layer.index]
    s = slots(op)
    weights, bias = value(graph, s.weight), value(graph, s.bias)
    if weights is None or weights.dtype != np.float32 or (s.bias >= 0 and bias is None):
        return ""
    channels = weights.shape[-1]
    if op.kind != "FULLY_CONNECTED" and graph.tensors[s.data].shape[-1] != (
        channels if op.kind == "CONV_2D" else channels // int(op.options.get("depthMultiplier", 1))
    ):
        return ""  # grouped
    if not layer.border or not layer.shift.any():
        return "bias"
    if span is None or (layer.pad is not None and sole_reader(graph, s.data) is None):
        return ""
    zeros = -layer.shift / layer.factor
    if np.abs(zeros - np.rint(zeros[0])).max() < 1e-4 and span[0] <= np.rint(zeros[0]) <= span[1]:
        return "value"
    return "channel" if op.kind == "CONV_2D" and (layer.pad is None or _pads_space(graph, layer.pad)) else ""


def _pads_space(graph: Graph, pad: int) -> bool:
    amounts = value(graph, graph.ops[pad].inputs[1])
    return amounts is not None and not amounts[-1].any()


def _absorbed(
    graph: Graph, chain: list[int], layers: list[_Layer], ways: list[str], span: tuple[float, float] | None
) -> Graph:
    """The graph with a normalization in some layers."""
    editor = Editor(graph)
    gone: dict[int, int] = {}
    for i in chain:
        op = graph.ops[i]
        if op.kind in ARITHMETIC:
            source = next(u for u in op.inputs if value(graph, u) is None)
            gone[op.outputs[0]] = gone.get(source, source)
    by_index = {layer.index: (layer, way) for layer, way in zip(layers, ways, strict=True)}
    replaced = {layer.pad for layer, way in by_index.values() if way in ("value", "channel") and layer.pad is not None}
    for i, op in enumerate(graph.ops):
        if (i in chain and op.kind in ARITHMETIC) or i in replaced:
            continue
        moved = replace(op, inputs=tuple(gone.get(u, u) for u in op.inputs))
        if i in by_index:
            _write(editor, graph, moved, *by_index[i], gone, span)
        else:
            editor.add_op(moved)
    return editor.finish()


def _write(
    editor: Editor, graph: Graph, op: Op, layer: _Layer, way: str, gone: Mapping[int, int],
    span: tuple[float, float] | None,
) -> None:  # fmt: skip
    """A layer that takes what its normalization took."""
    s = slots(op)
    weights, bias = graph.tensors[s.weight].stored, value(graph, s.bias)
    exact, name = weights.astype(np.float64), graph.tensors[s.output].name
    if op.kind == "DEPTHWISE_CONV_2D":
        multiplier = exact.shape[-1] // len(layer.factor)
        a, b = (np.repeat(v, multiplier) for v in (layer.factor, layer.shift))
        total = (exact * b).sum(axis=(0, 1, 2))
    else:
        a, b = layer.factor, layer.shift
        total = (exact * b).reshape(len(exact), -1).sum(axis=1)
    new, data = exact * a, s.data
    if way == "channel":
        assert span is not None
        m = span[1] if abs(span[1]) >= abs(span[0]) else span[0]
        new = np.concatenate([new, (exact * b).sum(axis=3, keepdims=True) / m], axis=3)
        source = data if layer.pad is None else gone.get(graph.ops[layer.pad].inputs[0], graph.ops[layer.pad].inputs[0])
        data = _with_channel(editor, graph, source, m)
        if layer.pad is not None:
            data = _padded(editor, graph, layer.pad, data, 0.0)
    elif way == "value":
        zero = float(np.rint(-layer.shift[0] / layer.factor[0]))
        if layer.pad is None:
            data, op = _padded_like(editor, graph, op, data, zero), op.with_options(padding="VALID")
        else:
            pad = graph.ops[layer.pad]
            data = _padded(editor, graph, layer.pad, gone.get(pad.inputs[0], pad.inputs[0]), zero)
    inputs = [*op.inputs, *[-1] * (3 - len(op.inputs))]
    inputs[RULES[op.kind].data] = data
    inputs[1] = constant(editor, graph.tensors[s.weight].name, np.ascontiguousarray(new, np.float32))
    if way != "channel":
        shifted = total if bias is None else bias + total
        inputs[2] = constant(editor, f"{name}/bias", shifted.astype(np.float32))
    editor.add_op(replace(op, inputs=tuple(inputs)))


def _with_channel(editor: Editor, graph: Graph, source: int, m: float) -> int:
    """A tensor with one more channel that holds a constant everywhere."""
    tensor = editor.tensors[source]
    shape = (*tensor.shape[:-1], tensor.shape[-1] + 1)
    amounts = np.zeros((len(shape), 2), np.int32)
    amounts[-1, 1] = 1
    return _padv2(editor, source, shape, amounts, m, f"{tensor.name}/with_one")


def _padded(editor: Editor, graph: Graph, pad: int, source: int, number: float) -> int:
    """What a PAD makes, of another tensor, which may have more channels, with another number."""
    op = graph.ops[pad]
    amounts, name = graph.tensors[op.inputs[1]].stored, graph.tensors[op.outputs[0]].name
    shape = (*graph.tensors[op.outputs[0]].shape[:-1], editor.tensors[source].shape[-1])
    if number == 0:
        out = editor.add_tensor(Tensor(f"{name}/padded", shape, "float32"))
        editor.add_op(replace(op, inputs=(source, op.inputs[1]), outputs=(out,)))
        return out
    return _padv2(editor, source, shape, amounts.astype(np.int32), number, f"{name}/padded")


def _padded_like(editor: Editor, graph: Graph, op: Op, source: int, number: float) -> int:
    """What a convolution with SAME padding reads, padded with a number instead."""
    s = slots(op)
    x, w = (graph.tensors[t].shape for t in (s.data, s.weight))
    amounts = np.array([(0, 0), *same_padding(op, x[1:3], w[1:3]), (0, 0)], np.int32)
    shape = tuple(int(n + a.sum()) for n, a in zip(x, amounts, strict=True))
    return _padv2(editor, source, shape, amounts, number, f"{graph.tensors[s.output].name}/padded")


def _padv2(editor: Editor, source: int, shape: tuple[int, ...], amounts: Array, number: float, name: str) -> int:
    out = editor.add_tensor(Tensor(name, shape, "float32"))
    how = constant(editor, f"{name}/amounts", amounts)
    what = constant(editor, f"{name}/value", np.array([number], np.float32))
    editor.add_op(Op("PADV2", (source, how, what), (out,), {}, version=1))
    return out


def _as_one_layer(graph: Graph, chain: list[int], factor: Array, shift: Array) -> Graph:
    """The graph with a normalization as one depthwise layer, which rounds once; unchanged if it is not per channel."""
    a, b = (array.reshape(-1, array.shape[-1]) for array in (factor, shift))
    if (a != a[0]).any() or (b != b[0]).any():
        return graph
    editor, out = Editor(graph), graph.ops[chain[-1]].outputs[0]
    source = next(u for u in graph.ops[chain[0]].inputs if value(graph, u) is None)
    name = graph.tensors[out].name
    weights = constant(editor, f"{name}/weights", a[0].astype(np.float32).reshape(1, 1, 1, -1))
    bias = constant(editor, f"{name}/bias", b[0].astype(np.float32))
    for i, op in enumerate(graph.ops):
        if i == chain[-1]:
            editor.add_op(Op("DEPTHWISE_CONV_2D", (source, weights, bias), (out,), POINTWISE))
        elif i not in chain:
            editor.add_op(op)
    return editor.finish()


def _as_two_ops(graph: Graph, chain: list[int], factor: Array, shift: Array) -> Graph:
    """The graph with a normalization as one MUL and one ADD behind what moves the input.

    What an application takes off an input, a model that normalizes it itself would else get back, in integers first.
    """
    editor, end = Editor(graph), graph.ops[chain[-1]].outputs[0]
    name, gone = graph.tensors[end].name, dict[int, int]()
    a, b = (constant(editor, f"{name}/{what}", _short(v)) for what, v in (("factor", factor), ("shift", shift)))
    for i, op in enumerate(graph.ops):
        if i in chain and op.kind in ARITHMETIC:
            source = next(u for u in op.inputs if value(graph, u) is None)
            gone[op.outputs[0]] = gone.get(source, source)
            if i == chain[-1]:
                scaled = editor.add_tensor(Tensor(f"{name}/scaled", graph.tensors[end].shape, "float32"))
                editor.add_op(Op("MUL", (gone[end], a), (scaled,), NONE))
                editor.add_op(Op("ADD", (scaled, b), (end,), NONE))
        else:
            editor.add_op(replace(op, inputs=tuple(gone.get(u, u) for u in op.inputs)) if i in chain else op)
    return editor.finish()


def _short(array: Array) -> Array:
    """A constant with axes of length 1 where it is the same all along."""
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        array = first if (array == first).all() else array
    return array.astype(np.float32)
