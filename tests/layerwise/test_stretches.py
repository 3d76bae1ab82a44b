from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.layerwise.spool import Spool
from edgeqwt.layerwise.stretches import Stretches
from edgeqwt.runtime.runners import xnnpack
from tests.graph.random_graphs import random_graph, random_inputs

COUNT, CHUNKS = 5, (range(0, 2), range(2, 4), range(4, 5))


def walked(graph: Graph, cuts: list[int], samples: list[dict[int, Array]], spool: Spool) -> list[Array]:
    """Each cut's values on all samples, run stretch by stretch."""
    stretches, found = Stretches("g", graph, cuts, spool), []
    for i, sample in enumerate(samples):
        stretches.feed(i, sample)
    for k, cut in enumerate(cuts):
        stretches.start(k)
        run = stretches.runner(k, graph)
        values = np.concatenate([run(chunk) for chunk in CHUNKS])
        # The second look, from disk, for layers that judge output scales.
        np.testing.assert_array_equal(np.concatenate([stretches.values(cut, chunk) for chunk in CHUNKS]), values)
        found.append(values)
        stretches.finish(k)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_stretches_compute_what_the_graph_computes(seed: int) -> None:
    """Random graphs with branches, ops of two outputs, several inputs, tensors that are cut twice or are inputs.

    Values are small integers, so every kernel is exact.
    """
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, 12)
    activations = [*graph.inputs, *(t for op in graph.ops for t in op.outputs)]
    cuts = sorted(int(t) for t in rng.choice(activations, 6))
    cuts.sort(key=activations.index)
    samples = [random_inputs(rng, graph) for _ in range(COUNT)]
    whole = xnnpack(graph, cuts)
    wanted = [{**s, **whole.run(s)} for s in samples]
    with Spool() as spool:
        found = walked(graph, cuts, samples, spool)
        held = {key for key in spool._files if key[1] not in graph.inputs}  # type: ignore[index]
        assert not held, "something outlived its last reader"
    for cut, values in zip(cuts, found, strict=True):
        np.testing.assert_array_equal(values, np.stack([w[cut] for w in wanted]))


@pytest.mark.parametrize("seed", range(6))
def test_every_op_runs_in_one_stretch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, 15)
    cuts = sorted({t for op in graph.ops for t in op.outputs})
    with Spool() as spool:
        parts = Stretches("g", graph, cuts, spool).parts
    ops = [i for part in parts for i in part.ops]
    assert sorted(ops) == list(range(len(graph.ops)))


def test_records_of_two_graphs_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, 4)
    with Spool() as spool:
        first, second = Stretches("first", graph, [], spool), Stretches("second", graph, [], spool)
        a, b = random_inputs(rng, graph), random_inputs(rng, graph)
        first.feed(0, a)
        second.feed(0, b)
        for t in graph.inputs:
            np.testing.assert_array_equal(first.values(t, range(1))[0], a[t])
            np.testing.assert_array_equal(second.values(t, range(1))[0], b[t])
