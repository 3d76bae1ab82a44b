"""Activations that LiteRT overwrites while they are still needed.

LiteRT lets ADD, SUB, MUL, SOFTMAX and others write where their input lies, if nothing else reads that input, and a
RESHAPE's output lies where its input does. It asks who else reads of the op's own input and of the first tensor at
that place, not of those between: with b = a + 1 in the place of a, c = RESHAPE(b) and d = 2 c in the place of c, who
reads b after that gets d. Measured with LiteRT 2.1 and its built-in kernels, which run whatever XNNPACK does not
take, in float and in integers (tests/runtime/test_overwritten.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256

from edgeqwt.errors import ToolError
from edgeqwt.graph.graph import Editor, Graph, Op, Tensor
from edgeqwt.graph.opset import RESHAPES
from edgeqwt.graph.opset16 import BITS
from edgeqwt.runtime.runners import SMALL, TriedLiteRT

MOST_KNOWN = 64
_KNOWN: dict[bytes, tuple[tuple[int, int], ...]] = {}  # what was found of graphs, by their form

VIEWS = (*RESHAPES, "BITCAST")
"""Ops that write to their input's memory what is there already."""


def overwritten(graph: Graph) -> tuple[tuple[int, int], ...]:
    """Where LiteRT's built-in kernels lose a value: (op that writes over it, tensor), in the order of the ops.

    Nothing is run: LiteRT plans its memory when it loads the graph, and tells where each tensor lies. A graph that
    it does not load loses nothing. Candidates with other weights and scales have the plan of the first one.
    """
    form = _form(graph)
    if (known := _KNOWN.get(form)) is not None:
        return known
    try:
        lost = tuple(_lost(graph, _memory_ranges(graph)))
    except ToolError:
        return ()
    if len(_KNOWN) >= MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[form] = lost
    return lost


def protected(graph: Graph) -> Graph:
    """The graph with copies of integers (QUANTIZE to the same scale, CAST) before ops that would write over them."""
    for _ in range(len(graph.ops)):
        safer = next(filter(None, (_with_copy(graph, i, t) for i, t in overwritten(graph))), None)
        if safer is None:
            break
        graph = safer
    return graph


def _form(graph: Graph) -> bytes:
    """All that LiteRT's plan depends on: ops, their order, options and tensors, sizes, types, and small constants."""
    digest = sha256()
    for part in (graph, *graph.others):
        for op in part.ops:
            options = sorted(op.options.items()), op.extra.get("customOptions")
            digest.update(repr((op.kind, op.version, op.custom_code, op.inputs, op.outputs, options)).encode())
        for t in part.tensors:
            small = t.data is not None and t.quantization is None and t.data.size <= SMALL
            value = t.data.tobytes() if small and t.data is not None else t.data is None
            digest.update(repr((t.shape, t.shape_signature, t.dtype, t.is_variable, value)).encode())
        digest.update(repr((part.inputs, part.outputs)).encode())
    return digest.digest()


def _memory_ranges(graph: Graph) -> dict[int, range]:
    """Where each computed tensor lies in memory, in bytes."""
    interpreter = TriedLiteRT(graph, kernels="reference").interpreter
    found = {}
    for t in dict.fromkeys(t for op in graph.ops for t in op.outputs):
        try:
            value = interpreter.tensor(t)()
        except ValueError:  # a tensor whose size only its values tell
            continue
        start = value.__array_interface__["data"][0]
        found[t] = range(start, start + value.nbytes)
    return found


def _lost(graph: Graph, ranges: Mapping[int, range]) -> Iterator[tuple[int, int]]:
    last = {t: i for i, op in enumerate(graph.ops) for t in op.inputs}
    last |= dict.fromkeys(graph.outputs, len(graph.ops))
    live: set[int] = set()
    for i, op in enumerate(graph.ops):
        live = {t for t in live if last.get(t, -1) > i}
        written = [t for t in op.outputs if t in ranges]
        if not (op.kind in VIEWS and ranges.get(op.inputs[0]) == ranges.get(op.outputs[0])):
            yield from ((i, t) for t in sorted(live) if any(_overlap(ranges[t], ranges[o]) for o in written))
        live |= {*written}


