"""GELU in every spelling that exporters have becomes GELU; what only looks like it stays."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.functions import gelu, hard_swish
from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain, noise
from tests.prepare.test_prepare import assert_same_function, kinds

SHAPE = (1, 6, 40)


def mul(chain: Chain, a: int, b: int | float) -> int:
    """a * b; numbers as exporters write them."""
    return chain.op("MUL", a, chain.constant(b) if isinstance(b, float) else b, shape=SHAPE, **NONE)


def plus(chain: Chain, a: int, b: int | float) -> int:
    """a + b."""
    return chain.op("ADD", a, chain.constant([b]) if isinstance(b, float) else b, shape=SHAPE, **NONE)


def op(chain: Chain, kind: str, *inputs: int) -> int:
    """An op without options."""
    options = NONE if kind in ("SUB", "DIV") else {}
    return chain.op(kind, *inputs, shape=SHAPE, **options)


def by_tanh(chain: Chain, x: int, curve: float = 0.044715) -> int:
    """torch's formula by onnx2tf: 0.5 * (x * (1 + tanh(0.7979 * (x + 0.0447 * (x * x * x)))))."""
    cube = mul(chain, mul(chain, x, x), x)
    inner = mul(chain, plus(chain, x, mul(chain, cube, curve)), sqrt(2 / np.pi))
    return mul(chain, mul(chain, x, plus(chain, op(chain, "TANH", inner), 1.0)), 0.5)


def by_tanh_and_power(chain: Chain, x: int) -> int:
    """GPT-2's: 0.5 * x * (1 + tanh(0.7979 * (x + 0.0447 * pow(x, 3))))."""
    cube = op(chain, "POW", x, chain.constant(3.0))
    inner = mul(chain, plus(chain, x, mul(chain, cube, 0.044715)), sqrt(2 / np.pi))
    return mul(chain, mul(chain, x, 0.5), plus(chain, op(chain, "TANH", inner), 1.0))


def by_factored_tanh(chain: Chain, x: int) -> int:
    """The "fast" one: 0.5 * x * (1 + tanh(x * 0.7979 * (1 + 0.0447 * x * x)))."""
    bent = plus(chain, mul(chain, mul(chain, x, 0.044715), x), 1.0)
    inner = mul(chain, mul(chain, x, 0.7978845608), bent)
    return mul(chain, mul(chain, x, 0.5), plus(chain, op(chain, "TANH", inner), 1.0))


def by_error_function(chain: Chain, x: int) -> int:
    """onnx2tf's Erf, Abramowitz and Stegun 7.1.26."""
    y = mul(chain, x, 1 / sqrt(2))
    size, sign = op(chain, "ABS", y), op(chain, "SIGN", y)
    t = op(chain, "DIV", chain.constant(1.0), plus(chain, mul(chain, size, 0.3275911), 1.0))
    series = mul(chain, t, 1.061405429)
    for a in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = mul(chain, plus(chain, series, a), t)
    bell = op(chain, "EXP", mul(chain, mul(chain, size, size), -1.0))
    error = mul(chain, sign, op(chain, "SUB", chain.constant(1.0), mul(chain, series, bell)))
    return mul(chain, mul(chain, x, 0.5), plus(chain, error, 1.0))


SPELLINGS: dict[str, tuple[Callable[[Chain, int], int], bool]] = {
    "tanh": (by_tanh, True),
    "tanh and power": (by_tanh_and_power, True),
    "factored tanh": (by_factored_tanh, True),
    "error function": (by_error_function, False),
}


def between_layers(spelled: Callable[[Chain, int], int]) -> Graph:
    """A sum that the function reads, and one that reads the function's."""
    chain = Chain()
    x = plus(chain, mul(chain, chain.input(SHAPE), chain.constant(noise(40, seed=1))), chain.constant(noise(40)))
    return chain.graph(op(chain, "EXP", plus(chain, spelled(chain, x), chain.constant(noise(40, seed=2)))))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_one_op(spelling: str) -> None:
    spelled, approximate = SPELLINGS[spelling]
    graph = between_layers(spelled)
    prepared = prepare(graph)
    assert kinds(prepared.graph) == ["MUL", "ADD", "GELU", "ADD", "EXP"]
    assert prepared.graph.ops[2].options["approximate"] == approximate
    assert_same_function(graph, prepared.graph)
    assert prepare(prepared.graph).graph is prepared.graph


def test_what_comes_before_is_not_swallowed() -> None:
    """x is itself made element by element."""
    chain = Chain()
    graph = chain.graph(by_tanh(chain, op(chain, "TANH", mul(chain, chain.input(SHAPE), 2.0))))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["MUL", "TANH", "GELU"]
    assert_same_function(graph, prepared)


