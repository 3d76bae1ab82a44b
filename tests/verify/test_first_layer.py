from __future__ import annotations

import numpy as np

from edgeqwt.verify.first_layer import scale_warnings
from tests import small
from tests.chain import noise


def test_pixels_where_a_network_was_trained_on_normalized_values() -> None:
    """Its bias has standard deviation 1, its outputs 1.5 on normal values: 27 weights of 0.3."""
    graph = small.graph()
    (x,) = graph.inputs
    usual = [{x: noise(1, 8, 8, 3, seed=k)} for k in range(8)]
    assert scale_warnings(graph, usual) == ()
    pixels = [{x: np.random.default_rng(k).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)} for k in range(8)]
    (only,) = scale_warnings(graph, pixels)
    assert "trained on normalized values" in only


def test_normalized_values_where_a_network_was_trained_on_pixels() -> None:
    def shrink(constants: dict[str, np.ndarray]) -> None:
        constants["filter"] /= 300

    graph = small.graph(shrink)
    (x,) = graph.inputs
    pixels = [{x: np.random.default_rng(k).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)} for k in range(8)]
    assert scale_warnings(graph, pixels) == ()
    (only,) = scale_warnings(graph, [{x: sample[x] / 255} for sample in pixels])
    assert "trained on larger values" in only
