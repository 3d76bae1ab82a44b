"""Files that are not ours meet LiteRT in another process before they meet it in this one.

What damages memory there, loops for ever or asks for more than it may use ends that process only. Then every op is
tried by itself, so that the error names the one that did it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.demands import check_demands
from edgeqwt.graph.graph import DTYPES, Array, Graph
from edgeqwt.graph.tensor import HANDLES
from edgeqwt.runtime.child import EndedError
from edgeqwt.runtime.ended import TOGETHER, first_ending
from edgeqwt.runtime.interpreters import FILES, InterpreterError
from edgeqwt.runtime.subprocess_runners import litert_host

SLOW = 1 << 22
"""Elements of activations beyond which the reference kernels, which are slow, only load a model."""

MANY = 1 << 25
"""Elements of activations beyond which not all of them are looked at."""
GROWTH = 64
"""How much larger a tensor may be than its file states: batches that were left open are one there."""
LARGEST = 8 << 30
"""Bytes of all activations of a model together, for one sample; a layer-wise comparison holds all of them."""
Shapes = dict[int, tuple[int, ...]]

_shapes: dict[bytes, Shapes] = {}


def read_foreign(path: Path) -> Graph:
    """The model in a file of the user's, which LiteRT survived, with the shapes that LiteRT computes.

    Raises:
        InputError: as `flatbuffer.read` and `survived`.
    """
    graph = flatbuffer.read(path)
    return survived(graph, str(path))


def survived(graph: Graph, what: str) -> Graph:
    """Loads a graph and runs it once on zeros, in another process, in every family of kernels that will run it here.

    A graph that an interpreter only refuses passes: who runs it then says why.

    Args:
        graph: as it was read.
        what: the file, for messages.

    Returns:
        The graph with the shapes that LiteRT computes, where the file states others.

    Raises:
        InputError: it has no outputs, or the process ended over it: it crashed, or needed more memory or time than
            it may. Or what it computes is larger than `LARGEST`.
    """
    if not graph.outputs:
        raise InputError(f"{what} has no outputs", "Convert the model again.")
    digest = hashlib.sha256(FILES.of(graph, graph.outputs)).digest()
    if digest not in _shapes:
        found: Shapes = {}
        for kind in ("builtin",) if _open(graph) else ("xnnpack", "reference"):
            try:
                found |= _tried(graph, kind)  # XNNPACK tells nothing of what it keeps to itself
            except EndedError as error:
                raise _ended(graph, kind, what, error) from None
            except InterpreterError:
                continue
        _shapes[digest] = found
    return graph if _open(graph) else _as_computed(graph, _shapes[digest], what)


def computed_shapes(graph: Graph, sample: Mapping[int, Array] | None, run: bool, what: str) -> Shapes:
    """The shapes that a graph's tensors have on a sample, those that LiteRT tells of, computed in another process.

    Args:
        graph: it need not state the shapes that its ops compute.
        sample: by input tensor; zeros without any.
        run: run it: LiteRT knows some shapes only then.
        what: the file, for messages.

    Raises:
        InterpreterError: LiteRT refuses the model, or fails on the sample.
        InputError: the process ended over it.
    """
    try:
        return litert_host().runner("builtin", graph).exercise(run, sample)
    except EndedError as error:
        raise _ended(graph, "builtin", what, error) from None


def _ended(graph: Graph, kind: str, what: str, error: EndedError) -> InputError:
    how = error.arguments[2][-1]
    return InputError(
        f"{what}: {_culprit(graph, kind)} ends LiteRT's process ({kind} kernels): {how}",
        "The file is damaged or was made to do that: make it again, or do not use it.",
    )


def _tried(graph: Graph, kind: str) -> Shapes:
    """The shapes that an interpreter gives the graph's tensors; none where only running tells."""
    open_ended, size = _open(graph), sum(math.prod(t.shape) for t in graph.tensors if not t.is_constant)
    # As a comparison layer by layer looks at all of them, which changes what LiteRT does with memory.
    looked = [t for op in graph.ops for t in op.outputs if graph.tensors[t].dtype not in HANDLES]
    taps = looked if size <= MANY and not open_ended else []
    return litert_host().runner(kind, graph, taps).exercise(not open_ended and (kind != "reference" or size <= SLOW))


def _as_computed(graph: Graph, shapes: Shapes, what: str) -> Graph:
    changes, size = {}, 0
    for t in dict.fromkeys((*graph.inputs, *(t for op in graph.ops for t in op.outputs))):
        tensor = graph.tensors[t]
        shape = shapes.get(t, tensor.shape)
        size += math.prod(shape) * np.dtype(DTYPES.get(tensor.dtype, np.int64)).itemsize
        if tensor.shape and math.prod(shape) > GROWTH * max(tensor.size, 1):
            raise InputError(
                f"{what}: {tensor.name!r} is stated with shape {tensor.shape}, and LiteRT computes {shape}",
                "The file is damaged: convert the model again.",
            )
        if 0 in shape:  # kernels differ in what they make of nothing
            raise InputError(f"{what}: {tensor.name!r} has no values, its shape is {shape}", "Convert the model again.")
        if shape != tensor.shape:
            changes[t] = replace(tensor, shape=shape)
    if size > LARGEST:
        raise InputError(
            f"{what}: its activations take {size / 2**30:.1f} GiB together, edgeqwt runs models of up to "
            f"{LARGEST >> 30} GiB",
            "Give it smaller inputs.",
        )
    try:
        graph = graph.with_tensors(changes) if changes else graph
        check_demands(graph, what)
        return graph
    except InvariantError as error:
        raise InputError(
            f"{what} states other shapes than LiteRT computes: {error.message}", "Convert the model again."
        ) from None


def _open(graph: Graph) -> bool:
    """Whether there is no saying what the graph's inputs take."""
    inputs = [graph.tensors[t] for t in graph.inputs]
    return any(t.dtype not in DTYPES or -1 in t.shape or -1 in (t.shape_signature or ()) for t in inputs)


def _culprit(graph: Graph, kind: str) -> str:
    op = first_ending(graph, lambda part: _tried(part, kind))
    return TOGETHER if op is None else graph.describe(op)
