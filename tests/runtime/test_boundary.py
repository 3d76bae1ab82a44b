"""The boundary's arithmetic against LiteRT's own QUANTIZE and DEQUANTIZE kernels."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.runtime.boundary import graph_feed, quantized, real, to_real
from edgeqwt.runtime.runners import reference


def _one_op(kind: str, source: Tensor, target: Tensor) -> Graph:
    return Graph((source, target), (Op(kind, (0,), (1,), version=1 if kind == "QUANTIZE" else 2),), (0,), (1,))


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -128), ("int8", 7), ("int16", 0)])
@pytest.mark.parametrize("scale", [0.5, 0.0078125, 0.1, 1 / 3, 1e-6])
def test_quantized_is_the_reference_kernel(dtype: str, zero_point: int, scale: float) -> None:
    rng = np.random.default_rng(0)
    q = Quantization.per_tensor(scale, zero_point)
    # +-2e9 steps still fit the kernel's int32; beyond them it is undefined.
    halves = (np.arange(-400, 400) + 0.5) * np.float32(scale)
    values = np.concatenate([halves, rng.normal(0, 60 * scale, 4000), [2e9 * scale, -2e9 * scale, 0.0]]).astype(
        np.float32
    )
    graph = _one_op("QUANTIZE", Tensor("x", values.shape, "float32"), Tensor("q", values.shape, dtype, None, q))
    expected = reference(graph).run({0: values})[1]
    np.testing.assert_array_equal(quantized(values, q, dtype), expected)


@pytest.mark.parametrize(("scale", "zero_point"), [(0.1, 3), (1 / 3, -128), (0.0235294122248888, 127)])
def test_real_is_the_reference_kernel(scale: float, zero_point: int) -> None:
    q = Quantization.per_tensor(scale, zero_point)
    values = np.arange(-128, 128, dtype=np.int8)
    graph = _one_op("DEQUANTIZE", Tensor("q", (256,), "int8", None, q), Tensor("x", (256,), "float32"))
    np.testing.assert_array_equal(real(values, q), reference(graph).run({0: values})[1])


def test_per_channel_scales_run_along_their_axis() -> None:
    q = Quantization.per_channel(np.array([1.0, 2.0]), axis=1)
    integers = quantized(np.array([[4.0, 4.0], [-3.0, -3.0]]), q, "int8")
    np.testing.assert_array_equal(integers, [[4, 2], [-3, -2]])  # -1.5 rounds away from zero
    np.testing.assert_array_equal(real(integers, q), [[4, 4], [-3, -4]])


def test_int4_saturates_at_four_bits() -> None:
    q = Quantization.per_tensor(1.0, 0)
    np.testing.assert_array_equal(quantized(np.array([-9.0, 9.0]), q, "int4"), [-8, 7])


def test_feed_and_real_leave_unquantized_tensors_alone() -> None:
    tensors = (
        Tensor("image", (2,), "int8", None, Quantization.per_tensor(0.5, 1)),
        Tensor("ids", (2,), "int32"),
        Tensor("x", (2,), "float32"),
    )
    graph = Graph(tensors, (), (0, 1, 2), (0,))
    ids = np.array([30000, 2], np.int64)
    feed = graph_feed(graph, {0: np.array([1.0, -1.0]), 1: ids, 2: np.array([0.5, 1.5])})
    assert {t: a.dtype.name for t, a in feed.items()} == {0: "int8", 1: "int32", 2: "float32"}
    np.testing.assert_array_equal(feed[0], [3, -1])
    np.testing.assert_array_equal(feed[1], ids)
    np.testing.assert_array_equal(to_real(graph, 0, feed[0]), np.array([1.0, -1.0], np.float32))
    assert to_real(graph, 1, feed[1]) is feed[1]


def test_stored_integers_pass_through_unquantized() -> None:
    graph = Graph((Tensor("x", (1,), "int8", None, Quantization.per_tensor(0.5, 1)),), (), (0,), (0,))
    stored = np.array([9], np.int8)
    assert graph_feed(graph, {0: stored})[0] is stored


def test_complex_values_are_pairs() -> None:
    graph = Graph((Tensor("x", (2,), "complex64"),), (), (0,), (0,))
    found = to_real(graph, 0, np.array([1 + 2j, -3j], np.complex64))
    assert (found.dtype, found.tolist()) == (np.float32, [[1, 2], [0, -3]])
