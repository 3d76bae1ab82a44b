"""Ops written with others: the function stays (each kind's own cases are among the one-op ones)."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.errors import UnsupportedError
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.preconditions import check_lowerable
from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain
from tests.prepare.test_prepare import assert_same_function, kinds

SHAPE = (1, 5, 8)


def blended(*, swapped: bool = False, narrow: bool = True) -> Graph:
    """c x + (1 - c) y, as onnx2tf writes Where."""
    chain = Chain()
    x, y = chain.input(SHAPE), chain.input(SHAPE)
    choose = chain.input((1, 5, 1) if narrow else SHAPE, dtype="bool")
    weight = chain.op("CAST", choose, inDataType="BOOL", outDataType="FLOAT32")
    rest = chain.op("SUB", chain.constant(1.0), weight, **NONE)
    terms = [chain.op("MUL", weight, x, **NONE), chain.op("MUL", y, rest, **NONE)]
    return chain.graph(chain.op("ADD", *(terms[::-1] if swapped else terms), **NONE))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
def test_one_of_two_terms_is_chosen(swapped: bool, narrow: bool) -> None:
    graph = blended(swapped=swapped, narrow=narrow)
    prepared = prepare(graph)
    assert kinds(prepared.graph) == ["SELECT_V2"]
    assert_same_function(graph, prepared.graph)


def test_what_is_no_choice_stays() -> None:
    chain = Chain()
    x, choose, other = chain.input(SHAPE), chain.input(SHAPE, dtype="bool"), chain.input(SHAPE, dtype="bool")
    first, second = (chain.op("CAST", c, inDataType="BOOL", outDataType="FLOAT32") for c in (choose, other))
    rest = chain.op("SUB", chain.constant(1.0), second, **NONE)
    y = chain.op("ADD", chain.op("MUL", first, x, **NONE), chain.op("MUL", rest, x, **NONE), **NONE)
    graph = chain.graph(y)
    assert "SELECT_V2" not in kinds(prepare(graph).graph)


def test_casts_of_a_condition_become_one() -> None:
    chain = Chain()
    flag = chain.op("GREATER", chain.input(SHAPE), chain.constant(0.1), dtype="bool")
    number = chain.op("CAST", flag, dtype="int64", inDataType="BOOL", outDataType="INT64")
    graph = chain.graph(chain.op("CAST", number, inDataType="INT64", outDataType="FLOAT32"))
    prepared = prepare(graph)
    assert kinds(prepared.graph) == ["GREATER", "CAST"]
    assert_same_function(graph, prepared.graph)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_casts_of_integers_by_way_of_floats_become_one(dtype: str) -> None:
    chain = Chain()
    x = chain.input((4,), dtype="int32")
    real = chain.op("CAST", x, inDataType="INT32", outDataType="FLOAT32")
    graph = chain.graph(chain.op("CAST", real, dtype=dtype, inDataType="FLOAT32", outDataType=dtype.upper()))
    prepared = prepare(graph)
    assert kinds(prepared.graph) == ["CAST"]
    assert_same_function(graph, prepared.graph, [{x: np.array([-1000, 0, 3, 70000], np.int32)}])


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_logarithm_of_softmax(beta: float) -> None:
    chain = Chain()
    graph = chain.graph(chain.op("LOG", chain.op("SOFTMAX", chain.input((2, 9)), beta=beta)))
    prepared = prepare(graph)
    assert kinds(prepared.graph) == (["LOG_SOFTMAX"] if beta == 1 else ["SOFTMAX", "LOG"])
    assert_same_function(graph, prepared.graph)


def test_two_variables_are_refused_by_name() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("POW", chain.input(SHAPE, "base"), chain.input(SHAPE, "exponent"), name="power"))
    with pytest.raises(UnsupportedError, match=r"POW #0 -> 'power' .* of two variables") as caught:
        check_lowerable(graph)
    assert "number" in caught.value.hint


def test_a_vector_of_exponents_is_refused_too() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("POW", chain.input(SHAPE), chain.constant(np.arange(8.0))))
    with pytest.raises(UnsupportedError, match="of two variables"):
        check_lowerable(graph)


@pytest.mark.parametrize("radius", [1, 2, 9])
def test_normalized_responses_are_products_of_a_power(radius: int) -> None:
    chain = Chain()
    x = chain.input((1, 3, 4, 6))
    given = {"radius": radius, "bias": 2.0, "alpha": 0.3, "beta": 0.75}
    graph = chain.graph(chain.op("LOCAL_RESPONSE_NORMALIZATION", x, shape=(1, 3, 4, 6), **given))
    prepared = prepare(graph)
    assert kinds(prepared.graph) == ["MUL", "CONV_2D", "POW", "MUL"]
    assert_same_function(graph, prepared.graph)
