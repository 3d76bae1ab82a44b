"""Own errors of ops, on real integer graphs whose faults are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.pairing import partners
from edgeqwt.scales.ranges import MinMax
from edgeqwt.scales.scales import Scales
from edgeqwt.verify.op_errors import (
    CHEAP,
    ELEMENTS,
    MORE,
    SAMPLES,
    OpError,
    enough_samples,
    own_errors,
    without_repairs,
)
from tests.calibration.test_clipped import normalized, residual, with_a_row_of_zeros
from tests.chain import CONV, NONE, Chain, noise, samples
from tests.scales.problems import problem


def network() -> Graph:
    """Three convolutions, a reshape and a dense layer."""
    chain = Chain()
    x = chain.input((1, 6, 6, 4), "x")
    for k in range(3):
        filters, bias = chain.constant(noise(4, 3, 3, 4, seed=k, scale=0.2)), chain.constant(noise(4, seed=9 + k))
        x = chain.op("CONV_2D", x, filters, bias, name=f"conv{k}", **{**CONV, "fusedActivationFunction": "RELU"})
    x = chain.op("RESHAPE", x, chain.constant(np.array([1, 144])), name="flat")
    dense = chain.op(
        "FULLY_CONNECTED", x, chain.constant(noise(3, 144, seed=20)), -1, name="y", keepNumDims=False, **NONE
    )
    return chain.graph(dense)


def integer(graph: Graph) -> Graph:
    return problem(graph, samples(graph, 16), MinMax()).lower(Scales())


def rescaled(graph: Graph, name: str, factor: float) -> Graph:
    """The graph with a tensor's scale multiplied by a factor."""
    t = next(i for i, tensor in enumerate(graph.tensors) if tensor.name == name)
    q = graph.tensors[t].quantization
    assert q is not None
    return graph.with_tensors(
        {t: replace(graph.tensors[t], quantization=replace(q, scale=q.scale * np.float32(factor)))}
    )


def coarse(graph: Graph, name: str) -> Graph:
    """The graph with the weights of one layer in steps of 32 instead of 1."""
    op = next(op for op in graph.ops if graph.tensors[op.outputs[0]].name == name)
    weights = graph.tensors[op.inputs[1]]
    assert weights.data is not None
    rounded = np.clip(np.round(weights.data / 32) * 32, -96, 96).astype(np.int8)
    return graph.with_tensors({op.inputs[1]: replace(weights, data=rounded)})


def errors(graph: Graph, found: Graph) -> dict[str, OpError]:
    return {op.tensor: op for op in own_errors(graph, found, samples(graph, 8)).ops}


def test_errors_of_some_positions_are_nearly_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain()
    x = chain.input((1, 40, 40, 4), "x")
    filters, bias = chain.constant(noise(4, 3, 3, 4, seed=1, scale=0.2)), chain.constant(noise(4, seed=9))
    y = chain.op("CONV_2D", x, filters, bias, name="y", **{**CONV, "fusedActivationFunction": "RELU"})
    graph = chain.graph(y)
    found = integer(graph)
    every = errors(graph, found)
    monkeypatch.setattr("edgeqwt.verify.op_errors.LOOKED_AT", 1600)
    few = errors(graph, found)
    assert few.keys() == every.keys()
    for name, op in few.items():
        other = every[name]
        assert op != other
        assert op.own_db is not None
        assert other.own_db is not None
        # 8 samples of 400 positions and 4 channels: 12,800 squares, whose mean is known to 1/sqrt(12,800) = 0.9 %, that
        # is 0.04 dB, and the variance that it is held against likewise; positions are no independent draws.
        assert abs(op.own_db - other.own_db) < 0.3


def test_own_errors_find_the_op_that_accumulated_errors_hide() -> None:
    graph = network()
    good = errors(graph, integer(graph))
    assert [*good] == ["x", "conv0", "conv1", "conv2", "flat", "y"]
    # 8 bits over some 8 standard deviations: about 40 dB; roundings of input, weights and output add up to some less.
    assert all(op.own_db is not None and 25 < op.own_db < 45 for op in good.values())
    assert good["flat"].moves
    spoiled = coarse(integer(graph), "conv1")
    bad = errors(graph, spoiled)
    for name in ("x", "conv0", "conv2", "flat", "y"):
        assert bad[name].own_db == good[name].own_db
    own = bad["conv1"].own_db
    assert own is not None
    # Weights of 3 bits, 0.2 standard deviations between them at best: about 20 log10(sqrt(12) / 0.3) = 21 dB.
    assert 10 < own < 25
    assert bad["conv1"].rounding > 0.5
    for name in ("conv1", "conv2", "y"):
        accumulated = bad[name].accumulated_db
        assert accumulated is not None
        assert accumulated < own + 6
    found = own_errors(graph, spoiled, samples(graph, 8))
    assert found.worst[0].tensor == "conv1"
    collapsed = found.collapsed(25.0)
    assert collapsed is not None
    assert collapsed.tensor == "conv1"


def test_clipping_and_bias_are_distinguished() -> None:
    graph = network()
    narrow = errors(graph, rescaled(integer(graph), "conv1", 0.3))["conv1"]
    assert narrow.clipping > 0.9
    assert narrow.bias + narrow.clipping + narrow.rounding == pytest.approx(1.0)
    found = integer(graph)
    assert errors(graph, biased(found, "y", 20_000))["y"].bias > 0.9


