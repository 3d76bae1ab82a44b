from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.segments import Segment, segment_graph, segments
from edgeqwt.runtime.runners import reference
from tests.graph.random_graphs import random_graph, random_inputs


def run_in_parts(
    graph: Graph, parts: Sequence[Segment], cuts: Sequence[int], inputs: dict[int, Array]
) -> tuple[dict[int, Array], dict[int, Array]]:
    """The graph's outputs and its cuts."""
    store, seen = dict(inputs), {}
    for k, part in enumerate(parts):
        if part.ops:
            piece, new = segment_graph(graph, part)
            values = reference(piece).run({new[t]: store[t] for t in part.inputs})
            store |= {t: values[new[t]] for t in part.outputs}
        if k < len(cuts):
            seen[cuts[k]] = store[cuts[k]]
    return {t: store[t] for t in graph.outputs}, seen


def chain(length: int) -> Graph:
    """input -> RELU -> ... -> RELU; tensor i is op i's input."""
    tensors = tuple(Tensor(f"t{i}", (4,), "float32") for i in range(length + 1))
    return Graph(tensors, tuple(Op("RELU", (i,), (i + 1,)) for i in range(length)), (0,), (length,))


@pytest.mark.parametrize("seed", range(25))
def test_running_the_parts_of_a_random_graph_equals_running_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, ops=int(rng.integers(1, 16)))
    made = [t for op in graph.ops for t in op.outputs]
    cuts = sorted(rng.choice([*graph.inputs, *made], int(rng.integers(0, 5))).tolist())
    inputs = random_inputs(rng, graph)
    whole = reference(graph, taps=made).run(inputs) | inputs

    parts = segments(graph, cuts)
    outputs, seen = run_in_parts(graph, parts, cuts, inputs)

    assert sorted(i for part in parts for i in part.ops) == list(range(len(graph.ops)))
    assert len(parts) in (len(cuts), len(cuts) + 1)
    assert set(seen) == set(cuts)
    for t, value in (outputs | seen).items():
        np.testing.assert_array_equal(value, whole[t])


@pytest.mark.parametrize("seed", range(25))
def test_a_part_holds_only_what_its_cut_needs(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    graph = random_graph(rng, ops=12)
    cuts = sorted(rng.choice([t for op in graph.ops for t in op.outputs], 3).tolist())
    producers, held = graph.producers(), set()
    for part, cut in zip(segments(graph, cuts), cuts, strict=False):
        needed, pending = set(), [cut]
        while pending:
            if (op := producers.get(pending.pop())) is not None:
                needed.add(op)
                pending += graph.ops[op].inputs
        assert set(part.ops) == needed - held
        held |= needed


def test_cuts_of_a_chain() -> None:
    assert segments(chain(4), [2, 3]) == (
        Segment(ops=(0, 1), inputs=(0,), outputs=(2,)),
        Segment(ops=(2,), inputs=(2,), outputs=(3,)),
        Segment(ops=(3,), inputs=(3,), outputs=(4,)),
    )


def test_without_cuts_there_is_one_part_or_none() -> None:
    assert segments(chain(2), []) == (Segment(ops=(0, 1), inputs=(0,), outputs=(2,)),)
    nothing = Graph((Tensor("t", (1,), "float32"),), (), (0,), (0,))
    assert segments(nothing, []) == ()


def test_no_rest_after_a_cut_at_the_output() -> None:
    assert segments(chain(2), [2]) == (Segment(ops=(0, 1), inputs=(0,), outputs=(2,)),)


def test_cuts_that_need_no_op_are_legal() -> None:
    # The input, a tensor twice, and one that the part before had to compute (out of order).
    assert segments(chain(3), [0, 2, 2, 1]) == (
        Segment(ops=(), inputs=(), outputs=()),
        Segment(ops=(0, 1), inputs=(0,), outputs=(1, 2)),
        Segment(ops=(), inputs=(), outputs=()),
        Segment(ops=(), inputs=(), outputs=()),
        Segment(ops=(2,), inputs=(2,), outputs=(3,)),
    )


def test_a_cut_that_nothing_reads_is_kept_until_it_was_looked_at() -> None:
    axis = Tensor("axis", (), "int32", np.array(0, np.int32))
    tensors = (Tensor("x", (4,), "float32"), axis, Tensor("a", (2,), "float32"), Tensor("b", (2,), "float32"))
    graph = Graph(tensors, (Op("SPLIT", (1, 0), (2, 3), {"numSplits": 2}),), (0,), (2,))
    assert segments(graph, [2, 3]) == (
        Segment(ops=(0,), inputs=(0,), outputs=(2, 3)),
        Segment(ops=(), inputs=(), outputs=()),
    )


@pytest.mark.parametrize("cut", [1, 99, -1])
def test_a_cut_at_no_activation_is_our_bug(cut: int) -> None:
    tensors = (Tensor("x", (4,), "float32"), Tensor("c", (4,), "float32", np.zeros(4, np.float32)))
    graph = Graph((*tensors, Tensor("y", (4,), "float32")), (Op("ADD", (0, 1), (2,)),), (0,), (2,))
    with pytest.raises(InvariantError, match=f"cut at tensor {cut}"):
        segments(graph, [cut])


def shares_a_variable(graph: Graph) -> Graph:
    state = Tensor("state", (4,), "float32", is_variable=True)
    ops = tuple(replace(op, inputs=(*op.inputs, len(graph.tensors))) for op in graph.ops)
    return replace(graph, tensors=(*graph.tensors, state), ops=ops)


def has_a_resource(graph: Graph) -> Graph:
    handle = len(graph.tensors)
    tensors = (*graph.tensors, Tensor("handle", (), "resource"))
    return replace(graph, tensors=tensors, ops=(Op("VAR_HANDLE", (), (handle,)), *graph.ops))


def has_an_effect(graph: Graph) -> Graph:
    return replace(graph, ops=(*graph.ops, Op("CALL_ONCE", (), ())))


@pytest.mark.parametrize("change", [shares_a_variable, has_a_resource, has_an_effect])
def test_shared_state_is_refused(change: Callable[[Graph], Graph]) -> None:
    with pytest.raises(InputError, match="shares state"):
        segments(change(chain(2)), [1])


def test_state_of_a_single_op_is_no_obstacle() -> None:
    segments(shares_a_variable(chain(1)), [1])


@pytest.mark.parametrize("name", ["image_classification", "visual_wake_words", "keyword_spotting"])
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_real_models_in_parts_are_byte_identical(mlperf_tiny: Path, name: str, kind: str) -> None:
    graph = flatbuffer.read(mlperf_tiny / f"{name}_{kind}.tflite")
    rng = np.random.default_rng(5)
    feed = {t: random_feed(rng, graph.tensors[t]) for t in graph.inputs}
    linear = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    cuts = [op.outputs[0] for op in graph.ops if op.kind in linear]
    assert len(cuts) > 5
    whole = reference(graph, taps=cuts).run(feed)
    outputs, seen = run_in_parts(graph, segments(graph, cuts), cuts, feed)
    for t, value in (outputs | seen).items():
        assert value.tobytes() == whole[t].tobytes(), graph.tensors[t].name


def random_feed(rng: np.random.Generator, tensor: Tensor) -> Array:
    if tensor.is_float:
        return rng.random(tensor.shape, np.float32)
    return rng.integers(-128, 128, tensor.shape).astype(np.int8)
