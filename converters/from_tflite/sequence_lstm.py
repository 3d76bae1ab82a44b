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

from edgeqwt.graph.graph import Array, Editor, Graph, Op
from edgeqwt.prepare.rewriting import DENSE, Site, float32

KIND = "UNIDIRECTIONAL_SEQUENCE_LSTM"
PLAIN = (*range(1, 9), *range(12, 16))
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
        steps = _write(Site(editor, graph, op), layers[i])
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


def _write(at: Site, held: list[Array]) -> int:
    """Adds the layer's ops; returns the number of steps."""
    op, x = at.op, at.tensor(at.op.inputs[0])
    time = 0 if op.options.get("timeMajor") else 1
    batch, units, length = x.shape[1 - time], held[8].shape[0], x.shape[time]
    clip = float(op.options.get("cellClip", 0.0))

    def part(t: int, what: str, begin: tuple[int, ...], size: tuple[int, ...]) -> int:
        ends = (at.integers(f"{what}/begin", begin), at.integers(f"{what}/size", size))
        return at.add("SLICE", (t, *ends), what, size)

    inward = at.constant("kernel", np.concatenate(held[:4]))
    recurrent = at.constant("recurrent", np.concatenate(held[4:8]))
    gates, row, one = (*x.shape[:2], 4 * units), (batch, 4 * units), (batch, units)
    bias = at.constant("bias", np.concatenate(held[8:]))
    everything = at.add("FULLY_CONNECTED", (op.inputs[0], inward, bias), "inputs", gates, **DENSE)
    shape = tuple(1 if k == time else n for k, n in enumerate((*at.out.shape[:2], units)))
    whole, placed = at.integers("row", row), at.integers("placed", shape)
    low, high = at.constant("lowest", float32(-clip)), at.constant("highest", float32(clip))
    h = c = -1
    states = list[int]()
    for t in range(length):
        begin = tuple(t if k == time else 0 for k in range(3))
        now = part(everything, f"{t}", begin, tuple(1 if k == time else n for k, n in enumerate(gates)))
        z = at.add("RESHAPE", (now, whole), f"{t}/row", row, newShape=row)
        if t:
            hr = at.add("FULLY_CONNECTED", (h, recurrent, -1), f"{t}/state", row, **{**DENSE, "keepNumDims": False})
            z = at.add("ADD", (z, hr), f"{t}/gates", row)
        i, f, g, o = (
            at.add(kind, (part(z, f"{t}/{what}/in", (0, k * units), one),), f"{t}/{what}", one)
            for k, (what, kind) in enumerate((("i", "LOGISTIC"), ("f", "LOGISTIC"), ("g", "TANH"), ("o", "LOGISTIC")))
        )
        new = at.add("MUL", (i, g), f"{t}/ig", one)
        c = new if not t else at.add("ADD", (at.add("MUL", (f, c), f"{t}/fc", one), new), f"{t}/c", one)
        if 0 < clip < t + 1:  # |c| grows by less than 1 in a step
            c = at.add("MAXIMUM", (at.add("MINIMUM", (c, high), f"{t}/c_high", one), low), f"{t}/c_low", one)
        h = at.add("MUL", (o, at.add("TANH", (c,), f"{t}/tanh", one)), f"{t}/h", one)
        states.append(at.add("RESHAPE", (h, placed), f"{t}/placed", shape, newShape=shape))
    at.editor.add_op(at.end("CONCATENATION", tuple(states), axis=time))
    return length
