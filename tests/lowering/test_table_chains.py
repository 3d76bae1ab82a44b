"""One table for several ops of one variable: the functions in a row, rounded once."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.profile import Kernels
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Precision
from tests.chain import NONE, Chain, samples


def inverse_root(*, read_twice: bool = False, number: tuple[int, ...] = ()) -> Graph:
    """1 / sqrt(|x| + 1/4)."""
    chain = Chain()
    x = chain.input((1, 6, 5))
    magnitude = chain.op("MUL", x, x, **NONE)
    shifted = chain.op("ADD", magnitude, chain.constant(np.full(number, 0.25, np.float32)), **NONE)
    y = chain.op("RSQRT", shifted)
    return chain.graph(*([y, chain.op("TANH", shifted)] if read_twice else [y]))


def lowered(graph: Graph, bits: int = 8, missing: frozenset[str] = frozenset()) -> Graph:
    statistics, precision = observe(graph, samples(graph))[0], Precision(activation_bits=bits)
    return lower(graph, statistics, MinMax(), precision, Kernels(missing=missing))


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


TABLE = ["CAST", "ADD", "GATHER"]


@pytest.mark.requires("tflite_micro")
@pytest.mark.parametrize("number", [(), (1,), (1, 1, 1)])
def test_a_sum_before_a_table_goes_into_it(number: tuple[int, ...]) -> None:
    graph = inverse_root(number=number)
    integer = lowered(graph)
    assert kinds(integer) == ["MUL", *TABLE]
    square = graph.ops[0].outputs[0]
    for runner in ("reference", "xnnpack", "tflm"):
        interpreter = RUNNERS[runner](integer, [integer.ops[0].outputs[0]])
        for sample in samples(graph):
            found = interpreter.run(graph_feed(integer, sample))
            exact = 1 / np.sqrt(to_real(integer, square, found[square]).astype(np.float64) + 0.25)
            y = integer.outputs[0]
            scale = float(integer.tensors[y].quantization.scale[0])  # type: ignore[union-attr]
            # Half a step, and float32's rounding of some steps.
            assert np.abs(to_real(integer, y, found[y]) - exact).max() <= 0.501 * scale


def test_what_others_read_is_computed() -> None:
    assert kinds(lowered(inverse_root(read_twice=True)))[:2] == ["MUL", "ADD"]


def test_a_target_without_gather_gets_tables_of_single_ops() -> None:
    assert kinds(lowered(inverse_root(), missing=frozenset({"GATHER"}))) == ["MUL", "ADD", *TABLE]


def test_constants_of_many_numbers_are_no_part_of_a_table() -> None:
    graph = inverse_root(number=(5,))
    assert kinds(lowered(graph)) == ["MUL", "ADD", *TABLE]


def test_tables_in_a_row_become_one() -> None:
    chain = Chain()
    graph = chain.graph(
        chain.op("LOG", chain.op("MUL", chain.op("EXP", chain.input((1, 8))), chain.constant([2.0]), **NONE))
    )
    integer = lowered(graph)
    assert kinds(integer) == TABLE
    sample = samples(graph)[0]
    found = RUNNERS["reference"](integer).run(graph_feed(integer, sample))
    (y,) = integer.outputs
    fed = graph_feed(integer, sample)[integer.inputs[0]]
    steps = [float(integer.tensors[t].quantization.scale[0]) for t in (*integer.inputs, y)]  # type: ignore[union-attr]
    exact = to_real(integer, integer.inputs[0], fed) + np.log(2.0)
    assert np.abs(to_real(integer, y, found[y]) - exact).max() <= 0.501 * steps[1] + 1e-5


def test_the_tensor_that_outputs_are_judged_by_stays() -> None:
    chain = Chain()
    # Beyond a scale of 2 LOGISTIC is a table.
    logits = chain.op("MUL", chain.input((1, 8)), chain.constant([3000.0]), name="logits", **NONE)
    integer = lowered(chain.graph(chain.op("LOGISTIC", logits)))
    assert kinds(integer) == ["MUL", *TABLE]
    assert "logits" in {t.name for t in integer.tensors}
