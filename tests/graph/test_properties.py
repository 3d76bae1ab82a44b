"""Properties of any graph, chosen by hypothesis: reading what was written, preparing, lowering."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Tensor
from edgeqwt.graph.opset import RULES
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.boundary import limits, to_real
from edgeqwt.runtime.runners import RUNNERS, reference
from tests.graph.random_graphs import random_graph, random_inputs
from tests.one_op import lowered

# The same graphs at every run, as many as a second or two takes.
QUIET = settings(
    derandomize=True, deadline=None, database=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow]
)
seeds = st.integers(0, 2**32 - 1)


@QUIET
@given(seed=seeds, ops=st.integers(0, 12), names=st.lists(st.text(max_size=12), min_size=1))
def test_what_is_written_is_what_is_read(seed: int, ops: int, names: list[str]) -> None:
    graph = random_graph(np.random.default_rng(seed), ops)
    named = {i: Tensor(names[i % len(names)], t.shape, t.dtype, t.data) for i, t in enumerate(graph.tensors)}
    graph = graph.with_tensors(named)
    data = flatbuffer.to_bytes(graph)
    found = flatbuffer.from_bytes(data)
    assert flatbuffer.to_bytes(found) == data
    assert (found.inputs, found.outputs) == (graph.inputs, graph.outputs)
    assert [(op.kind, op.inputs, op.outputs) for op in found.ops] == [
        (op.kind, op.inputs, op.outputs) for op in graph.ops
    ]
    for a, b in zip(graph.tensors, found.tensors, strict=True):
        # A text that UTF-8 does not have (half a surrogate pair) cannot be a name in a file; hypothesis gives none.
        assert (a.name, a.shape, a.dtype) == (b.name, b.shape, b.dtype)
        assert (a.data is None) == (b.data is None)
        assert a.data is None or np.array_equal(a.data, b.data)  # type: ignore[arg-type]


@QUIET
@given(seed=seeds, ops=st.integers(1, 10))
def test_preparing_leaves_the_function_as_it_is(seed: int, ops: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, ops)
    prepared = prepare(graph).graph
    for _ in range(2):
        sample = random_inputs(rng, graph)
        expected, found = values(graph, sample), values(prepared, sample)
        for a, b in zip(expected, found, strict=True):
            assert np.array_equal(a, b)  # small integers: every order of additions is exact


def values(graph: Graph, sample: dict[int, np.ndarray]) -> list[np.ndarray]:
    """The outputs; one that is an input is what was given, one that is a constant its value."""
    feed = dict(zip(graph.inputs, sample.values(), strict=True))
    run = {**feed, **(reference(graph).run(feed) if graph.ops else {})}
    constants = {i: t.data for i, t in enumerate(graph.tensors) if t.data is not None}
    return [run[t] if t in run else constants[t] for t in graph.outputs]


@QUIET
@given(seed=seeds, ops=st.integers(1, 8))
def test_what_is_lowered_has_integers_ties_and_the_same_interface(seed: int, ops: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, ops)
    samples = [random_inputs(rng, graph) for _ in range(3)]
    try:
        found = lowered(graph, samples)
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error}")
    integer = found.graph
    assert not [t.name for t in integer.tensors if t.dtype.startswith("float")]
    assert len(integer.inputs) == len(graph.inputs)
    assert [integer.tensors[t].shape for t in integer.outputs] == [graph.tensors[t].shape for t in graph.outputs]
    for op in integer.ops:
        scales = [integer.tensors[t].quantization for t in (*op.inputs, *op.outputs) if t >= 0]
        if op.kind in ("SPLIT", "CONCATENATION"):
            tied = [q for q in scales if q is not None]
            assert all(q.same_as(tied[0]) for q in tied)


@pytest.mark.requires("tflite_micro")
@settings(QUIET, max_examples=8)
@given(seed=seeds, ops=st.integers(1, 8))
def test_every_runtime_computes_each_lowered_op_within_its_bound(seed: int, ops: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, ops)
    found = lowered(graph, [random_inputs(rng, graph) for _ in range(3)])
    if not found.graph.ops:
        return
    results = [t for op in found.graph.ops for t in op.outputs]
    runs = {name: factory(found.graph, results).run(found.inputs[0]) for name, factory in RUNNERS.items()}
    for values in runs.values():
        known = {**found.inputs[0], **values}
        known |= {t: tensor.data for t, tensor in enumerate(found.graph.tensors) if tensor.data is not None}
        for op in found.graph.ops:
            if op.kind == "SUB":
                a, b = (to_real(found.graph, t, known[t]).astype(np.float64) for t in op.inputs)
                out = found.graph.tensors[op.outputs[0]]
                assert out.quantization is not None
                steps = (a - b) / out.quantization.scale[0] + out.quantization.zero_point[0]
                exact = np.clip(steps, *limits(out.dtype))
                assert np.abs(known[op.outputs[0]] - exact).max() <= RULES["SUB"].bound
    for t in results:
        np.testing.assert_array_equal(runs["reference"][t], runs["tflm"][t])
