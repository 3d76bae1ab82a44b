"""Files that end LiteRT's process, or ask for more than they state, are refused by the op's name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.runtime import foreign
from edgeqwt.runtime.child import Limits
from tests import small
from tests.chain import CONV, Chain, noise


def added(scale: float) -> Graph:
    """RELU and ADD on int8: LiteRT's kernels abort where an input's scale is 2^19 times the output's."""
    scales = {"x": scale, "relu": scale, "sum": 1.0}
    tensors = tuple(Tensor(n, (2,), "int8", quantization=Quantization.per_tensor(s, 0)) for n, s in scales.items())
    return Graph(tensors, (Op("RELU", (0,), (1,)), Op("ADD", (0, 1), (2,), version=2)), (0,), (2,))


def test_what_ends_the_process_is_named() -> None:
    with pytest.raises(InputError, match=r"m\.tflite: ADD #1 -> 'sum' ends LiteRT's process .* signal SIGABRT"):
        foreign.survived(added(2.0**24), "m.tflite")
    graph = added(0.5)
    assert foreign.survived(graph, "m.tflite") is graph


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain()
    x = chain.input((1, 128, 128, 64))  # 600 million products: a second in the reference kernels
    filters, bias = chain.constant(noise(64, 3, 3, 64)), chain.constant(noise(64))
    graph = chain.graph(chain.op("CONV_2D", x, filters, bias, shape=(1, 128, 128, 64), **CONV))
    monkeypatch.setattr("edgeqwt.runtime.subprocess_runners.allowed", lambda graph: Limits(seconds=0.02))
    with pytest.raises(InputError, match=r"ends LiteRT's process .* as long as it may take"):
        foreign.survived(graph, "m.tflite")


def padded(rows: int, stated: int) -> Graph:
    """PAD along the batch."""
    amounts = np.array([[0, rows], [0, 0]], np.int32)
    tensors = (
        Tensor("x", (1, 8), "float32"),
        Tensor("amounts", (2, 2), "int32", amounts),
        Tensor("y", (stated, 8), "float32"),
    )
    return Graph(tensors, (Op("PAD", (0, 1), (2,)),), (0,), (2,))


def test_shapes_are_those_that_litert_computes() -> None:
    assert foreign.survived(padded(3, 1), "m").tensors[2].shape == (4, 8)
    with pytest.raises(InputError, match=r"'y' is stated with shape \(1, 8\), and LiteRT computes \(65536, 8\)"):
        foreign.survived(padded(65535, 1), "m")


def test_nothing_is_no_activation() -> None:
    """Where a size is 0, kernels differ in what they compute of it."""
    tensors = (Tensor("x", (1, 4, 4, 2), "float32"), Tensor("pooled", (1, 0, 1, 2), "float32"))
    options = {"padding": "VALID", "strideW": 8, "strideH": 8, "filterWidth": 4, "filterHeight": 8}
    pool = Op("AVERAGE_POOL_2D", (0,), (1,), {**options, "fusedActivationFunction": "NONE"})
    with pytest.raises(InputError, match=r"'pooled' has no values, its shape is \(1, 0, 1, 2\)"):
        foreign.survived(Graph(tensors, (pool,), (0,), (1,)), "m")


def test_shapes_on_a_sample_are_computed_in_another_process() -> None:
    zeros = {0: np.zeros((1, 8), np.float32)}
    assert foreign.computed_shapes(padded(3, 1), zeros, True, "m")[2] == (4, 8)
    with pytest.raises(InputError, match=r"m: ADD #1 -> 'sum' ends LiteRT's process"):
        foreign.computed_shapes(added(2.0**25), {0: np.zeros(2, np.int8)}, True, "m")


def test_activations_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "LARGEST", 100)
    with pytest.raises(InputError, match="its activations take"):
        foreign.survived(padded(4, 5), "m")


def test_a_good_model_passes_unchanged_and_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small.graph()
    assert foreign.survived(graph, "m") is graph
    monkeypatch.setattr(foreign, "_tried", lambda graph, kind: pytest.fail("tried again"))
    assert foreign.survived(replace(graph), "m").ops == graph.ops
