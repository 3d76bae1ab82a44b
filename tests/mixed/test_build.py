"""Budgets on small networks where the right answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.errors import RecipeError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.mixed.build import Assignment, make_mixed
from edgeqwt.mixed.cost import file_size, stored
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import make
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import Recipe, load
from edgeqwt.runtime.runners import reference
from edgeqwt.widths.precision import Mixed, OpTimes, parse
from tests.chain import CONV, NONE, Chain, noise
from tests.mixed.builds import LAYERS, job, network

RECIPE = load("fast")


def built(graph: Graph, folder: Path, goal: Mixed) -> tuple[Graph, Assignment]:
    """The stored graph and the account."""
    work = job(graph, folder)
    found, recipe, account = make_mixed(work, RECIPE, goal, Stages())
    return stored(found.graph, recipe, work.target), account


def made(work: Context, recipe: Recipe) -> Graph:
    return make(work, recipe.techniques, recipe.precision, Stages()).graph


def sizes(graph: Graph, folder: Path) -> tuple[int, int]:
    """Bytes of the file with 4-bit and with 8-bit weights everywhere."""
    work = job(graph, folder)
    recipes = [replace(RECIPE, precision=parse(name)) for name in ("w4a8", "w8a8")]
    small, large = (file_size(made(work, recipe), recipe, work.target) for recipe in recipes)
    return small, large


def weights(account: Assignment) -> dict[str, int]:
    return {layer.name: layer.chosen.weights for layer in account.layers}


@pytest.mark.parametrize("delicate", ["first", "third"])
def test_the_delicate_layer_gets_eight_bits(tmp_path: Path, delicate: str) -> None:
    small, large = sizes(network(delicate), tmp_path)
    # Room for one layer and a little more: an int8 version of the op, and alignment.
    limit = small + (large - small) // 4 + 64
    graph, account = built(network(delicate), tmp_path, Mixed(max_size=limit, samples=8))
    assert weights(account) == {name: 8 if name == delicate else 4 for name in LAYERS}
    assert account.bytes == len(flatbuffer.to_bytes(graph)) <= limit
    assert account.builds == 1
    kept = {graph.tensors[op.inputs[1]].dtype for op in graph.ops if op.kind == "CONV_2D"}
    assert kept == {"int4", "int8"}


def test_the_smallest_and_the_largest_budget(tmp_path: Path) -> None:
    small, large = sizes(network(), tmp_path)
    assert set(weights(built(network(), tmp_path, Mixed(max_size=small, samples=4))[1]).values()) == {4}
    assert set(weights(built(network(), tmp_path, Mixed(max_size=large, samples=4))[1]).values()) == {8}


def test_a_budget_below_the_smallest_file_says_what_that_is(tmp_path: Path) -> None:
    small, _ = sizes(network(), tmp_path)
    # Buffers are padded to 16 bytes: so near the prediction may be wrong, and the built file tells.
    with pytest.raises(RecipeError, match=f"at most {small - 1} bytes.* {small}$"):
        built(network(), tmp_path, Mixed(max_size=small - 1, samples=4))
    with pytest.raises(RecipeError, match=f"at most {small - 100} bytes: the smallest take"):
        built(network(), tmp_path, Mixed(max_size=small - 100, samples=4))


def test_the_same_twice(tmp_path: Path) -> None:
    goal = Mixed(max_size=8000, samples=8)
    (a, first), (b, second) = (built(network("second"), tmp_path, goal) for _ in range(2))
    assert flatbuffer.to_bytes(a) == flatbuffer.to_bytes(b)
    assert first == second


def test_more_bytes_are_more_decibels(tmp_path: Path) -> None:
    small, large = sizes(network("second"), tmp_path)
    limits = [int(x) for x in np.linspace(small, large, 4)]
    accounts = [built(network("second"), tmp_path, Mixed(max_size=limit, samples=16))[1] for limit in limits]
    assert [a.predicted_db for a in accounts] == sorted(a.predicted_db for a in accounts)
    assert all(a.bytes <= limit for a, limit in zip(accounts, limits, strict=True))
    # The prediction is of nearest rounding and no compensation here; both are within a few decibels.
    assert all(abs(a.measured_db - a.predicted_db) < 3 for a in accounts)


def test_decibels_are_reached_with_the_delicate_layer_alone(tmp_path: Path) -> None:
    work = network("fourth")
    everything = built(work, tmp_path, Mixed(max_size=10**6, samples=16))[1].measured_db
    nothing = built(work, tmp_path, Mixed(max_size=sizes(work, tmp_path)[0], samples=16))[1].measured_db
    goal = Mixed(min_sqnr=nothing + 0.3 * (everything - nothing), samples=16)
    _, account = built(work, tmp_path, goal)
    assert account.measured_db >= goal.min_sqnr
    assert weights(account)["fourth"] == 8
    assert set(weights(account).values()) == {4, 8}


def test_decibels_that_no_widths_reach(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="90 dB were not reached"):
        built(network(), tmp_path, Mixed(min_sqnr=90.0, samples=4))


def deep() -> Graph:
    """Three convolutions in a row; in the middle, one value in 64 channels makes 8-bit steps coarse."""
    chain = Chain()
    x = chain.input((1, 8, 8, 8), "image")
    bias = np.zeros(16, np.float32)
    bias[3] = 500.0
    options = {**CONV, "fusedActivationFunction": "RELU"}
    first = chain.op("CONV_2D", x, chain.constant(noise(16, 1, 1, 8)), chain.constant(bias), name="first", **options)
    mixing = noise(16, 1, 1, 16, seed=1)
    mixing[..., 3] = 0
    second = chain.op("CONV_2D", first, chain.constant(mixing), chain.constant(noise(16)), name="second", **CONV)
    third = chain.op(
        "CONV_2D", second, chain.constant(noise(4, 1, 1, 16, seed=2)), chain.constant(noise(4)), name="third", **CONV
    )
    return chain.graph(chain.op("MUL", third, chain.constant(noise(4)), name="result", **NONE))


def test_time_buys_sixteen_bits_where_they_pay(tmp_path: Path) -> None:
    op_times = OpTimes(w8a16=2.0, w4a16=2.0, w4a8=2.0, element=1.0, element16=2.0, copy=1.0)
    _, plain = built(deep(), tmp_path, Mixed(max_latency=1.0, samples=8, op_times=op_times))
    assert (plain.wide, plain.copies, plain.relative_time) == ((), 0, 1.0)
    graph, account = built(deep(), tmp_path, Mixed(max_latency=1.95, samples=8, op_times=op_times))
    assert {"first", "second"} <= set(account.wide)
    assert account.relative_time <= 1.95
    assert account.copies > 0
    assert sum(op.kind in ("QUANTIZE", "CAST") for op in graph.ops) >= 2
    assert account.measured_db > plain.measured_db + 6
    reference(graph)  # it loads


def test_too_little_time(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"at most 0.50 times the time at 8 bits: the smallest take"):
        built(network(), tmp_path, Mixed(max_latency=0.5, samples=4))


def test_wide_under_a_size_takes_sixteen_bits(tmp_path: Path) -> None:
    _, account = built(deep(), tmp_path, Mixed(max_size=100_000, wide=True, samples=8))
    assert {"first", "second"} <= set(account.wide)
    assert account.bytes <= 100_000
