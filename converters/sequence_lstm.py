"""UNIDIRECTIONAL_SEQUENCE_LSTM of .tflite files, as Keras' LSTM comes out, written step by step.

All steps' products with the inputs are one FULLY_CONNECTED; each step multiplies its state by the same weights, which
makes the steps a recurrent layer as `widths.recurrence` knows it. The states begin with zeros in every run, as those
of a Keras layer that is not stateful do: LiteRT keeps them from run to run unless the caller resets them.

Inputs of the op (tensorflow/lite/kernels/unidirectional_sequence_lstm.cc): the sequence; weights of input, forget, cell
and output gate for it (1 to 4) and for the state (5 to 8); peepholes (9 to 11); biases (12 to 15); a projection (16 and
17); both states (18, 19); coefficients of layer normalization (20 to 23).
"""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Array, Editor, Graph, Op, Tensor

KIND = "UNIDIRECTIONAL_SEQUENCE_LSTM"
PLAIN = (*range(1, 9), *range(12, 16))
NONE = {"fusedActivationFunction": "NONE"}
MOST = 1024  # steps


def written_out(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The graph with its sequences step by step, and a sentence on each; other forms of the op stay, and are refused.

    Args:
        graph: float; shapes are static.
    """
    layers = {i: found for i, op in enumerate(graph.ops) if (found := _plain(graph, op)) is not None}
    if not layers:
        return graph, ()
    editor, notes = Editor(graph), []
    for i, op in enumerate(graph.ops):
        if i not in layers:
            editor.add_op(op)
            continue
        steps = _write(editor, graph, op, layers[i])
        notes.append(f"{graph.describe(i)} was written out in {steps} steps; its states begin with zeros in every run")
    return editor.finish(), tuple(notes)


def _plain(graph: Graph, op: Op) -> list[Array] | None:
    """The weights and biases of an LSTM without peepholes, projection and normalization; None for anything else."""
    if op.kind != KIND or len(op.inputs) < 20 or op.activation != "TANH":
        return None
    if any(t >= 0 for slot, t in enumerate(op.inputs) if slot not in (0, *PLAIN, 18, 19)):
        return None
    held = [graph.tensors[t].data if (t := op.inputs[slot]) >= 0 else None for slot in PLAIN]
    found = [data for data in held if data is not None and data.dtype == np.float32]
    states = all(graph.tensors[t].is_variable for t in op.inputs[18:20])
    axis = 0 if op.options.get("timeMajor") else 1
    fits = len(found) == len(PLAIN) and states and graph.tensors[op.inputs[0]].shape[axis] <= MOST
    return found if fits else None


def _write(editor: Editor, graph: Graph, op: Op, held: list[Array]) -> int:
    """Adds the layer's ops; returns the number of steps."""
    x, out = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    time = 0 if op.options.get("timeMajor") else 1
    batch, units, length = x.shape[1 - time], held[8].shape[0], x.shape[time]
    clip = float(op.options.get("cellClip", 0.0))
    names = out.name

    def constant(what: str, data: Array) -> int:
        return editor.add_tensor(Tensor(f"{names}/{what}", data.shape, data.dtype.name, data))

    def made(kind: str, what: str, shape: tuple[int, ...], *inputs: int, **options: object) -> int:
        t = editor.add_tensor(Tensor(f"{names}/{what}", shape, "float32"))
        editor.add_op(Op(kind, inputs, (t,), options))
        return t

    def part(t: int, what: str, begin: tuple[int, ...], size: tuple[int, ...]) -> int:
        ends = (constant(f"{what}/{k}", np.array(v, np.int32)) for k, v in (("begin", begin), ("size", size)))
        return made("SLICE", what, size, t, *ends)

    dense = {**NONE, "weightsFormat": "DEFAULT"}
    inward, recurrent = constant("kernel", np.concatenate(held[:4])), constant("recurrent", np.concatenate(held[4:8]))
    gates, row, one = (*x.shape[:2], 4 * units), (batch, 4 * units), (batch, units)
    bias = constant("bias", np.concatenate(held[8:]))
    everything = made("FULLY_CONNECTED", "inputs", gates, op.inputs[0], inward, bias, keepNumDims=True, **dense)
    shape = tuple(1 if k == time else n for k, n in enumerate((*out.shape[:2], units)))
    whole, placed = constant("row", np.array(row, np.int32)), constant("placed", np.array(shape, np.int32))
    low, high = (constant("lowest", np.array(-clip, np.float32)), constant("highest", np.array(clip, np.float32)))
    h = c = -1
    states = list[int]()
    for t in range(length):
        at = tuple(t if k == time else 0 for k in range(3))
        now = part(everything, f"{t}", at, tuple(1 if k == time else n for k, n in enumerate(gates)))
        z = made("RESHAPE", f"{t}/row", row, now, whole, newShape=row)
        if t:
            hr = made("FULLY_CONNECTED", f"{t}/state", row, h, recurrent, -1, keepNumDims=False, **dense)
            z = made("ADD", f"{t}/gates", row, z, hr, **NONE)
        i, f, g, o = (
            made(kind, f"{t}/{what}", one, part(z, f"{t}/{what}/in", (0, k * units), one))
            for k, (what, kind) in enumerate((("i", "LOGISTIC"), ("f", "LOGISTIC"), ("g", "TANH"), ("o", "LOGISTIC")))
        )
        new = made("MUL", f"{t}/ig", one, i, g, **NONE)
        c = new if not t else made("ADD", f"{t}/c", one, made("MUL", f"{t}/fc", one, f, c, **NONE), new, **NONE)
        if 0 < clip < t + 1:  # |c| grows by less than 1 in a step
            c = made("MAXIMUM", f"{t}/c_low", one, made("MINIMUM", f"{t}/c_high", one, c, high), low)
        h = made("MUL", f"{t}/h", one, o, made("TANH", f"{t}/tanh", one, c), **NONE)
        states.append(made("RESHAPE", f"{t}/placed", shape, h, placed, newShape=shape))
    editor.add_op(Op("CONCATENATION", tuple(states), op.outputs, {"axis": time, **NONE}))
    return length
