"""The ceiling, on a graph whose rounding is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from edgeqwt.ceiling import ceiling
from edgeqwt.graph.graph import Graph
from edgeqwt.mixed.degradation import degradations, with_rounded_activation
from edgeqwt.verify.op_errors import own_errors
from tests.chain import samples
from tests.verify.test_op_errors import integer, network


def names(graph: Graph) -> dict[str, int]:
    return {tensor.name: i for i, tensor in enumerate(graph.tensors)}


def test_the_ceiling_is_that_of_float_weights_and_rounded_activations() -> None:
    graph = network()
    found = integer(graph)
    inputs = samples(graph, 8)
    limit = ceiling(graph, found, own_errors(graph, found, inputs), iter(inputs))
    assert limit is not None
    assert (limit.samples, limit.rounded) == (8, 5)  # the reshaped tensor has its input's integers
    rounded = graph
    for name in ("x", "conv0", "conv1", "conv2", "y"):
        q = found.tensors[names(found)[name]].quantization
        assert q is not None
        rounded = with_rounded_activation(rounded, names(graph)[name], q)
    (noise,) = degradations(graph, [lambda: rounded], inputs)
    assert limit.db == pytest.approx(-10 * np.log10(noise))
    singles = [wider for wider in limit.wider if len(wider.tensors) == 1]
    assert {wider.tensors[0] for wider in singles} == {"x", "conv0", "conv1", "conv2", "y"}
    assert all(a.db >= b.db for a, b in pairwise(singles))
    assert limit.wider[-1].db == np.inf  # nothing is rounded any more


def test_the_coarsest_activation_holds_the_rest() -> None:
    graph = network()
    found = integer(graph)
    t = names(found)["conv1"]
    q = found.tensors[t].quantization
    assert q is not None
    coarse = replace(found.tensors[t], quantization=replace(q, scale=q.scale * np.float32(16)))
    spoiled = found.with_tensors({t: coarse})
    inputs = samples(graph, 8)
    good = ceiling(graph, found, own_errors(graph, found, inputs), iter(inputs))
    bad = ceiling(graph, spoiled, own_errors(graph, found, inputs), iter(inputs))
    assert good is not None
    assert bad is not None
    assert bad.db < good.db - 6
    assert bad.wider[0].tensors == ("conv1",)
    assert bad.wider[0].db > good.db - 0.5


def test_no_ceiling_without_integers() -> None:
    graph = network()
    inputs = samples(graph, 4)
    assert ceiling(graph, graph, own_errors(graph, graph, inputs), iter(inputs)) is None
