"""patches @ matrix is what the kernels compute, and `from_matrix` undoes `matrix`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.im2col import from_matrix, matrix, patches
from edgeqwt.runtime.runners import xnnpack
from tests.one_op_specs import convolution

RNG = np.random.default_rng(0)


def options_of(padding: str, stride: int, dilation: int, **more: Any) -> dict[str, Any]:
    return {**convolution("NONE", padding, stride, dilation), **more}


CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "same": ("CONV_2D", (1, 7, 6, 3), (5, 3, 3, 3), options_of("SAME", 1, 1)),
    "same, stride 2": ("CONV_2D", (1, 7, 6, 3), (5, 3, 3, 3), options_of("SAME", 2, 1)),
    "even kernel": ("CONV_2D", (1, 8, 8, 2), (4, 2, 4, 2), options_of("SAME", 2, 1)),
    "valid, dilated": ("CONV_2D", (1, 9, 9, 2), (4, 3, 3, 2), options_of("VALID", 1, 2)),
    "grouped": ("CONV_2D", (1, 6, 6, 4), (6, 3, 3, 2), options_of("SAME", 1, 1)),
    "pointwise": ("CONV_2D", (1, 5, 5, 8), (4, 1, 1, 8), options_of("VALID", 1, 1)),
    "depthwise": ("DEPTHWISE_CONV_2D", (1, 7, 7, 4), (1, 3, 3, 4), options_of("SAME", 2, 1, depthMultiplier=1)),
    "multiplier": ("DEPTHWISE_CONV_2D", (1, 7, 7, 3), (1, 3, 3, 6), options_of("SAME", 1, 1, depthMultiplier=2)),
    "linear": ("FULLY_CONNECTED", (1, 12), (5, 12), {"fusedActivationFunction": "NONE", "weightsFormat": "DEFAULT"}),
}


@pytest.mark.parametrize("name", CASES)
def test_product_is_what_litert_computes(name: str) -> None:
    kind, shape, weights_shape, options = CASES[name]
    x = RNG.normal(size=shape).astype(np.float32)
    weights = RNG.normal(size=weights_shape).astype(np.float32)
    op = Op(kind, (0, 1, 2), (3,), options)
    rows = patches(op, x, weights_shape)
    product = np.einsum("gpt,gct->pgc", rows, matrix(kind, weights, len(rows)))
    expected = run(op, x, weights)
    # Float32 sums of at most 27 terms below 5: 27 * 5 * 2^-24 = 8e-6.
    np.testing.assert_allclose(product.reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_integers_are_taken_as_they_are_stored(name: str) -> None:
    """With what stands for zero as padding: as real values, and at every other position, they are the same."""
    kind, shape, weights_shape, options = CASES[name]
    op, zero = Op(kind, (), (), options), -3
    stored = RNG.integers(-128, 128, shape).astype(np.int8)
    for every in (1, 2):
        found = patches(op, stored, weights_shape, every, outside=zero)
        assert found.dtype == np.int8
        wanted = patches(op, stored.astype(np.float32) - zero, weights_shape, every)
        np.testing.assert_array_equal(found.astype(np.float32) - zero, wanted)


@pytest.mark.parametrize("name", CASES)
def test_from_matrix_undoes_matrix(name: str) -> None:
    kind, shape, weights_shape, options = CASES[name]
    weights = RNG.normal(size=weights_shape)
    groups = len(patches(Op(kind, (), (), options), np.zeros(shape), weights_shape))
    np.testing.assert_array_equal(from_matrix(kind, matrix(kind, weights, groups), weights_shape), weights)


def run(op: Op, x: Array, weights: Array) -> Array:
    """The op in LiteRT; the interpreter knows the shape of the output."""
    channels = weights.shape[3] if op.kind == "DEPTHWISE_CONV_2D" else weights.shape[0]
    size = (1, channels) if x.ndim == 2 else (1, *spatial(op, x, weights), channels)
    bias = np.zeros(channels, np.float32)
    graph = Graph(
        tensors=(
            Tensor("x", x.shape, "float32"),
            Tensor("w", weights.shape, "float32", weights),
            Tensor("b", bias.shape, "float32", bias),
            Tensor("y", size, "float32"),
        ),
        ops=(op,),
        inputs=(0,),
        outputs=(3,),
    )
    return xnnpack(graph).run({0: x})[3]


def spatial(op: Op, x: Array, weights: Array) -> tuple[int, int]:
    stride, dilation = op.options["strideH"], op.options["dilationHFactor"]
    reach = [(k - 1) * dilation + 1 for k in weights.shape[1:3]]
    missing = [0, 0] if op.options["padding"] == "SAME" else [r - 1 for r in reach]
    height, width = (-(-(size - m) // stride) for size, m in zip(x.shape[1:3], missing, strict=True))
    return height, width
