"""The graph that techniques begin with, for the widths that its ops are to have."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.samples import InputSpec
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph.graph import Array
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import start
from edgeqwt.profile import kernels_of
from edgeqwt.target.load import load
from edgeqwt.widths.precision import Precision
from tests.chain import CONV, Chain, noise
from tests.prepare.test_prepare import assert_same_function, kinds

TFLITE = load("tflite")


def work_on(filters: Array) -> Context:
    """HARD_SWISH before a convolution with these filters."""
    chain = Chain()
    x = chain.op("HARD_SWISH", chain.input((1, 4, 4, 8), "x"), name="curve")
    graph = chain.graph(chain.op("CONV_2D", x, chain.constant(filters), chain.constant(noise(16)), name="y", **CONV))
    model = ConvertedModel(graph, (Binding(InputSpec("x", (1, 4, 4, 8), "float32"), 0),), (), lambda sample: {})
    return Context.of(model, graph, open_samples({"x": noise(8, 4, 4, 8)}), TFLITE)


def test_hard_swish_is_two_ops_before_weights_that_take_its_sixth() -> None:
    assert "HARD_SWISH" in kernels_of(TFLITE).left_over
    work = work_on(noise(16, 1, 1, 8))
    state = start(work, Precision())
    assert kinds(state.graph) == ["ADD", "MUL", "CONV_2D"]
    assert_same_function(work.graph, state.graph)
    names = [t.name for t in state.graph.tensors]
    # No tensor has that name and six times its values: layers are compared by name.
    assert "curve/product" in names
    assert "curve" not in names


def test_clustered_weights_stay_as_they_are() -> None:
    codes = np.random.default_rng(0).integers(0, 8, (16, 1, 1, 8))
    work = work_on(noise(8, seed=1)[codes])
    assert work.structure().clusters
    assert kinds(start(work, Precision()).graph) == ["ADD", "MUL", "MUL", "CONV_2D"]


@pytest.mark.parametrize("target", ["tflm", "ethos-u55-128"])
def test_targets_that_run_it_keep_it(target: str) -> None:
    work = work_on(noise(16, 1, 1, 8))
    other = Context.of(work.model, work.graph, open_samples({"x": noise(8, 4, 4, 8)}), load(target))
    assert other.for_widths(Precision())[0] is work.graph
