"""A few of the integer graphs that `make fuzz-kernels` tries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset16 import BITS, rule_at
from edgeqwt.runtime.boundary import limits
from edgeqwt.runtime.runners import TFLiteMicro, reference
from tests.fuzz.differential import differences, hunt
from tests.fuzz.integer_graphs import random_graph
from tests.fuzz.integer_ops import WRITERS
from tests.one_op import options_type


def test_runtimes_compute_what_the_op_table_says() -> None:
    found = [f for _, each_found in hunt(0, range(100)) for f in each_found]
    assert [f for f in found if f.wrong] == []
    assert {f.runtime for f in found} >= {"reference", "xnnpack"}
    assert len({f.kind for f in found}) > len(WRITERS) / 2


def test_the_same_number_is_the_same_graph() -> None:
    one, other = (random_graph(np.random.default_rng((0, 7))) for _ in range(2))
    assert [op.kind for op in one.graph.ops] == [op.kind for op in other.graph.ops]
    assert all(np.array_equal(one.feed[t], other.feed[t]) for t in one.feed)


def test_an_op_that_computes_something_else_is_found() -> None:
    made = next(
        m
        for m in (random_graph(np.random.default_rng((0, i))) for i in range(1000))
        if [op.kind for op in m.graph.ops] == ["TRANSPOSE"]
    )
    assert not any(f.wrong for f in differences(made))
    (step,) = made.steps
    scale = made.graph.tensors[step.op.outputs[0]].quantization
    assert scale is not None
    moved = replace(step, exact=lambda *x: step.exact(*x) + 2 * scale.scale[0])
    assert any(f.wrong for f in differences(replace(made, steps=(moved,))))


@pytest.mark.requires("tflite_micro")
@pytest.mark.parametrize(("kind", "steps"), [("ABS", 1), ("LEAKY_RELU", 1), ("QUANTIZE", 0)])
def test_tflite_micro_rounds_exact_ties_of_some_ops_differently(kind: str, steps: int) -> None:
    x, y = (Quantization.per_tensor(scale, -128) for scale in (1.0, 4 / 3))  # 0.75 times a whole number: halves
    options = {"alpha": 0.5} if kind == "LEAKY_RELU" else {}
    op = Op(kind, (0,), (1,), options, rule_at(kind, 8).version, extra={"optionsType": options_type(kind)})
    integers = np.arange(-128, 128).astype(np.int8)[None]
    tensors = (Tensor("x", (1, 256), "int8", None, x), Tensor("y", (1, 256), "int8", None, y))
    graph = Graph(tensors, (op,), (0,), (1,))
    ours, theirs = (f(graph).run({0: integers})[1].astype(int) for f in (TFLiteMicro, reference))
    assert np.abs(ours - theirs).max() == steps


@pytest.mark.parametrize(("dtype", "ratio"), [("int8", 2.0**24), ("int16", 2.0**16)])
def test_means_wrap_around_beyond_the_tables_ratio(dtype: str, ratio: float) -> None:
    bits, shape, (low, high) = BITS[dtype], (1, 6, 5, 4), limits(dtype)
    rule, values = rule_at("MEAN", bits), np.random.default_rng(0).integers(low, high + 1, shape)
    assert rule.largest_ratio < ratio
    off = []
    for r in (0.99 * rule.largest_ratio, ratio):
        x, y = (Quantization.per_tensor(scale, 0) for scale in (1.0, 1 / r))
        axis = Tensor("axis", (1,), "int32", np.array([1], np.int32))
        tensors = (Tensor("x", shape, dtype, None, x), axis, Tensor("y", (1, 1, 5, 4), dtype, None, y))
        graph = Graph(tensors, (Op("MEAN", (0, 1), (2,), {"keepDims": True}, rule.version),), (0,), (2,))
        exact = np.clip(values.mean(1, keepdims=True) * r, low, high)
        off.append(float(np.abs(reference(graph).run({0: values.astype(dtype)})[2] - exact).max()))
    assert off[0] <= rule.bound
    assert off[1] > high  # the other end of the type
