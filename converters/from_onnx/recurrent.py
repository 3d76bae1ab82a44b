"""Recurrent layers of an ONNX model, LSTM, GRU and RNN, written out step by step.

onnx2tf makes of an LSTM the op UNIDIRECTIONAL_SEQUENCE_LSTM, which keeps its states in the file from one inference
to the next: a source model starts each time anew, or takes its states as inputs. Written out, states are ordinary
values, and every technique of the build knows the ops. All steps read the same weights.

The formulas are those of the ONNX operators LSTM-14, GRU-14 and RNN-14. What does not depend on the state, the
products with the input, is computed for all steps at once. Where the lengths of the sequences are an input, a step
behind a sequence's end leaves its states as they are, and its output is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx

from edgeqwt.converters.from_onnx.edit import Written, with_whole_shapes, without_dead
from edgeqwt.converters.from_onnx.nodes import Values, attributes
from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Array

KINDS: Mapping[str, int] = MappingProxyType({"LSTM": 4, "GRU": 3, "RNN": 1})
"""The ops that are written out, and how many gates they have."""
USUAL = MappingProxyType({"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)})
"""The functions that each applies unless it says otherwise."""
FUNCTIONS = frozenset({"Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"})
"""Functions of the operators' list that take no parameters."""
WHERE = 9  # the first opset that has it
ONNX_FILE = "Export it again without that, or give the model before it was exported."


@dataclass(frozen=True, eq=False)
class _Layer:
    """One direction of one node.

    Attributes:
        kind: LSTM, GRU or RNN.
        functions: that it applies.
        weights, recurrent: float32, (gates * hidden, input) and (gates * hidden, hidden).
        bias, recurrent_bias: (gates * hidden,).
        before_reset: of a GRU: whether the reset gate multiplies the product with the state, or the state.
        steps, batch, hidden: sizes.
    """

    kind: str
    functions: tuple[str, ...]
    weights: Array
    recurrent: Array
    bias: Array
    recurrent_bias: Array
    before_reset: bool
    steps: int
    batch: int
    hidden: int

    def gates(self, array: Array, first: int, last: int) -> Array:
        """The rows of some gates."""
        return np.ascontiguousarray(array[first * self.hidden : last * self.hidden])


@dataclass(frozen=True)
class _State:
    """The values that go from one step to the next; a name is empty where the state is zero."""

    hidden: str
    cell: str = ""