def biased(graph: Graph, name: str, added: int) -> Graph:
    """The graph with so much added to the integers of a layer's bias."""
    op = next(op for op in graph.ops if graph.tensors[op.outputs[0]].name == name)
    bias = graph.tensors[op.inputs[2]]
    assert bias.data is not None
    return graph.with_tensors({op.inputs[2]: replace(bias, data=bias.data + np.int32(added))})


def test_what_compensation_repairs_is_no_error_of_the_op_that_repairs_it() -> None:
    graph = network()
    before = coarse(integer(graph), "conv1")
    found = [own_errors(graph, g, samples(graph, 8)) for g in (before, biased(before, "y", 20_000))]
    assert found[1].worst[0].tensor == "y"
    shown = without_repairs(found[1], found[0])
    assert shown.worst[0].tensor == "conv1"
    assert [op.accumulated_db for op in shown.ops] == [op.accumulated_db for op in found[1].ops]
    for op, first in zip(shown.ops, found[0].ops, strict=True):
        assert op.own_db is not None
        assert first.own_db is not None
        linear = op.kind in ("CONV_2D", "FULLY_CONNECTED")
        # What an offset cannot repair of the error is what its bias is not.
        wanted = first.own_db - 10 * np.log10(1 - first.bias) if linear else first.own_db
        assert op.own_db == pytest.approx(wanted)
        assert op.bias == (0 if linear else first.bias)
    drawn = [trace.own_db for trace in shown.traces if trace is not None]
    assert drawn == [trace.own_db for trace in found[0].traces if trace is not None]


def test_tensors_are_paired_without_names() -> None:
    graph = network()
    found = integer(graph)
    nameless = replace(found, tensors=tuple(replace(t, name=f"t{i}") for i, t in enumerate(found.tensors)))
    pairs = partners(graph, nameless)
    assert {graph.tensors[a].name for a in pairs.values()} == {"x", "conv0", "conv1", "conv2", "flat", "y"}
    assert all(pairs[t] == partners(graph, found)[t] for t in pairs)
    rows = own_errors(graph, nameless, samples(graph, 8))
    assert rows.unpaired == 0
    assert [op.own_db for op in rows.ops] == [op.own_db for op in own_errors(graph, found, samples(graph, 8)).ops]


def test_small_networks_are_looked_at_on_more_samples() -> None:
    for size, wanted in ((10, MORE), (CHEAP // 10, 10), (CHEAP, SAMPLES), (ELEMENTS // 5, 5), (ELEMENTS, 2)):
        chain = Chain()
        assert enough_samples(chain.graph(chain.op("LOGISTIC", chain.input((1, size))))) == wanted
    graph = network()
    assert own_errors(graph, integer(graph), samples(graph, 2 * SAMPLES)).samples == 2 * SAMPLES


def test_one_sample_varies_nothing() -> None:
    graph = network()
    found = own_errors(graph, integer(graph), samples(graph, 1))
    assert {op.own_db for op in found.ops} == {None}
    assert found.worst == ()
    assert found.collapsed(10.0) is None


def test_a_graph_that_is_the_reference_itself_errs_nowhere() -> None:
    graph = network()
    found = own_errors(graph, graph, samples(graph, 4))
    assert {op.own_db for op in found.ops} == {float("inf")}
    assert found.worst == ()


def test_what_multiplies_zeros_alone_does_not_err() -> None:
    """A normalization's 1 / root on a row of zeros is a million, and its range rightly ends far below that."""
    graph, x, inverse = normalized()
    data = with_a_row_of_zeros(x)
    found = problem(graph, data, MinMax()).lower(Scales())
    row = next(op for op in own_errors(graph, found, data).ops if op.reference == graph.tensors[inverse].name)
    assert row.own_db is not None
    assert row.own_db > 20
    assert row.clipping == 0


def test_what_a_clipped_sum_does_not_need_does_not_err() -> None:
    """Below minus the other summand the sum is zero whatever the value, and the range rightly ends there."""
    graph, x, y, _ = residual("RELU")
    # Some hundred values: of them the smallest reach far below -x.
    data = [{x: np.abs(noise(1, 6, 6, 4, seed=k)) * 0.1} for k in range(8)]
    found = problem(graph, data, MinMax()).lower(Scales())
    row = next(op for op in own_errors(graph, found, data).ops if op.reference == graph.tensors[y].name)
    assert row.own_db is not None
    assert row.own_db > 20
    assert row.clipping < 0.5


def test_channels_of_unlike_size_use_few_steps() -> None:
    def used(factor: float) -> float:
        chain = Chain()
        filters = noise(4, 1, 1, 4, seed=1) * np.array([1, factor, factor, factor], np.float32).reshape(4, 1, 1, 1)
        x, weights = chain.input((1, 6, 6, 4), "x"), chain.constant(filters)
        graph = chain.graph(chain.op("CONV_2D", x, weights, chain.constant(noise(4) * 0), name="y", **CONV))
        found = errors(graph, integer(graph))["y"].median_used
        assert found is not None
        return found

    # The largest channel has 256 steps; others as large have a similar share, and of a sixteenth the size 16.
    assert used(1.0) > 100
    assert used(1 / 16) == pytest.approx(used(1.0) / 16, rel=0.6)
