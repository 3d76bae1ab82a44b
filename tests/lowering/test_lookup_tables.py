"""Tables of functions, and comparisons with constants as integer thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Quantization
from edgeqwt.lowering.lookup_tables import LEVELS, function_values, thresholds, to_int8
from edgeqwt.runtime.boundary import limits, real
from tests.chain import NONE, Chain

COMPARE = {
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "EQUAL": np.equal,
    "NOT_EQUAL": np.not_equal,
}


@pytest.mark.parametrize(("dtype", "zero_points"), [("int8", (-128, -3, 0, 127)), ("int16", (0,))])
@pytest.mark.parametrize("kind", COMPARE)
def test_thresholds_decide_as_the_float_comparison(kind: str, dtype: str, zero_points: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    low, high = limits(dtype)
    integers = np.unique(np.linspace(low, high, 256).round().astype(np.int32))
    for zero_point in zero_points:
        x = Quantization.per_tensor(float(rng.uniform(1e-3, 10)), zero_point)
        levels = real(integers, x)
        nearby = np.nextafter(levels, np.float32(np.inf))
        constants = np.concatenate([levels, nearby, rng.uniform(levels[0] - 1, levels[-1] + 1, 100).astype(np.float32)])
        got = COMPARE[kind](integers[:, None], thresholds(kind, constants, x, dtype))
        np.testing.assert_array_equal(got, COMPARE[kind](levels[:, None], constants))


def test_outside_its_domain_a_function_takes_its_nearest_value() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("SQRT", chain.input((1, 4))))
    values = function_values(graph, [0], Quantization.per_tensor(0.5, 0))
    assert np.all(values[:128] == 0)
    np.testing.assert_allclose(values[128:], np.sqrt(np.arange(128) * 0.5), rtol=1e-6)


def test_infinities_saturate() -> None:
    y = Quantization.per_tensor(0.1, 5)
    np.testing.assert_array_equal(to_int8(np.array([-np.inf, np.inf, 0.0, 0.24]), y), [-128, 127, 5, 7])


def test_options_and_constants_of_the_op_count() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    q = Quantization.per_tensor(0.25, 0)
    reals = real(LEVELS, q)
    leaky = function_values(chain.graph(chain.op("LEAKY_RELU", x, alpha=0.5)), [0], q)
    np.testing.assert_array_equal(leaky, np.where(reals < 0, reals / 2, reals))
    quotient = chain.op("DIV", chain.constant([3.0]), x, fusedActivationFunction="RELU6")
    with np.errstate(divide="ignore"):
        expected = np.clip(np.float32(3) / reals, 0, 6)
    np.testing.assert_allclose(function_values(chain.graph(quotient), [1], q), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0313725, 0.2, 0.9])
def test_whole_numbers_that_a_scale_does_not_hold_are_cut_off_right(scale: float) -> None:
    """8 is stored as 7.97 at the first scale; the index of a picture's column would be 7."""
    chain = Chain()
    x = chain.input((1, 9))
    places = chain.op("FLOOR", x)
    index = chain.op("CAST", places, dtype="int32", inDataType="FLOAT32", outDataType="INT32")
    again = chain.op("FLOOR", chain.op("MUL", places, chain.constant(0.5), **NONE))
    graph, q = chain.graph(index, again), Quantization.per_tensor(scale, -128)
    numbers = np.arange(int(255 * scale) + 1)
    stored = np.rint(numbers / scale).astype(int)  # the entry of each, from the lowest level on
    np.testing.assert_array_equal(function_values(graph, [1], q)[stored], numbers)
    np.testing.assert_array_equal(function_values(graph, [2, 3], q)[stored], numbers // 2)


def test_other_numbers_are_cut_off_as_they_are() -> None:
    chain = Chain()
    x = chain.input((1, 9))
    graph = chain.graph(chain.op("CAST", x, dtype="int32", inDataType="FLOAT32", outDataType="INT32"))
    found = function_values(graph, [0], Quantization.per_tensor(0.4, -128))
    np.testing.assert_array_equal(found, np.trunc(np.float32(0.4) * np.arange(256, dtype=np.float32)))