def _overlap(a: range, b: range) -> bool:
    return max(a.start, b.start) < min(a.stop, b.stop)


def _in_place(graph: Graph, i: int, lost: int) -> int | None:
    """The slot of op i that reads a tensor that lies where `lost` does: itself, or a view of what that is a view of."""
    roots = _roots(graph)
    same = (s for s, t in enumerate(graph.ops[i].inputs) if roots.get(t, t) == roots.get(lost, lost))
    return next(same, None)


def _with_copy(graph: Graph, i: int, lost: int) -> Graph | None:
    editor = Editor(graph)
    for k, op in enumerate(graph.ops):
        new = copied(editor, graph, i, lost) if k == i else op
        if new is None:
            return None
        editor.add_op(new)
    return editor.finish()


def copied(editor: Editor, graph: Graph, i: int, lost: int) -> Op | None:
    """Op i behind a copy, which is added, of the input whose memory it would write to; None where there can be none."""
    op, slot, old = graph.ops[i], _in_place(graph, i, lost), graph.tensors[lost]
    copying = _copying(old)
    if slot is None or copying is None:
        return None
    copy = editor.add_tensor(replace(graph.tensors[op.inputs[slot]], name=f"{graph.tensors[op.outputs[0]].name}/copy"))
    editor.add_op(replace(copying, inputs=(op.inputs[slot],), outputs=(copy,)))
    return replace(op, inputs=tuple(copy if s == slot else t for s, t in enumerate(op.inputs)))


def _copying(tensor: Tensor) -> Op | None:
    """The op that copies tensors of a type; None for real values, which XNNPACK keeps, and others without one."""
    if tensor.quantization is not None and tensor.dtype in BITS:
        return Op("QUANTIZE", (), (), version=2 if tensor.dtype == "int16" else 1)
    if tensor.quantization is None and tensor.dtype in ("int32", "int64"):
        return _cast(tensor.dtype)
    return None


def guarded(graph: Graph) -> Graph:
    """The graph with a copy wherever an op could write over what others still need, whatever LiteRT's plan is.

    What can be lost is known from the graph alone: an op reads a view (`VIEWS`) of a tensor, and the tensor, or another
    view of it, is read later or is an output. Many of these copies are for nothing: `protected` asks LiteRT's plan
    which are needed. This is for graphs that are seen to lose values nevertheless.
    """
    roots = _roots(graph)
    last = {roots.get(t, t): i for i, op in enumerate(graph.ops) for t in op.inputs}
    last |= {roots.get(t, t): len(graph.ops) for t in graph.outputs}
    editor = Editor(graph)
    for i, op in enumerate(graph.ops):
        moved: dict[int, int] = {}
        for t in dict.fromkeys(op.inputs) if op.kind not in VIEWS else ():
            if t in roots and last[roots[t]] > i:
                tensor = graph.tensors[t]
                moved[t] = editor.add_tensor(replace(tensor, name=f"{tensor.name}/copy"))
                editor.add_op(replace(_copying(tensor) or _cast(tensor.dtype), inputs=(t,), outputs=(moved[t],)))
        editor.add_op(replace(op, inputs=tuple(moved.get(t, t) for t in op.inputs)))
    return editor.finish()


def _roots(graph: Graph) -> dict[int, int]:
    """View to the tensor that it is a view of."""
    roots: dict[int, int] = {}
    for op in graph.ops:
        if op.kind in VIEWS and not graph.tensors[op.inputs[0]].is_constant:
            roots[op.outputs[0]] = roots.get(op.inputs[0], op.inputs[0])
    return roots


def _cast(dtype: str) -> Op:
    return Op("CAST", (), (), {"inDataType": dtype.upper(), "outDataType": dtype.upper()})
