from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.layerwise.segmented_run import SegmentedRun
from edgeqwt.runtime.runners import xnnpack
from tests.graph.random_graphs import random_graph, random_inputs

COUNT, CHUNKS = 5, (range(0, 2), range(2, 4), range(4, 5))


def walked(graph: Graph, cuts: list[int], samples: list[dict[int, Array]], store: ActivationStore) -> list[Array]:
    """Each cut's values on all samples, run segment by segment."""
    segmented, found = SegmentedRun("g", graph, cuts, store), []
    for i, sample in enumerate(samples):
        segmented.feed(i, sample)
    for k, cut in enumerate(cuts):
        segmented.start(k)
        run = segmented.runner(k, graph)
        values = np.concatenate([run(chunk) for chunk in CHUNKS])
        # The second look, from disk, for layers that judge output scales.
        np.testing.assert_array_equal(np.concatenate([segmented.values(cut, chunk) for chunk in CHUNKS]), values)
        found.append(values)
        segmented.finish(k)
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
    with ActivationStore() as store:
        found = walked(graph, cuts, samples, store)
        held = {key for key in store._files if key[1] not in graph.inputs}  # type: ignore[index]
        assert not held, "something outlived its last reader"
    for cut, values in zip(cuts, found, strict=True):
        np.testing.assert_array_equal(values, np.stack([w[cut] for w in wanted]))


@pytest.mark.parametrize("seed", range(6))
def test_every_op_runs_in_one_stretch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, 15)
    cuts = sorted({t for op in graph.ops for t in op.outputs})
    with ActivationStore() as store:
        parts = SegmentedRun("g", graph, cuts, store).parts
    ops = [i for part in parts for i in part.ops]
    assert sorted(ops) == list(range(len(graph.ops)))


def test_records_of_two_graphs_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, 4)
    with ActivationStore() as store:
        first, second = SegmentedRun("first", graph, [], store), SegmentedRun("second", graph, [], store)
        a, b = random_inputs(rng, graph), random_inputs(rng, graph)
        first.feed(0, a)
        second.feed(0, b)
        for t in graph.inputs:
            np.testing.assert_array_equal(first.values(t, range(1))[0], a[t])
            np.testing.assert_array_equal(second.values(t, range(1))[0], b[t])
