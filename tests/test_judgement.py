"""What a build says that refuses its result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.graph import flatbuffer
from tests.chain import NONE, Chain, noise

DENSE = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": False}


def test_columns_of_other_magnitude_are_named_where_they_cost_the_result(tmp_path: Path) -> None:
    """A pressure of 1e5 beside an acceleration of 1, which alone decides."""
    chain = Chain()
    weights = noise(3, 2, seed=1) * np.array([1.0, 1e-6], np.float32)
    graph = chain.graph(chain.op("FULLY_CONNECTED", chain.input((1, 2), "x"), chain.constant(weights), -1, **DENSE))
    flatbuffer.write(graph, tmp_path / "net.tflite")
    values = np.random.default_rng(0).normal(size=(48, 2)) * [1.0, 1e3] + [0.0, 1e5]
    with pytest.raises(edgeqwt.QualityError) as caught:
        edgeqwt.build(tmp_path / "net.tflite", calibration=values.astype(np.float32), recipe="fast")
    assert "--standardize x" in str(caught.value.hint)
    interface = edgeqwt.Interface(standardize=("x",))
    built = edgeqwt.build(tmp_path / "net.tflite", calibration=values.astype(np.float32), interface=interface)
    assert not built.shortfalls
