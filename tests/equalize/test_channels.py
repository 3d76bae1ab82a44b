"""Which channels share a factor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeqwt.equalize.channels import channels
from edgeqwt.equalize.factors import ANY, FIXED
from edgeqwt.equalize.multiply import multiplied
from edgeqwt.graph.fills import FILL
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import xnnpack
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise
from tests.equalize.same import check_same

RELU = {**CONV, "fusedActivationFunction": "RELU"}


def conv(chain: Chain, x: int, inputs: int, outputs: int, size: int = 3, **options: object) -> int:
    weights, bias = chain.constant(noise(outputs, size, size, inputs, seed=x)), chain.constant(noise(outputs, seed=x))
    return chain.op("CONV_2D", x, weights, bias, **{**RELU, **options})


def residual() -> tuple[Graph, dict[str, int]]:
    """A residual block with a padded shortcut, depthwise and dense layers behind it, logits."""
    chain = Chain()
    x = chain.input((1, 8, 8, 3))
    stem = conv(chain, x, 3, 4)
    inner = conv(chain, stem, 4, 5)
    back = conv(chain, inner, 5, 6, fusedActivationFunction="NONE")
    pads = chain.constant(np.array([[0, 0], [0, 0], [0, 0], [1, 1]], np.int32))
    shortcut = chain.op("PAD", stem, pads)
    total = chain.op("ADD", back, shortcut, fusedActivationFunction="RELU")
    deep = chain.op(
        "DEPTHWISE_CONV_2D", total, chain.constant(noise(1, 3, 3, 6)), chain.constant(noise(6)), **DEPTHWISE
    )
    mean = chain.op("MEAN", deep, chain.constant(np.array([1, 2], np.int32)), keepDims=False)
    logits = chain.op("FULLY_CONNECTED", mean, chain.constant(noise(4, 6)), chain.constant(noise(4)), **NONE,
                      keepNumDims=False)  # fmt: skip
    graph = chain.graph(logits)
    return graph, {"x": x, "stem": stem, "inner": inner, "back": back, "shortcut": shortcut, "total": total,
                   "deep": deep, "mean": mean, "logits": logits}  # fmt: skip


def run(graph: Graph, x: Array) -> Array:
    (found,) = xnnpack(graph).run({graph.inputs[0]: x}).values()
    return found


def test_factors_follow_the_values() -> None:
    graph, t = residual()
    found = channels(graph).of
    of = {name: found[tensor][0, 0, 0] if found[tensor].ndim == 4 else found[tensor][0] for name, tensor in t.items()}
    assert (of["x"] == FIXED).all()
    assert (of["logits"] == FIXED).all()
    assert (of["shortcut"] == [ANY, *of["stem"], ANY]).all()
    # The sum has one factor on both sides; where the shortcut is zero, that of the other side.
    assert (of["total"] == of["back"]).all()
    assert (of["back"][1:5] == of["stem"]).all()
    assert (of["mean"] == of["deep"]).all()
    free = {*of["stem"], *of["inner"], *of["back"], *of["deep"]}
    assert len(free) == 4 + 5 + 2 + 6
    assert not free & {ANY, FIXED}


def test_multiplying_channels_changes_no_output() -> None:
    graph, t = residual()
    found = channels(graph)
    factors = np.exp(np.random.default_rng(0).normal(0, 1, found.count))
    factors[: FIXED + 1] = 1
    other, x = multiplied(graph, found, factors), noise(1, 8, 8, 3, seed=9)
    wanted = run(graph, x)
    # Some hundred float32 operations per value, each with an error of 2^-24 of terms a few times the result.
    np.testing.assert_allclose(run(other, x), wanted, rtol=0, atol=256 * 2.0**-24 * float(np.abs(wanted).max()))
    inner = factors[found.of[t["inner"]][0, 0, 0]]
    taps = {n: xnnpack(g, [t["inner"]]).run({t["x"]: x})[t["inner"]] for n, g in (("a", graph), ("b", other))}
    np.testing.assert_allclose(taps["b"], taps["a"] * inner, rtol=1e-4, atol=1e-4 * float(taps["b"].max()))


@pytest.mark.parametrize(("kind", "free"), [("RELU6", False), ("RELU", True), ("NONE", True), ("RELU_N1_TO_1", False)])
def test_only_homogeneous_activations_let_factors_pass(kind: str, free: bool) -> None:
    chain = Chain()
    y = conv(chain, chain.input((1, 6, 6, 3)), 3, 4, fusedActivationFunction=kind)
    graph = chain.graph(conv(chain, y, 4, 2))
    assert bool((channels(graph).of[y] > FIXED).all()) is free


def test_what_does_not_commute_keeps_the_factor_one() -> None:
    chain = Chain()
    y = conv(chain, chain.input((1, 6, 6, 3)), 3, 4)
    z = conv(chain, y, 4, 4)
    graph = chain.graph(conv(chain, chain.op("MUL", chain.op("LOGISTIC", y), z, **NONE), 4, 2))
    found = channels(graph).of
    assert (found[y] == FIXED).all()  # LOGISTIC
    assert (found[z] > FIXED).all()  # the product is as homogeneous as its other factor


PASSED: dict[str, Callable[[Chain, int], int]] = {
    "PADV2 with a fill": lambda c, x: c.op(
        "MAX_POOL_2D",
        c.op("PADV2", x, c.constant([(0, 0), (1, 0), (0, 1), (0, 0)]), c.constant(-FILL)),
        **{**NONE, "padding": "VALID", "filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2},
    ),
    "PADV2 with zero": lambda c, x: c.op("PADV2", x, c.constant([(0, 0), (1, 0), (0, 1), (0, 0)]), c.constant(0.0)),
    "REDUCE_MAX": lambda c, x: c.op("REDUCE_MAX", x, c.constant([1]), keepDims=True),
    "REDUCE_MIN": lambda c, x: c.op("REDUCE_MIN", x, c.constant([2]), keepDims=True),
    "PRELU": lambda c, x: c.op("PRELU", x, c.constant(noise(1, 1, 4))),
    "SPACE_TO_BATCH_ND": lambda c, x: c.op(
        "SPACE_TO_BATCH_ND", x, c.constant([2, 2]), c.constant(np.zeros((2, 2), np.int32))
    ),
    "REVERSE_V2": lambda c, x: c.op("REVERSE_V2", x, c.constant([1])),
    "BROADCAST_TO": lambda c, x: c.op("BROADCAST_TO", x, c.constant([2, 6, 6, 4]), version=3),
}


@pytest.mark.parametrize("name", PASSED)
def test_factors_pass_what_is_homogeneous(name: str) -> None:
    chain = Chain()
    y = PASSED[name](chain, conv(chain, chain.input((1, 6, 6, 3)), 3, 4))
    graph = chain.graph(conv(chain, y, 4, 2, fusedActivationFunction="NONE", padding="SAME"))
    assert (channels(graph).of[y] != FIXED).all()
    check_same(graph)
