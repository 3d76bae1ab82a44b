"""Steps of recurrent layers: what belongs together, the scales that it shares, and what that keeps out of the file."""

from __future__ import annotations

import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op
from edgeqwt.lowering.lower import lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.scales.activations import assign
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths import recurrence
from edgeqwt.widths.precision import Precision, Widths
from edgeqwt.widths.recurrence import MOST_VALUES, _paired, recurrent_ops, same_in_every_step, steps
from edgeqwt.widths.regions import RECURRENCE, regions, widened
from tests.chain import NONE, Chain, noise, samples
from tests.prepare import toy
from tests.prepare.test_prepare import kinds

STEPS, WIDTH = 6, 8


def recurrent(count: int = STEPS, width: int = WIDTH, rows: int = 1) -> Graph:
    """h = tanh(W x_t + R h + b), and a layer behind the last step; inputs' products come first, for all steps."""
    chain = Chain()
    shape = (rows, width)
    x = toy.dense(chain, chain.input((count * rows, 4)), width, 1)
    size = chain.constant([rows, width])
    parts = [chain.op("SLICE", x, chain.constant([t * rows, 0]), size, shape=shape) for t in range(count)]
    weights, h = chain.constant(noise(width, width, seed=3, scale=width**-0.5)), -1
    for part in parts:
        if h >= 0:
            product = chain.op("FULLY_CONNECTED", h, weights, shape=shape, weightsFormat="DEFAULT", **NONE)
            part = chain.op("ADD", part, product, shape=shape, **NONE)
        h = chain.op("TANH", part, shape=shape)
    return prepare(chain.graph(toy.dense(chain, h, 3, 8))).graph


def test_steps_are_layers_with_the_same_weights_that_follow_one_another() -> None:
    graph = recurrent()
    (found,) = steps(graph)
    assert len(found) == STEPS - 1
    assert steps(recurrent(3)) == ()  # two of them
    assert steps(recurrent(rows=2 * MOST_VALUES // WIDTH)) == ()  # each step's range is well known


def test_layers_side_by_side_are_no_steps() -> None:
    chain = Chain()
    weights = chain.constant(noise(4, 4))
    ends = [
        chain.op("FULLY_CONNECTED", chain.op("TANH", chain.input((1, 4)), shape=(1, 4)), weights, shape=(1, 4), **NONE)
        for _ in range(4)
    ]
    assert steps(chain.graph(*ends)) == ()


def test_each_part_of_a_step_has_one_scale() -> None:
    graph = recurrent()
    roles = same_in_every_step(graph)
    sizes = sorted(len(members) for members in roles)
    # The products and sums of all steps but the first, its inputs (and the first's, by SPLIT), and the states.
    assert sizes == [STEPS - 1] * 3 + [STEPS]
    statistics, _ = observe(graph, samples(graph))
    found = assign(graph, statistics, MinMax()).quantization
    for members in roles:
        assert all(found[t].same_as(found[members[0]]) for t in members)
    several = {float(found[members[0]].scale[0]) for members in roles}
    assert len(several) == len(roles)


def test_many_steps_are_matched_in_proportion_to_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps are followed once, not once for each step before them: 40 of them took 780 looks."""
    looked = list[int]()

    def paired(graph: Graph, one: Op, other: Op) -> list[tuple[int, int]]:
        looked.append(1)
        return _paired(graph, one, other)

    monkeypatch.setattr(recurrence, "_paired", paired)
    roles = same_in_every_step(recurrent(40))
    assert sorted(len(members) for members in roles) == [39] * 3 + [40]
    assert len(looked) <= 3 * 40  # product, sum and TANH


def test_the_file_holds_weights_and_biases_once_however_many_steps_there_are() -> None:
    def size(graph: Graph) -> int:
        statistics, _ = observe(graph, samples(graph))
        integer = lower(graph, statistics, MinMax(), Precision())
        layers = [op for op in integer.ops if op.kind == "FULLY_CONNECTED"]
        assert len({op.inputs[1] for op in layers}) == 3
        assert len({id(integer.tensors[op.inputs[2]].data) for op in layers}) == 3
        return len(flatbuffer.to_bytes(integer))

    # Three more steps are nine more ops, which need their tables; 64 weights more would be as much as one of them.
    wide, narrow = (size(recurrent(9, width)) - size(recurrent(6, width)) for width in (32, 8))
    assert abs(wide - narrow) < 64


def test_a_recurrent_layer_is_an_island_with_its_products() -> None:
    graph = recurrent()
    (region,) = regions(graph)
    assert region.role == RECURRENCE
    assert {*region.ops} == recurrent_ops(graph)
    inside = [graph.ops[i].kind for i in region.ops]
    assert inside.count("FULLY_CONNECTED") == STEPS  # the inputs' product too; not the layer behind the last step
    assert kinds(graph).count("FULLY_CONNECTED") == STEPS + 1
    wide = widened(graph, Precision(), [region])
    assert set(wide.layers.values()) == {Widths(8, 16)}
    statistics, _ = observe(graph, samples(graph))
    before, after = (lower(graph, statistics, MinMax(), p) for p in (Precision(), wide))
    # One copy in and one out: CAST and ADD, and QUANTIZE.
    assert len(after.ops) <= len(before.ops) + 3
