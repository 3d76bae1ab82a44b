from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.samples import InputSpec
from edgeqwt.converters.binding import bind, describe, layouts
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph, Op, Tensor


def scaled(shape: tuple[int, ...], factors: Array) -> Graph:
    """x * factors, along the last axis."""
    x, y = Tensor("x", shape, "float32"), Tensor("y", shape, "float32")
    constant = Tensor("factors", factors.shape, "float32", factors)
    return Graph((x, constant, y), (Op("MUL", (0, 1), (2,), {"fusedActivationFunction": "NONE"}),), (0,), (2,))


@pytest.mark.parametrize(
    ("source", "graph", "expected"),
    [
        ((1, 3, 32, 32), (1, 32, 32, 3), [(0, 2, 3, 1)]),
        ((1, 32, 32, 3), (1, 32, 32, 3), [None]),
        ((1, 8, 4, 4), (1, 8, 4, 4), [None]),
        ((1, 4, 4, 4), (1, 4, 4, 4), [(0, 2, 3, 1), (0, 3, 1, 2), None]),
        ((1, 4, 9), (1, 9, 4), [(0, 2, 1)]),
        ((1, 2, 3, 4, 5), (1, 3, 4, 5, 2), [(0, 2, 3, 4, 1)]),
        ((1, 10), (1, 10), [None]),
        ((1, 10, 1, 1), (1, 10, 1, 1), [None]),
        ((1, 64, 1, 1), (1, 64), [None]),
        ((), (1,), [None]),
        ((1, 10), (1, 11), []),
    ],
)
def test_layouts(source: tuple[int, ...], graph: tuple[int, ...], expected: list[tuple[int, ...] | None]) -> None:
    assert layouts(source, graph) == expected


@pytest.mark.parametrize("moved", [False, True])
def test_an_ambiguous_layout_is_decided_by_the_values(moved: bool) -> None:
    factors = np.array([1, 2, 3, 4], np.float32)
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype(np.float32)
    y = x * (factors[:, None, None] if moved else factors)
    inputs, outputs = bind(scaled(x.shape, factors), [InputSpec("x", x.shape, "float32")], {"x": x}, {"y": y})
    graph = scaled(x.shape, factors)
    assert np.array_equal(outputs[0].to_source(inputs[0].to_graph(x, graph) * factors), y)
    assert (inputs[0].permutation == (0, 2, 3, 1)) is moved


def test_changes_are_reported() -> None:
    x = np.zeros((1, 3, 4, 5), np.float32)
    graph = scaled((1, 4, 5, 3), np.ones(3, np.float32))
    inputs, outputs = bind(graph, [InputSpec("image", x.shape, "int64")], {"image": x}, {"y": x})
    assert describe(inputs[0], graph, "input") == (
        "input 'image' (1, 3, 4, 5) NCHW became (1, 4, 5, 3) NHWC, int64 became float32, is called 'x'"
    )
    assert describe(outputs[0], graph, "output") == "output 'y' (1, 3, 4, 5) NCHW became (1, 4, 5, 3) NHWC"


def test_shapes_that_do_not_fit_and_inputs_without_effect() -> None:
    graph, x = scaled((1, 4), np.ones(4, np.float32)), np.zeros((1, 4), np.float32)
    spec = InputSpec("x", (1, 4), "float32")
    with pytest.raises(InputError, match=r"output 'y' has shape \(1, 5\) in the source, \(1, 4\) when converted"):
        bind(graph, [spec], {"x": x}, {"y": np.zeros((1, 5), np.float32)})
    with pytest.raises(InputError, match="input 'mask' has no effect"):
        bind(graph, [spec, InputSpec("mask", (1, 4), "float32")], {"x": x, "mask": x}, {"y": x})


def test_what_holds_nothing_is_told() -> None:
    graph, x = scaled((1, 4), np.ones(4, np.float32)), np.zeros((1, 4), np.float32)
    with pytest.raises(InputError, match=r"output 'y' has shape \(1, 0\): it holds nothing"):
        bind(graph, [InputSpec("x", (1, 4), "float32")], {"x": x}, {"y": np.zeros((1, 0), np.float32)})