OTHERS: dict[str, Callable[[Chain, int], int]] = {
    "another curve": lambda chain, x: by_tanh(chain, x, curve=0.0445),
    "by a sigmoid": lambda chain, x: mul(chain, x, op(chain, "LOGISTIC", mul(chain, x, 1.702))),
    "SiLU": lambda chain, x: mul(chain, x, op(chain, "LOGISTIC", mul(chain, x, 1.0))),
    "a little less": lambda chain, x: mul(chain, mul(chain, by_tanh(chain, x), 0.5), 1.999),
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_functions_stay_as_they_are(other: str) -> None:
    chain = Chain()
    graph = chain.graph(OTHERS[other](chain, chain.input(SHAPE)))
    assert_same_function(graph, gelu(graph)[0])
    assert kinds(gelu(graph)[0])[-1] == "MUL"


def test_what_is_read_inside_stays() -> None:
    chain = Chain()
    y = by_tanh(chain, chain.input(SHAPE))
    tanh = next(o.outputs[0] for o in chain.ops if o.kind == "TANH")
    assert gelu(chain.graph(y, tanh))[1] == []
    assert gelu(chain.graph(y, op(chain, "EXP", tanh)))[1] == []


def test_numbers_per_channel_make_another_function() -> None:
    chain = Chain()
    y = by_tanh(chain, chain.input(SHAPE))
    graph = chain.graph(mul(chain, y, chain.constant(noise(40))))
    assert kinds(gelu(graph)[0]) == ["GELU", "MUL"]


@pytest.mark.parametrize("curve", ["TANH", "EXP", "LOGISTIC"])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 40), (40,)])
@pytest.mark.parametrize("kind", ["MUL", "ADD"])
def test_constants_with_several_numbers_are_no_function_of_one_variable(
    curve: str, shape: tuple[int, ...], kind: str
) -> None:
    """tanh(x) * scale of an actor, exp(x) * priors of a detector: of the activation's own shape, or per channel."""
    chain = Chain()
    y = op(chain, curve, chain.input(SHAPE))
    several = chain.op(kind, y, chain.constant(noise(*shape)), shape=SHAPE, **NONE)
    graph = chain.graph(mul(chain, several, chain.constant(noise(*shape, seed=2))))
    assert gelu(graph)[1] == []
    assert_same_function(graph, prepare(graph).graph)


def test_a_number_of_any_rank_is_one_number() -> None:
    chain = Chain()
    half = chain.op("MUL", by_tanh(chain, chain.input(SHAPE)), chain.constant([[[2.0]]]), shape=SHAPE, **NONE)
    graph = chain.graph(mul(chain, half, 0.5))
    assert gelu(graph)[1] != []
    assert_same_function(graph, prepare(graph).graph)


def by_relu6(chain: Chain, x: int) -> int:
    """x * relu6(x + 3) / 6, as modules of one's own have it."""
    return chain.op(
        "DIV", mul(chain, x, op(chain, "RELU6", plus(chain, x, 3.0))), chain.constant(6.0), shape=SHAPE, **NONE
    )


def by_fused_relu6(chain: Chain, x: int) -> int:
    """x * (relu6(x + 3) * (1 / 6)), as Keras has it."""
    clipped = chain.op("ADD", x, chain.constant([3.0]), shape=SHAPE, fusedActivationFunction="RELU6")
    return mul(chain, x, mul(chain, clipped, 1 / 6))


def by_hard_sigmoid(chain: Chain, x: int) -> int:
    """x * hardsigmoid(x)."""
    return mul(chain, x, op(chain, "RELU_0_TO_1", plus(chain, mul(chain, x, 1 / 6), 0.5)))


def by_limits(chain: Chain, x: int) -> int:
    """x * min(max(x + 3, 0), 6) / 6."""
    low = op(chain, "MAXIMUM", plus(chain, x, 3.0), chain.constant(0.0))
    return mul(chain, mul(chain, x, op(chain, "MINIMUM", low, chain.constant(6.0))), 1 / 6)


@pytest.mark.parametrize("spelled", [by_relu6, by_fused_relu6, by_hard_sigmoid, by_limits])
def test_every_spelling_of_hard_swish_is_one_op(spelled: Callable[[Chain, int], int]) -> None:
    chain = Chain()
    graph = chain.graph(spelled(chain, chain.input(SHAPE)))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["HARD_SWISH"]
    assert_same_function(graph, prepared)


def test_what_is_not_quite_hard_swish_stays() -> None:
    for shift, divisor in ((2.99, 6.0), (3.0, 5.99)):
        chain = Chain()
        x = chain.input(SHAPE)
        gate = mul(chain, op(chain, "RELU6", plus(chain, x, shift)), 1 / divisor)
        graph = chain.graph(mul(chain, x, gate))
        assert hard_swish(graph) == (graph, [])
