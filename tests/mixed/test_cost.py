"""What widths are said to cost, against the files."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.linear import multiplications
from edgeqwt.graph.schema import BUFFER_ALIGNMENT
from edgeqwt.mixed.cost import latency, stored, total
from edgeqwt.mixed.problem import measured
from edgeqwt.mixed.solutions import _options, within_cost
from edgeqwt.passes.run import make
from edgeqwt.profile import TargetProfile
from edgeqwt.progress import Stages, silent
from edgeqwt.recipe.recipe import load
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import Mixed, OpTimes, Precision, Widths
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise
from tests.mixed.builds import LAYERS, LITERT, MICRO, job, network

NOTHING = Stages(silent)


def show(done: int, total: int | None) -> None:
    """Shows nothing."""


@pytest.mark.parametrize("target", [LITERT, MICRO])
def test_sums_of_layers_follow_the_file(tmp_path: Path, target: TargetProfile) -> None:
    work = replace(job(network(), tmp_path), target=target)
    problem = measured(work, load("plain"), Mixed(max_size=1, samples=4), show)
    options = _options(problem, problem.size, frozenset())
    sums, files = [], []
    for bits in product((4, 8), repeat=len(LAYERS)):
        picked = dict(zip(LAYERS, bits, strict=True))
        sums.append(sum(o.cost for name, w in picked.items() for o in options[name] if o.widths.weights == w))
        files.append(problem.size.exact(problem.parts.precision(picked, frozenset())))
    offsets = [f - s for f, s in zip(files, sums, strict=True)]
    # A file that has convolutions with int4 and with int8 lists two versions of the op: a table of 32 bytes at most.
    assert max(offsets) - min(offsets) <= 32
    assert max(files) - min(files) >= 4 * 16 * 9 * 8 / 2 - 32


def test_the_predicted_size_is_that_of_the_built_file(tmp_path: Path) -> None:
    work, recipe = job(network(), tmp_path), load("fast")
    problem = measured(work, recipe, Mixed(max_size=1, samples=4), show)
    solution = within_cost(problem, problem.size, 1e9)
    used = replace(recipe, precision=solution.precision)
    made = make(work, used.techniques, used.precision, NOTHING)
    # Where a buffer begins, and how far it is padded, depends on what lies before it.
    size = len(flatbuffer.to_bytes(stored(made.graph, used, work.target)))
    assert abs(size - solution.cost) <= BUFFER_ALIGNMENT


def test_multiplications() -> None:
    chain = Chain()
    x, bias = chain.input((1, 8, 8, 4)), chain.constant(noise(6))
    a = chain.op("CONV_2D", x, chain.constant(noise(6, 3, 3, 4)), bias, **{**CONV, "strideH": 2, "strideW": 2})
    b = chain.op("DEPTHWISE_CONV_2D", a, chain.constant(noise(1, 3, 3, 6)), bias, **DEPTHWISE)
    graph = chain.graph(chain.op("ADD", b, b, **NONE))
    assert [multiplications(graph, op) for op in graph.ops] == [16 * 6 * 36, 16 * 6 * 9, 0]


def test_time_counts_copies() -> None:
    chain = Chain()
    x = chain.input((1, 10))
    a = chain.op("MUL", x, chain.constant(noise(10)), name="a", **NONE)
    graph = chain.graph(chain.op("MUL", a, chain.constant(noise(10)), name="b", **NONE))
    costs = latency(graph, OpTimes(element=1.0, element16=2.0, copy=5.0))
    plans = [planned(graph, Precision(layers=layers)) for layers in ({}, {"a": Widths(8, 16)})]
    # One op takes twice as long for 10 elements, and 10 elements are copied to 16 bits and back.
    assert [total(graph, costs, (), {}, plan) for plan in plans] == [20.0, 130.0]