def unrolled(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with its recurrent layers written out.

    Args:
        model: with static shapes; is not changed.

    Returns:
        The model, and a sentence for each layer.

    Raises:
        UnsupportedError: a recurrent layer has an option that is not known here; it is named.
    """
    if not any(node.op_type in KINDS and not node.domain for node in model.graph.node):
        return model, ()
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    values, notes = Values(model), list[str]()
    for node in model.graph.node:
        if node.op_type not in KINDS or node.domain:
            result.graph.node.append(node)
            continue
        written = Written(model, result, _short(node), values.opset, node.name or node.op_type)
        steps = _write(values, node, written)
        notes.append(_note(node, steps, any(node.input[5:6])))
    with_whole_shapes(result, values.shapes)
    without_dead(result)
    del result.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(result, data_prop=True), tuple(notes)


def _note(node: onnx.NodeProto, steps: int, starts: bool) -> str:
    message = (
        f"{node.op_type} {node.name or node.output[0]!r} was written out in {steps} step{'s' if steps > 1 else ''}"
    )
    if steps > 1 or starts:
        return message
    return (
        f"{message}, from a state of zero: nothing recurrent is left of it. If samples are sequences along their first "
        "axis, they were taken apart as batches: --batch-size keep leaves them whole"
    )


def _short(node: onnx.NodeProto) -> str:
    """What the node's values are named after: every step's names are stored in the file."""
    *scopes, last = (node.name or node.op_type).strip("/").split("/")
    return (scopes[-1] if scopes else last).replace(" ", "_")


def _write(values: Values, node: onnx.NodeProto, written: Written) -> int:
    """Writes a node's steps; returns how many there are."""
    layers, first_axis_is_batch = _layers(values, node)
    steps, batch, hidden = layers[0].steps, layers[0].batch, layers[0].hidden
    x = written.op("Transpose", [node.input[0]], "x", perm=[1, 0, 2]) if first_axis_is_batch else node.input[0]
    rows = written.reshape(x, (steps * batch, layers[0].weights.shape[1]), "rows")
    starts = [_initial(values, node, k, len(layers), written, layers[0], first_axis_is_batch) for k in (5, 6)]
    ongoing = _ongoing(values, node, written, steps, batch)
    sequences, ends = [], list[_State]()
    for d, layer in enumerate(layers):
        state = _State(starts[0][d], starts[1][d])
        backward = d == 1 or attributes(node).get("direction") == "reverse"
        label = ".b" if backward else ""
        states = _steps(layer, rows, state, written.below(label), backward, ongoing)
        ends.append(states[-1])
        sequences.append([state.hidden for state in (states[::-1] if backward else states)])
    read = {name for other in values.model.graph.node for name in other.input}
    read |= {output.name for output in values.model.graph.output}
    wanted = [name if name in read else "" for name in (*node.output, "", "", "")][:3]
    if wanted[0]:
        within = written.concat(ongoing, 0, "within") if ongoing else ""
        _join_sequences(sequences, wanted[0], (steps, batch, hidden), written, first_axis_is_batch, within)
    for name, last in ((wanted[1], [s.hidden for s in ends]), (wanted[2], [s.cell for s in ends])):
        if name:
            _join_states(last, name, batch, hidden, written, first_axis_is_batch)
    return steps


# -- what a node says ------------------------------------------------------------


def _refuse(node: onnx.NodeProto, why: str, hint: str = ONNX_FILE) -> UnsupportedError:
    return UnsupportedError(f"{node.op_type} {node.name or node.output[0]!r}", "tflite", why, hint)


def _layers(values: Values, node: onnx.NodeProto) -> tuple[list[_Layer], bool]:
    """The node's directions, and whether its batch axis comes first."""
    shape, said = values.shapes.get(node.input[0]), attributes(node)
    if shape is None or len(shape) != 3 or min(shape) < 1:
        raise _refuse(node, f"the shape of its input {node.input[0]!r} is not known", "Export it with fixed shapes.")
    batch_first = bool(said.get("layout", 0))
    steps, batch = (shape[1], shape[0]) if batch_first else shape[:2]
    given = [*node.input, *[""] * 8][:8]
    weights, recurrent = (_constant(values, node, name) for name in given[1:3])
    hidden, gates = recurrent.shape[2], KINDS[node.op_type]
    none: Array = np.zeros((len(weights), 2 * gates * hidden), np.float32)
    both = _constant(values, node, given[3]) if given[3] else none
    _check(values, node, given)
    functions = _functions(node, len(weights))
    return [
        _Layer(
            node.op_type,
            functions[d],
            weights[d],
            recurrent[d],
            both[d, : gates * hidden],
            both[d, gates * hidden :],
            bool(said.get("linear_before_reset", 0)),
            steps,
            batch,
            hidden,
        )
        for d in range(len(weights))
    ], batch_first


def _constant(values: Values, node: onnx.NodeProto, name: str) -> Array:
    value = values.constant(name)
    if value is None:
        raise _refuse(node, f"its weights {name!r} are computed from the model's inputs")
    return value


def _check(values: Values, node: onnx.NodeProto, given: list[str]) -> None:
    """Refuses options that are not known here."""
    said = attributes(node)
    if given[4] and values.opset < WHERE:
        raise _refuse(node, f"it takes lengths of sequences in a model of opset {values.opset}, which has no Where")
    if node.op_type == "LSTM" and given[7]:
        raise _refuse(node, "it has peepholes")
    if said.get("input_forget"):
        raise _refuse(node, "its input and forget gates are coupled")
    if "clip" in said:
        raise _refuse(node, "it clips what its gates get")


def _functions(node: onnx.NodeProto, directions: int) -> list[tuple[str, ...]]:
    usual = USUAL[node.op_type]
    listed = attributes(node).get("activations")
    names = [name.decode() for name in listed] if listed else [*usual * directions]
    odd = next((name for name in names if name not in FUNCTIONS), None)
    if odd is not None:
        raise _refuse(node, f"it applies {odd}")
    return [tuple(names[d * len(usual) : (d + 1) * len(usual)]) for d in range(directions)]


def _ongoing(values: Values, node: onnx.NodeProto, written: Written, steps: int, batch: int) -> list[str]:
    """For each step whether the sequences go on at it, (batch, 1); empty where all have all steps."""
    name = node.input[4] if len(node.input) > 4 else ""
    known = values.constant(name) if name else None
    if not name or (known is not None and (known >= steps).all()):
        return []
    lengths = written.reshape(name, (batch, 1), "lengths")
    at = [written.constant(np.full((1, 1), t, np.int32), "t") for t in range(steps)]
    return [written.step(t).op("Greater", [lengths, at[t]], "on") for t in range(steps)]


def _initial(
    values: Values, node: onnx.NodeProto, slot: int, directions: int, written: Written, layer: _Layer, batch_first: bool
) -> list[str]:
    """The value that a state starts with, per direction; empty where it is zero."""
    name = node.input[slot] if slot < len(node.input) and (slot == 5 or layer.kind == "LSTM") else ""
    if not name:
        return [""] * directions
    value = values.constant(name)
    if value is not None and not value.any():
        return [""] * directions
    label = "h0" if slot == 5 else "c0"
    if batch_first and directions > 1:
        name = written.op("Transpose", [name], f"{label}.moved", perm=[1, 0, 2])
    parts = [name] if directions == 1 else written.split(name, directions, 0, label)
    return [written.reshape(part, (layer.batch, layer.hidden), f"{label}.{d}") for d, part in enumerate(parts)]


# -- steps -----------------------------------------------------------------------


def _steps(
    layer: _Layer, rows: str, state: _State, written: Written, backward: bool, ongoing: list[str]
) -> list[_State]:
    """The states behind each step, in the order in which they are computed."""
    advance = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[layer.kind](layer, rows, written)
    states = []
    for k in range(layer.steps):
        t = layer.steps - 1 - k if backward else k
        after = advance(t, state)
        state = _held(after, state, written.step(t), ongoing[t]) if ongoing else after
        states.append(state)
    return states


def _held(after: _State, before: _State, at: Written, on: str) -> _State:
    """The states after a step of the sequences that go on at it, of the others those before."""
    zero = at.constant(np.zeros((1, 1), np.float32), "zero")
    hidden = at.op("Where", [on, after.hidden, before.hidden or zero], "held")
    return _State(hidden, at.op("Where", [on, after.cell, before.cell or zero], "cheld") if after.cell else "")


Advance = Callable[[int, _State], _State]


def _inputs(layer: _Layer, rows: str, written: Written, label: str, first: int, last: int, bias: Array) -> list[str]:
    """Some gates' products with the input, for each step; what is read by one step only comes as it is."""
    product = written.gemm(rows, layer.gates(layer.weights, first, last), layer.gates(bias, first, last), f"x{label}")
    return [product] if layer.steps == 1 else written.split(product, layer.steps, 0, f"x{label}")


def _sum(written: Written, name: str, x: str, product: str) -> str:
    return written.op("Add", [x, product], name) if product else x


def _lstm(layer: _Layer, rows: str, written: Written) -> Advance:
    # ONNX's order is i, o, f, c: the first three are sigmoids, and are computed as one.
    bias = layer.bias + layer.recurrent_bias
    spans = {"s": (0, 3), "g": (3, 4)}
    xs = {label: _inputs(layer, rows, written, label, *span, bias) for label, span in spans.items()}
    recurrent = {label: layer.gates(layer.recurrent, *span) for label, span in spans.items()}
    gate, curve, squash = layer.functions

    def advance(t: int, state: _State) -> _State:
        at = written.step(t)
        products = {k: at.gemm(state.hidden, r, None, f"h{k}") if state.hidden else "" for k, r in recurrent.items()}
        opened = at.op(gate, [_sum(at, "s", xs["s"][t], products["s"])], "iof")
        i, o, f = at.split(opened, 3, 1, "")
        cell = at.op("Mul", [i, at.op(curve, [_sum(at, "a", xs["g"][t], products["g"])], "g")], "ig")
        if state.cell:
            cell = at.op("Add", [at.op("Mul", [f, state.cell], "fc"), cell], "c")
        return _State(at.op("Mul", [o, at.op(squash, [cell], "tc")], "h"), cell)

    return advance


def _gru(layer: _Layer, rows: str, written: Written) -> Advance:
    # ONNX's order is z, r, h. The last one's recurrent bias is multiplied by r where r multiplies the product.
    bias = layer.bias + layer.recurrent_bias
    own = layer.gates(layer.recurrent_bias, 2, 3)
    if layer.before_reset:
        bias[2 * layer.hidden :] -= own
    xs = _inputs(layer, rows, written, "s", 0, 2, bias)
    xn = _inputs(layer, rows, written, "n", 2, 3, bias)
    recurrent, candidate = layer.gates(layer.recurrent, 0, 2), layer.gates(layer.recurrent, 2, 3)
    gate, curve = layer.functions
    one = written.constant(np.ones((1, 1), np.float32), "one")
    given = written.constant(own.reshape(1, -1), "hn.bias") if layer.before_reset and own.any() else ""

    def reset(at: Written, r: str, state: _State) -> str:
        """What the candidate gets from the state."""
        if not state.hidden:
            return at.op("Mul", [r, given], "rh") if given else ""
        if layer.before_reset:
            return at.op("Mul", [r, at.gemm(state.hidden, candidate, own, "hn")], "rh")
        return at.gemm(at.op("Mul", [r, state.hidden], "rh"), candidate, None, "hn")

    def advance(t: int, state: _State) -> _State:
        at = written.step(t)
        product = at.gemm(state.hidden, recurrent, None, "hs") if state.hidden else ""
        z, r = at.split(at.op(gate, [_sum(at, "s", xs[t], product)], "zr"), 2, 1, "")
        new = at.op(curve, [_sum(at, "a", xn[t], reset(at, r, state))], "n")
        hidden = at.op("Mul", [at.op("Sub", [one, z], "q"), new], "qn")
        if state.hidden:
            hidden = at.op("Add", [hidden, at.op("Mul", [z, state.hidden], "zh")], "h")
        return _State(hidden)

    return advance


def _rnn(layer: _Layer, rows: str, written: Written) -> Advance:
    xs = _inputs(layer, rows, written, "s", 0, 1, layer.bias + layer.recurrent_bias)

    def advance(t: int, state: _State) -> _State:
        at = written.step(t)
        product = at.gemm(state.hidden, layer.recurrent, None, "hs") if state.hidden else ""
        return _State(at.op(layer.functions[0], [_sum(at, "s", xs[t], product)], "h"))

    return advance


# -- outputs ---------------------------------------------------------------------


def _join_sequences(
    sequences: list[list[str]], name: str, size: tuple[int, int, int], written: Written, batch_first: bool, within: str
) -> None:
    """All steps' states as (steps, directions, batch, hidden); zero where `within` says that a sequence has ended."""
    steps, batch, hidden = size
    joined = [written.concat(states, 0, f"y{d}") for d, states in enumerate(sequences)]
    wide = joined[0] if len(joined) == 1 else written.concat(joined, 1, "y")
    if within:
        wide = written.op("Where", [within, wide, written.constant(np.zeros((1, 1), np.float32), "zero")], "padded")
    shape = (steps, batch, len(joined), hidden)
    if len(joined) == 1 and not batch_first:
        written.reshape(wide, (steps, 1, batch, hidden), name, named=True)
        return
    perm = [1, 0, 2, 3] if batch_first else [0, 2, 1, 3]
    written.op("Transpose", [written.reshape(wide, shape, "y4")], name, named=True, perm=perm)


def _join_states(last: list[str], name: str, batch: int, hidden: int, written: Written, batch_first: bool) -> None:
    """The last states as (directions, batch, hidden)."""
    if len(last) == 1:
        written.reshape(last[0], (batch, 1, hidden) if batch_first else (1, batch, hidden), name, named=True)
        return
    axis, shape = (1, (batch, 1, hidden)) if batch_first else (0, (1, batch, hidden))
    parts = [written.reshape(state, shape, f"last.{name}.{d}") for d, state in enumerate(last)]
    written.op("Concat", parts, name, named=True, axis=axis)
