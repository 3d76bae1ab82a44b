"""Centering channels: which groups there are, by what they are shifted, and that the function stays."""

from __future__ import annotations

import numpy as np

from edgeqwt.equalize.channel_shift import groups, shifted
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import xnnpack
from tests.chain import NONE, Chain, noise, samples
from tests.equalize.test_shifts import DENSE, SHIFT, pointwise, residual


def values(graph: Graph, tensors: list[int], data: list[dict[int, Array]]) -> dict[int, Array]:
    """Of every sample, shape (samples, ...)."""
    found = [xnnpack(graph, tensors).run(sample) for sample in data]
    return {t: np.stack([each[t] for each in found]) for t in tensors}


def test_a_residual_group_is_centered_as_a_whole() -> None:
    graph, a, b, c, second = residual(nonlinear=False)
    data = samples(graph, 16)
    (group,) = groups(graph, data)
    assert group.means.keys() == {a, b, c}
    assert second in group.tensors
    other = shifted(graph, [group])
    before, after = (values(g, [a, b, c, second, *graph.outputs], data) for g in (graph, other))
    for t in (a, b, c, second):
        # Rounding in float32, 2^-24 of values below 10, in sums of some dozen.
        np.testing.assert_allclose(after[t].mean(axis=(0, 1, 2, 3)), 0, atol=1e-5)
        assert np.abs(before[t].mean(axis=(0, 1, 2, 3))).max() > 0.1
    np.testing.assert_allclose(after[graph.outputs[0]], before[graph.outputs[0]], atol=1e-4)


def test_groups_that_share_nothing_are_apart() -> None:
    chain = Chain()
    y = chain.op("FULLY_CONNECTED", chain.input((1, 3)), chain.constant(noise(4, 3)), chain.constant(SHIFT), **DENSE)
    z = chain.op("FULLY_CONNECTED", y, chain.constant(noise(4, 4)), chain.constant(SHIFT), **DENSE)
    graph = chain.graph(chain.op("FULLY_CONNECTED", z, chain.constant(noise(2, 4)), -1, **DENSE))
    found = groups(graph, samples(graph, 8))
    assert [(list(g.means), set(g.tensors)) for g in found] == [([y], {y}), ([z], {z})]
    # One of them alone leaves the other as it was.
    other = shifted(graph, found[:1])
    data = samples(graph, 8)
    before, after = (values(g, [y, z], data) for g in (graph, other))
    np.testing.assert_allclose(after[y], before[y] - found[0].means[y], atol=1e-5)
    np.testing.assert_allclose(after[z], before[z], atol=1e-4)


def test_what_nonlinear_ops_read_is_no_group() -> None:
    graph, *_ = residual(nonlinear=True)
    assert groups(graph, samples(graph, 2)) == ()
    chain = Chain()
    y = pointwise(chain, chain.input((1, 4, 4, 4)), 0)
    graph = chain.graph(chain.op("MUL", y, chain.op("LOGISTIC", y), **NONE))
    assert groups(graph, samples(graph, 2)) == ()
