"""Convolutions with computed weights as products of patches."""

from __future__ import annotations

import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.padding import same_padding
from edgeqwt.prepare.computed_kernels import convolutions, depthwise
from edgeqwt.prepare.prepare import prepare
from tests.chain import Chain, noise
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function, kinds

IMAGE = 1, 7, 6, 4


def computed(
    kind: str, kernel: tuple[int, ...], stride: int = 1, gap: int = 1, padding: str = "SAME", activation: str = "NONE"
) -> Graph:
    """An image and a kernel that are inputs both."""
    chain, options = Chain(), {"strideH": stride, "strideW": stride, "dilationHFactor": gap, "dilationWFactor": gap}
    rows, columns = (
        -(-size // stride) if padding == "SAME" else (size - (k - 1) * gap - 1) // stride + 1
        for size, k in zip(IMAGE[1:3], kernel[1:3], strict=True)
    )
    count = kernel[3] if kind == "DEPTHWISE_CONV_2D" else kernel[0]
    x, w, bias = chain.input(IMAGE), chain.input(kernel), chain.constant(noise(count))
    if kind == "DEPTHWISE_CONV_2D":
        options["depthMultiplier"] = 1
    y = chain.op(
        kind,
        x,
        w,
        bias,
        shape=(1, rows, columns, count),
        padding=padding,
        fusedActivationFunction=activation,
        **options,
    )
    return chain.graph(y)


@pytest.mark.parametrize(
    ("kind", "kernel", "options"),
    [
        ("CONV_2D", (5, 3, 3, 4), {}),
        ("CONV_2D", (5, 3, 2, 4), {"stride": 2, "activation": "RELU6"}),
        ("CONV_2D", (5, 2, 2, 4), {"gap": 2, "padding": "VALID"}),
        ("CONV_2D", (5, 1, 1, 4), {}),
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 4), {"stride": 2}),
        ("DEPTHWISE_CONV_2D", (1, 1, 1, 4), {"padding": "VALID", "activation": "RELU"}),
    ],
)
def test_the_same_is_computed_by_a_product(kind: str, kernel: tuple[int, ...], options: dict[str, object]) -> None:
    graph = computed(kind, kernel, **options)  # type: ignore[arg-type]
    prepared = prepare(graph).graph
    assert "BATCH_MATMUL" in kinds(prepared)
    assert kind not in kinds(prepared)
    assert ("PAD" in kinds(prepared)) == any(map(any, same_padding(graph.ops[0], IMAGE[1:3], kernel[1:3])))
    assert_same_function(graph, prepared)


def test_constant_weights_and_groups_stay() -> None:
    chain = Chain()
    graph = chain.graph(toy.conv(chain, chain.input(IMAGE), noise(5, 3, 3, 4))) if hasattr(toy, "conv") else None
    groups = computed("CONV_2D", (4, 3, 3, 2))
    for given in (graph, groups):
        if given is not None:
            assert convolutions(given) == (given, [])
            assert depthwise(given) == (given, [])
