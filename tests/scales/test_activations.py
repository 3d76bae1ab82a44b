"""Groups of tensors that share a scale, and the parameters they get."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.boundary import real
from edgeqwt.scales.activations import (
    EXPONENTIAL_HEADROOM,
    HEADROOM,
    affine,
    assign,
    enlarged,
    parameters,
    symmetric,
    widened,
)
from edgeqwt.scales.ranges import MinMax, Mse, saturated
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import Precision, Widths
from tests.chain import NONE, Chain, noise


def spanning(graph: Graph, **ranges: tuple[float, float]) -> dict[int, Statistics]:
    """Statistics by tensor index from ranges by name; [-1, 1] for the others."""
    found = {}
    for t, tensor in enumerate(graph.tensors):
        if tensor.is_float and not tensor.is_constant:
            found[t] = Statistics()
            found[t].add(np.array(ranges.get(tensor.name, (-1.0, 1.0)), np.float32))
    return found


@pytest.mark.parametrize("low", [-3.3, -1e-3, 0.0])
@pytest.mark.parametrize("high", [0.0, 1e-5, 4.4, 1e6])
def test_affine_spans_the_range_and_holds_zero(low: float, high: float) -> None:
    q = affine(low, high)
    scale, zero = float(q.scale[0]), int(q.zero_point[0])
    assert -128 <= zero <= 127
    if low < high:
        assert scale * (-128 - zero) == pytest.approx(low, abs=0.51 * scale)
        assert scale * (127 - zero) == pytest.approx(high, abs=0.51 * scale)


def test_a_tensor_that_is_always_zero_gets_a_moderate_scale() -> None:
    assert float(affine(0.0, 0.0).scale[0]) == pytest.approx(1 / 255)
    assert float(symmetric(0.0, 0.0).scale[0]) == pytest.approx(1 / 127)


def test_symmetric_spans_the_larger_side() -> None:
    q = symmetric(-1.0, 3.0)
    assert int(q.zero_point[0]) == 0
    assert 127 * float(q.scale[0]) == pytest.approx(3.0, rel=1e-6)


def test_given_ranges_stand_in_for_the_rules() -> None:
    chain = Chain()
    x = chain.input((1, 4), name="x")
    even = chain.op("L2_NORMALIZATION", x, name="even", **NONE)
    shaped = chain.op("RESHAPE", x, chain.constant([4, 1]), newShape=(4, 1), name="shaped")
    graph = chain.graph(shaped, even)
    given = {shaped: (-2.0, 5.65), even: (-7.0, 7.0)}
    found = assign(graph, spanning(graph), MinMax(), ranges=given).quantization
    # x and its reshaped copy are one group; the normalization's scale is its own affair.
    assert found[x].same_as(found[shaped])
    assert found[x].same_as(affine(-2.0, 5.65))
    assert (float(found[even].scale[0]), int(found[even].zero_point[0])) == (1 / 128, 0)
    wide = planned(graph, Precision(activation_bits=16))
    assert assign(graph, spanning(graph), MinMax(), wide, {x: (-2.0, 5.0)}).at(x, 16).same_as(symmetric(-2.0, 5.0, 16))


def test_a_group_spans_all_its_members_and_constants() -> None:
    chain = Chain()
    x, y = chain.input((1, 4), name="x"), chain.input((1, 4), name="y")
    joined = chain.op("CONCATENATION", x, y, chain.constant(np.full((1, 4), 9.0)), axis=1, name="joined")
    graph = chain.graph(chain.op("RESHAPE", joined, chain.constant([3, 4]), newShape=(3, 4), name="shaped"))
    statistics = spanning(graph, x=(-5, 0), y=(0, 2), joined=(-5, 2), shaped=(-5, 2))
    found = assign(graph, statistics, MinMax())
    assert len(set(found.group.values())) == 1
    (q,) = {id(q): q for q in found.quantization.values()}.values()
    assert float(q.scale[0]) == pytest.approx(14 / 255)


def tails(graph: Graph) -> dict[int, Statistics]:
    """Statistics of forty samples with long tails."""
    found, rng = {}, np.random.default_rng(0)
    for t in spanning(graph):
        found[t] = Statistics()
        for sample in range(40):
            found[t].add(rng.standard_t(3, 500).astype(np.float32), sample=sample)
    return found


@pytest.mark.parametrize("reader", ["SOFTMAX", "L2_NORMALIZATION"])
@pytest.mark.parametrize("given_out", [False, True])
def test_tails_count_less_where_only_softmax_reads(given_out: bool, reader: str) -> None:
    chain = Chain()
    x = chain.input((1, 4), name="x")
    logits = chain.op("MUL", x, chain.constant(noise(4)), name="logits", **NONE)
    moved = chain.op("RESHAPE", logits, chain.constant([1, 4]), newShape=(1, 4), name="moved")
    options = {"beta": 1.0} if reader == "SOFTMAX" else NONE
    read = chain.op(reader, moved, name="read", **options)
    graph = chain.graph(*([logits, read] if given_out else [read]))
    statistics, seldom = tails(graph), saturated(Mse())
    assert seldom != Mse()
    found = assign(graph, statistics, Mse()).quantization
    joined = Statistics()
    for t in (logits, moved):
        joined.merge(statistics[t])
    rule = seldom if reader == "SOFTMAX" and not given_out else Mse()
    assert found[logits].same_as(affine(*rule.choose(joined, 256)))
    assert found[x].same_as(affine(*Mse().choose(statistics[x], 256)))


def test_a_constant_in_a_group_is_no_sample_that_the_others_lack() -> None:
    chain = Chain()
    x = chain.input((1, 500), name="x")
    table = np.full((1, 500), 30.0, np.float32)
    graph = chain.graph(chain.op("CONCATENATION", x, chain.constant(table), axis=1, name="joined"))
    rng, statistics = np.random.default_rng(0), spanning(graph)
    for t in statistics:
        statistics[t] = Statistics()
        for sample in range(40):
            statistics[t].add(rng.uniform(-1, 1, 500).astype(np.float32), sample=sample)
    # The constant is known: no margin makes room for more than it.
    assert float(assign(graph, statistics, Mse()).quantization[x].scale[0]) == pytest.approx(31 / 255, rel=0.01)


def test_sixteen_bits_have_room_enough_without_margins() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("MUL", chain.input((1, 4), name="x"), chain.constant(noise(4)), **NONE))
    (x, *_) = statistics = tails(graph)
    narrow = Mse(margins=False)
    assert Mse().choose(statistics[x], 256) != narrow.choose(statistics[x], 256)
    assert parameters(statistics[x], Mse(), 16).same_as(parameters(statistics[x], narrow, 16))


def test_enlarging_one_enlarges_its_group_alone() -> None:
    chain = Chain()
    x = chain.input((1, 4), name="x")
    y = chain.op("RESHAPE", x, chain.constant([4]), newShape=(4,), name="y")
    graph = chain.graph(chain.op("MUL", y, chain.constant(noise(4)), name="z", **NONE))
    found = assign(graph, spanning(graph), MinMax())
    t = {tensor.name: i for i, tensor in enumerate(graph.tensors)}
    larger = enlarged(found, {(t["y"], 8): 1.0})
    assert float(larger.quantization[t["x"]].scale[0]) == float(larger.quantization[t["y"]].scale[0]) == 1.0
    assert larger.quantization[t["z"]].same_as(found.quantization[t["z"]])
    assert enlarged(found, {(t["y"], 8): 1e-9}).quantization[t["y"]].same_as(found.quantization[t["y"]])


def test_sixteen_bits_have_zero_in_the_middle_and_room_for_unseen_values() -> None:
    seen = Statistics()
    seen.add(np.array([-1.0, 3.0], np.float32))
    q = parameters(seen, MinMax(), 16)
    assert int(q.zero_point[0]) == 0
    assert 32767 * float(q.scale[0]) == pytest.approx(HEADROOM * 3.0, rel=1e-6)


@pytest.mark.parametrize("zero_point", [-128, 0, 5, 127])
def test_a_wider_copy_can_be_exact(zero_point: int) -> None:
    q = affine(-1.0, 1.0)
    q = type(q).per_tensor(float(q.scale[0]), zero_point)
    integers = np.arange(-128, 128)
    copied = real(integers, q).astype(np.float64) / float(widened(q).scale[0])
    np.testing.assert_allclose(copied, np.rint(copied), atol=1e-2)  # of 32640: float32 rounding
    assert np.abs(copied).max() <= 32767


def two_widths() -> tuple[Graph, dict[str, int]]:
    """x -> narrow (8 bits) -> joined with `wide` (16 bits), and alone into `after` (16 bits)."""
    chain = Chain()
    x = chain.input((1, 4), name="x")
    narrow = chain.op("MUL", x, chain.constant(noise(4)), name="narrow", **NONE)
    wide = chain.op("MUL", x, chain.constant(noise(4, seed=1)), name="wide", **NONE)
    joined = chain.op("CONCATENATION", narrow, wide, axis=1, name="joined")
    after = chain.op("ADD", narrow, chain.constant(noise(4, seed=2)), name="after", **NONE)
    return chain.graph(joined, after), {t.name: i for i, t in enumerate(chain.tensors)}


def test_a_copy_that_shares_its_scale_has_its_groups_scale_and_one_that_does_not_is_exact() -> None:
    graph, t = two_widths()
    statistics = spanning(graph, narrow=(-1, 1), wide=(-4, 4), joined=(-4, 4))
    plan = planned(graph, Precision(activation_bits=16, layers={"narrow": Widths(8, 8)}))
    found = assign(graph, statistics, MinMax(), plan)
    assert found.at(t["narrow"], 8).same_as(affine(-1, 1))
    # Joined with what reaches 4, it has that scale; so `after` reads it at that scale too: one copy.
    assert float(found.at(t["narrow"], 16).scale[0]) == pytest.approx(HEADROOM * 4 / 32767)
    assert found.at(t["narrow"], 16).same_as(found.quantization[t["joined"]])
    # x is computed at 16 bits and read at both widths.
    assert found.at(t["x"], 8).same_as(affine(-1, 1))


def test_enlarging_an_exact_copy_enlarges_its_original() -> None:
    chain = Chain()
    x = chain.input((1, 4), name="x")
    y = chain.op("MUL", x, chain.constant(noise(4)), name="y", **NONE)
    graph = chain.graph(chain.op("MUL", y, chain.constant(noise(4)), name="z", **NONE))
    plan = planned(graph, Precision(layers={"z": Widths(8, 16)}))
    found = assign(graph, spanning(graph, y=(-1, 2)), MinMax(), plan)
    assert (y, 16) not in found.group
    larger = enlarged(found, {(y, 16): 1.0})
    assert float(larger.at(y, 16).scale[0]) == pytest.approx(1.0)
    assert float(larger.at(y, 8).scale[0]) == pytest.approx(128.0)


def test_sixteen_bits_leave_more_room_behind_exp() -> None:
    chain = Chain()
    x = chain.input((1, 4), name="x")
    size = chain.op("EXP", x, name="size", shape=(1, 4))
    scaled = chain.op("MUL", size, chain.constant(8.0), name="scaled", shape=(1, 4), **NONE)
    other = chain.op("MUL", scaled, x, name="other", shape=(1, 4), **NONE)
    graph = chain.graph(scaled, other)
    plan = planned(graph, Precision(activation_bits=16))
    found = assign(graph, spanning(graph), MinMax(), plan)
    reach = {
        name: 32767 * float(found.at(t, 16).scale[0]) for name, t in (("x", x), ("size", size), ("scaled", scaled))
    }
    assert reach == pytest.approx({"x": HEADROOM, "size": EXPONENTIAL_HEADROOM, "scaled": EXPONENTIAL_HEADROOM})
    assert 32767 * float(found.at(other, 16).scale[0]) == pytest.approx(HEADROOM)
