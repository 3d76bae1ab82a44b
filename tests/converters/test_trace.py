from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeqwt.converters.trace import align, statistics
from edgeqwt.graph.graph import Array, Graph, Op, Tensor


def chain(shapes: Sequence[tuple[int, ...]]) -> Graph:
    """Ops one after the other: tensor i is computed from tensor i - 1; its name is t<i>."""
    tensors = tuple(Tensor(f"t{i}", shape, "float32") for i, shape in enumerate(shapes))
    ops = tuple(Op("ABS", (i,), (i + 1,)) for i in range(len(shapes) - 1))
    return Graph(tensors, ops, inputs=(0,), outputs=(len(shapes) - 1,))


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_statistics_do_not_depend_on_the_layout() -> None:
    x = normal(1, 3, 4, 5)
    assert np.allclose(statistics(x), statistics(x.transpose(0, 2, 3, 1)), rtol=1e-12)


def test_values_come_in_the_graphs_layout() -> None:
    source = {"a": normal(1, 3, 4, 5, seed=1), "b": normal(1, 60, seed=2)}
    graph = chain([(1, 4, 5, 3), (1, 4, 5, 3), (1, 60)])
    values = {1: source["a"].transpose(0, 2, 3, 1) + np.float32(1e-6), 2: source["b"]}
    found = align(graph, values, source, {})
    assert np.array_equal(found["t1"], source["a"].transpose(0, 2, 3, 1))
    assert np.array_equal(found["t2"], source["b"])


def test_of_equal_dimensions_the_layout_that_fits_is_taken() -> None:
    x = normal(1, 4, 4, 4)
    found = align(chain([(1, 4, 4, 4)] * 2), {1: x.transpose(0, 2, 3, 1)}, {"x": x}, {})
    assert np.array_equal(found["t1"], x.transpose(0, 2, 3, 1))


def test_a_reshape_of_the_wrong_layout_is_no_match() -> None:
    x = normal(1, 3, 4, 5)
    wrong = x.transpose(0, 2, 3, 1).reshape(1, 60)
    found = align(chain([(1, 60)] * 2), {1: wrong}, {"flat": x.reshape(1, 60)}, {})
    assert np.array_equal(found["t1"], x.reshape(1, 60))
    assert np.abs(found["t1"] - wrong).max() > 1


def test_steps_within_an_op_are_left_out_and_wrong_tensors_are_not() -> None:
    shape = (1, 8)
    source = {"a": normal(*shape, seed=1), "b": normal(*shape, seed=2), "c": normal(*shape, seed=3)}
    values = {
        1: source["a"],
        2: normal(*shape, seed=9),  # in no source value, but b is computed from it
        3: source["b"],
        4: source["c"] * np.float32(1.3),  # wrong, and so is everything after it
        5: normal(*shape, seed=8),
    }
    found = align(chain([shape] * 6), values, source, {"t4": ("b", "c")})
    assert set(found) == {"t1", "t3", "t4", "t5"}
    assert np.array_equal(found["t4"], source["c"])


def test_a_constant_that_matches_by_chance_excuses_nothing() -> None:
    shape = (1, 8)
    source = {"a": normal(*shape), "zeros": np.zeros(shape, np.float32)}
    values = {1: source["a"] * np.float32(2), 2: np.zeros(shape, np.float32)}
    assert "t1" in align(chain([shape] * 3), values, source, {})


def test_infinite_masks_are_compared() -> None:
    mask = np.where(np.arange(8) > 4, -np.inf, 0).astype(np.float32)[None]
    found = align(chain([(1, 8)] * 2), {1: mask}, {"mask": mask, "other": normal(1, 8)}, {})
    assert np.array_equal(found["t1"], mask)
