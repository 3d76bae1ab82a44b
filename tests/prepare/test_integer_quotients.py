"""Places in a map are taken from an index in integers."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.prepare.prepare import prepare
from tests.chain import NONE, Chain
from tests.prepare.test_prepare import assert_same_function, kinds

NUMBERS = np.array([-33, -32, -17, -1, 0, 1, 15, 16, 31, 32, 4096], np.int32)


def quotient(divisor: Array, dtype: str = "int32", how: str = "DIV", index: bool = False) -> Graph:
    """(x / divisor).int(), of an input or of the place of its largest value."""
    chain = Chain()
    if index:
        x = chain.input((1, 40))
        x = chain.op("ARG_MAX", x, chain.constant(1), dtype="int64", outputType="INT64")
        x = chain.op("RESHAPE", x, chain.constant([1, 1]), dtype="int64", newShape=(1, 1))
    else:
        x = chain.input(NUMBERS.shape, dtype=dtype)
    kind = chain.tensors[x].dtype.upper()
    real = chain.op("CAST", x, inDataType=kind, outDataType="FLOAT32")
    factor = np.asarray(divisor, np.float32)
    parts = chain.op(how, real, chain.constant(factor if how == "DIV" else 1 / factor), **NONE)
    return chain.graph(chain.op("CAST", parts, dtype=dtype, inDataType="FLOAT32", outDataType=dtype.upper()))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("how", ["DIV", "MUL"])
@pytest.mark.parametrize("divisor", [16.0, 3.0])
def test_what_is_cut_off_goes_to_zero_from_both_sides(dtype: str, how: str, divisor: float) -> None:
    graph = quotient(np.array([divisor]), dtype, how)
    prepared = prepare(graph).graph
    assert not {"DIV"} & {*kinds(prepared)}
    assert kinds(prepared).count("FLOOR_DIV") == 2
    if how == "DIV" or divisor != 3:  # a third is not exact: 33 / 3 may be cut off to 10
        assert_same_function(graph, prepared, [{graph.inputs[0]: NUMBERS.astype(dtype)}])


def test_an_index_is_not_below_zero() -> None:
    graph = quotient(np.array([16.0]), "int32", index=True)
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["ARG_MAX", "RESHAPE", "CAST", "FLOOR_DIV"]
    assert_same_function(graph, prepared)


def test_what_is_rounded_down() -> None:
    chain = Chain()
    x = chain.input(NUMBERS.shape, dtype="int32")
    real = chain.op("CAST", x, inDataType="INT32", outDataType="FLOAT32")
    graph = chain.graph(chain.op("FLOOR", chain.op("DIV", real, chain.constant(16.0), **NONE)))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["FLOOR_DIV", "CAST"]
    assert_same_function(graph, prepared, [{x: NUMBERS}])


def test_what_has_no_rest_is_rounded_down_the_same() -> None:
    chain = Chain()
    x, by = chain.input(NUMBERS.shape, dtype="int32"), chain.constant([16])
    whole = chain.op("SUB", x, chain.op("FLOOR_MOD", x, by, dtype="int32"), dtype="int32", **NONE)
    real = chain.op("CAST", whole, inDataType="INT32", outDataType="FLOAT32")
    parts = chain.op("DIV", real, chain.constant(16.0), **NONE)
    graph = chain.graph(chain.op("CAST", parts, dtype="int32", inDataType="FLOAT32", outDataType="INT32"))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["FLOOR_DIV"]
    assert_same_function(graph, prepared, [{x: NUMBERS}])


@pytest.mark.parametrize("divisor", [0.5, -2.0, 2.5])
def test_other_divisors_stay(divisor: float) -> None:
    assert "FLOOR_DIV" not in kinds(prepare(quotient(np.array([divisor]))).graph)
