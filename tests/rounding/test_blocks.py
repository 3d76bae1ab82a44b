"""Layers whose second moment is cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.lowering.lower import lower
from edgeqwt.rounding.blocks import ELEMENTS, MOST, cut, joined, parts
from edgeqwt.rounding.methods import Gptq, Layer
from edgeqwt.rounding.reround import in_parts, reround
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Precision
from tests.chain import Chain, noise, samples
from tests.compensation.nets import outputs, plain_net, sqnr
from tests.prepare import toy

EVERYTHING = Gptq(float_targets=True, scales=5, refine=True)


def test_parts_are_as_small_as_memory_asks() -> None:
    assert parts(MOST) == 1
    for terms in (MOST + 1, 8192, 25088, 1 << 16, 1 << 20):
        width = -(-terms // parts(terms))
        assert parts(terms) > 1
        assert parts(terms) * width**2 < 1.1 * ELEMENTS
    assert -(-(1 << 24) // parts(1 << 24)) == 16  # never smaller


@pytest.mark.parametrize(("terms", "count"), [(12, 3), (13, 3), (7, 1)])
def test_what_was_cut_is_joined(terms: int, count: int) -> None:
    values = np.arange(5.0 * terms).reshape(1, 5, terms)
    assert cut(values, count).shape == (count, 5, -(-terms // count))
    np.testing.assert_array_equal(joined(cut(values, count), terms), values)


def correlated(rng: np.random.Generator, terms: int) -> Array:
    rows = rng.standard_normal((4 * terms, terms)) @ rng.standard_normal((terms, terms))
    return rows.T @ rows


@pytest.mark.parametrize("rule", [Gptq(), Gptq(scales=6, refine=True)], ids=["gptq", "all"])
def test_parts_that_have_nothing_in_common_are_rounded_as_one(rule: Gptq) -> None:
    """The whole second moment has blocks along its diagonal, of equal traces, so that both are damped alike."""
    rng = np.random.default_rng(3)
    blocks = [correlated(rng, 12) for _ in range(3)]
    blocks = [block / np.trace(block) * 12 for block in blocks]
    whole = np.zeros((1, 36, 36))
    for k, block in enumerate(blocks):
        whole[0, 12 * k : 12 * k + 12, 12 * k : 12 * k + 12] = block
    weights = rng.standard_normal((1, 5, 36))
    scale = np.abs(weights).max(axis=2) / 7
    bounds = np.full((1, 5), 1e-30), np.full((1, 5), np.inf)
    layer = Layer(weights, scale, 7, whole, bounds=bounds)
    apart = Layer(
        cut(weights, 3), np.repeat(scale, 3, axis=0), 7, np.stack(blocks),
        bounds=tuple(np.repeat(bound, 3, axis=0) for bound in bounds), parted=True,
    )  # type: ignore[arg-type] # fmt: skip
    wanted, found = rule.round(layer), rule.round(apart)
    assert (found.scale == found.scale[0]).all()
    np.testing.assert_allclose(found.scale[:1], wanted.scale, rtol=1e-9)  # sums in another order
    np.testing.assert_array_equal(joined(found.integers, 36), wanted.integers)


def test_a_layer_in_parts_comes_closer_than_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = plain_net()
    calibration, test = samples(graph, 24), samples(graph, 24, seed=9)
    plain = lower(graph, observe(graph, calibration)[0], MinMax(), Precision(4))
    assert not in_parts(plain)
    whole = reround(plain, graph, calibration, EVERYTHING, Precision(4))
    monkeypatch.setattr("edgeqwt.rounding.blocks.MOST", 16)
    monkeypatch.setattr("edgeqwt.rounding.blocks.ELEMENTS", 600)
    assert in_parts(plain)
    parted = reround(plain, graph, calibration, EVERYTHING, Precision(4))
    assert flatbuffer.to_bytes(parted) != flatbuffer.to_bytes(whole)
    wanted = outputs(graph, test)
    nearest, found = (sqnr(wanted, outputs(g, test)) for g in (plain, parted))
    assert found > nearest + 1


def dense(terms: int, channels: int) -> Graph:
    chain = Chain()
    return chain.graph(toy.dense(chain, chain.input((1, terms)), channels, 1))


@pytest.mark.slow
def test_a_layer_of_65536_terms_is_bounded() -> None:
    """With 32 channels: seconds, and some hundred megabytes, where its second moment alone would have 34 GB."""
    import resource

    graph = dense(1 << 16, 32)
    calibration = [{graph.inputs[0]: noise(1, 1 << 16, seed=k)} for k in range(32)]
    plain = lower(graph, observe(graph, calibration)[0], MinMax(), Precision(4))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rounded = reround(plain, graph, calibration, EVERYTHING, Precision(4))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 << 20  # KiB
    assert in_parts(rounded)
    wanted = outputs(graph, calibration)
    assert sqnr(wanted, outputs(rounded, calibration)) > sqnr(wanted, outputs(plain, calibration)) + 3
