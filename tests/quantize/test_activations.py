"""Groups of tensors that share a scale, and the parameters they get."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Graph
from edgeqwt.quantize.activations import affine, assign, enlarged, symmetric
from edgeqwt.quantize.ranges import MinMax
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


def test_enlarging_one_enlarges_its_group_alone() -> None:
    chain = Chain()
    x = chain.input((1, 4), name="x")
    y = chain.op("RESHAPE", x, chain.constant([4]), newShape=(4,), name="y")
    graph = chain.graph(chain.op("MUL", y, chain.constant(noise(4)), name="z", **NONE))
    found = assign(graph, spanning(graph), MinMax())
    t = {tensor.name: i for i, tensor in enumerate(graph.tensors)}
    larger = enlarged(found, {t["y"]: 1.0})
    assert float(larger.quantization[t["x"]].scale[0]) == float(larger.quantization[t["y"]].scale[0]) == 1.0
    assert larger.quantization[t["z"]].same_as(found.quantization[t["z"]])
    assert enlarged(found, {t["y"]: 1e-9}).quantization[t["y"]].same_as(found.quantization[t["y"]])
