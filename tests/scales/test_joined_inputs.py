"""Inputs of joining ops that keep finer scales of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import edgeqwt
from edgeqwt.calibration.observe import observe
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.recipe import recipe as recipes
from edgeqwt.scales.activations import assign, enlarged
from edgeqwt.scales.joined_inputs import finer_inputs
from edgeqwt.scales.ranges import MinMax
from edgeqwt.techniques.finer_joins import FinerJoins
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import Precision
from tests.chain import NONE, Chain, noise
from tests.prepare import toy
from tests.prepare.test_prepare import kinds

FINER = Precision(finer_joins=True)


def cell(elsewhere: bool = True) -> Graph:
    """A small tensor beside a large one, [x, h], and what else reads the small one."""
    chain = Chain()
    x, h = chain.input((1, 8), name="x"), chain.op("TANH", chain.input((1, 8), name="z"), shape=(1, 8))
    small = chain.op("MUL", h, chain.constant(0.2), shape=(1, 8), name="small", **NONE)
    joined = chain.op("CONCATENATION", x, small, shape=(1, 16), axis=1, name="joined", **NONE)
    outputs = [toy.dense(chain, joined, 4, 1)]
    return chain.graph(*outputs, *([toy.dense(chain, small, 4, 3)] if elsewhere else []))


def feeds(graph: Graph, count: int = 8, reach: float = 5.0) -> list[dict[int, Array]]:
    return [
        {graph.inputs[0]: reach * noise(1, 8, seed=i), graph.inputs[1]: noise(1, 8, seed=99 + i)} for i in range(count)
    ]


def test_a_small_tensor_that_others_read_keeps_its_scale() -> None:
    graph = cell()
    statistics, _ = observe(graph, feeds(graph))
    plan = planned(graph, FINER)
    (found,) = finer_inputs(graph, statistics, MinMax(), plan)
    join, slot = found
    assert (graph.ops[join].kind, slot) == ("CONCATENATION", 1)
    tied, apart = (assign(graph, statistics, MinMax(), planned(graph, p)) for p in (Precision(), FINER))
    small = graph.ops[join].inputs[1]
    assert float(apart.quantization[small].scale[0]) < 0.1 * float(tied.quantization[small].scale[0])
    joined = graph.ops[join].outputs[0]
    assert apart.requantize[found].same_as(apart.quantization[joined])
    # Scales that a kernel wants larger go on being those of the op.
    larger = enlarged(apart, {(joined, 8): 1.0})
    assert larger.requantize[found].same_as(larger.quantization[joined])
    assert float(larger.quantization[joined].scale[0]) == 1.0
    integer = lower(graph, statistics, MinMax(), FINER)
    assert kinds(integer).count("QUANTIZE") == 1


def test_where_nothing_is_gained_it_shares_the_scale() -> None:
    for graph, reach in ((cell(elsewhere=False), 5.0), (cell(), 0.1)):
        statistics, _ = observe(graph, feeds(graph, reach=reach))
        assert finer_inputs(graph, statistics, MinMax(), planned(graph, FINER)) == frozenset()
    graph = cell()
    statistics, _ = observe(graph, feeds(graph))
    wide = planned(graph, replace(FINER, activation_bits=16))
    assert finer_inputs(graph, statistics, MinMax(), wide) == frozenset()


def test_held_out_samples_decide(tmp_path: Path) -> None:
    graph = cell()
    flatbuffer.write(graph, tmp_path / "cell.tflite")
    samples = [dict(zip(("x", "z"), feed.values(), strict=True)) for feed in feeds(graph, 48)]
    recipe = recipes.load("fast").without("cwac").without("regions16")  # which would widen these vectors
    apart, tied = (
        edgeqwt.build(tmp_path / "cell.tflite", calibration=samples, recipe=r)
        for r in (recipe, recipe.without("finer_joins"))
    )
    account = apart.made.account("finer_joins")
    assert account is not None
    assert account.kept
    assert account.data["inputs"] == 1
    assert tied.made.account("finer_joins") is None
    # The step of `small` is more than ten times as fine; the weights' rounding and the output's step remain.
    better, worse = (r.quality["uncompensated"].outputs[1].closeness.sqnr_db for r in (apart, tied))
    assert better > worse + 6
    # With nothing to gain at the outputs it is left alone, and the terminal says why.
    strict = edgeqwt.build(
        tmp_path / "cell.tflite", calibration=samples, recipe=recipe.with_technique(FinerJoins(min_gain=99.0))
    )
    assert kinds(strict.graph) == kinds(tied.graph)
    refused = strict.made.account("finer_joins")
    assert refused is not None
    assert "no input keeps a finer scale" in refused.sentences[0]
