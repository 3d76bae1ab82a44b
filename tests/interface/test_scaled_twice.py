"""Samples that were normalized for a model that does so itself."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.samples import InputSpec, Samples
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.graph.graph import Graph
from edgeqwt.interface.scaled_twice import scaled_twice
from tests.chain import CONV, NONE, Chain, noise


def network(*, normalizes: bool = True) -> Graph:
    chain = Chain()
    x = chain.input((1, 4, 4, 3))
    if normalizes:
        x = chain.op("MUL", x, chain.constant(1 / np.array([70.0, 53.0, 68.0])), **NONE)
        x = chain.op("ADD", x, chain.constant([-3.8, -1.6, -0.9]), **NONE)
    return chain.graph(chain.op("CONV_2D", x, chain.constant(noise(4, 1, 1, 3)), chain.constant(noise(4)), **CONV))


def said(graph: Graph, reach: float) -> tuple[str, ...]:
    model = ConvertedModel(
        graph, (Binding(InputSpec("image", (1, 4, 4, 3), "float32"), graph.inputs[0]),), (), lambda sample: {}
    )
    kept = [{"image": np.clip(noise(1, 4, 4, 3, seed=k), -1, 1).astype(np.float32) * reach} for k in range(4)]
    return scaled_twice(model, Samples("test", lambda: iter(kept), len(kept)))


def test_pixels_that_were_normalized_before_are_named() -> None:
    """A network for captchas gave the same for all of them, and was refused for that alone."""
    (sentence,) = said(network(), 1.0)
    assert sentence.startswith(
        "input 'image': the model normalizes it by itself, as 0.0143 * x - 3.8, and samples reach 1"
    )
    assert sentence.endswith("pixels from 0 to 255 as a rule")


@pytest.mark.parametrize(("normalizes", "reach"), [(True, 255.0), (True, 10.0), (False, 1.0), (True, 0.0)])
def test_what_a_model_takes_is_not(normalizes: bool, reach: float) -> None:
    assert not said(network(normalizes=normalizes), reach)
