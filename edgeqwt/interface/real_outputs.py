"""Outputs of bytes that are numbers, such as pixels of a picture: real ones, at a scale where the bytes are those.

A network that ends in `(255 * y).to(torch.uint8)` gives numbers, and no classes: how far they lie apart counts. As
real numbers they are judged, compensated and repaired as others are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeqwt.converted import ConvertedModel
from edgeqwt.graph.graph import Editor, Graph, Op
from edgeqwt.graph.reach import reach
from edgeqwt.graph.whole_numbers import back_to_cast
from edgeqwt.widths.ports import Port

SPANS: Mapping[str, tuple[float, float]] = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-32768, 32767)}
"""What integers of the types that inputs and outputs may have stand for, where one of them is one."""
ROUNDED = ("ROUND", "FLOOR")


def with_real_outputs(model: ConvertedModel) -> tuple[ConvertedModel, dict[str, Port]]:
    """Outputs of small integers that real numbers are cast to hold these numbers; masks, places and classes stay.

    Returns:
        The model, and what the file's outputs are like by the graph's tensor names: the same integers as before.
    """
    graph = model.graph
    found = {t: way for t in graph.outputs if (way := back_to_cast(graph, t)) and _holds(graph, way[-1])}
    if not found:
        return model, {}
    ports = {graph.tensors[t].name: Port(graph.tensors[t].dtype, SPANS[graph.tensors[t].dtype]) for t in found}
    casts, editor = {way[-1] for way in found.values()}, Editor(graph)
    for t in {t for way in found.values() for t in way}:
        editor.tensors[t] = replace(graph.tensors[t], dtype="float32")
    for op in graph.ops:
        # CAST cuts off, which leaves whole numbers as they are.
        editor.add_op(Op("FLOOR", op.inputs, op.outputs, {}) if casts.intersection(op.outputs) else op)
    return model.on(editor.finish()), ports


def _holds(graph: Graph, cast: int) -> bool:
    """Whether a CAST gives what FLOOR does: nothing beyond its type, which would begin again at the other end of it.

    It cuts off towards zero, which of whole numbers and of positive ones nobody sees.
    """
    op = graph.ops[graph.producers()[cast]]
    lowest, highest = SPANS.get(graph.tensors[cast].dtype, (0, 0))
    low, high = reach(graph, op.inputs[0])
    before = graph.producers().get(op.inputs[0])
    whole = before is not None and graph.ops[before].kind in ROUNDED
    return lowest <= low and high < highest + 1 and (whole or low >= 0)
