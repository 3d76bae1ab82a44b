from __future__ import annotations

from pathlib import Path

import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph


@pytest.fixture(scope="module")
def resnet(mlperf_tiny: Path) -> Graph:
    """MLPerf Tiny's image classification: 10 convolutions, 3 additions, pooling, FULLY_CONNECTED, SOFTMAX."""
    return flatbuffer.read(mlperf_tiny / "image_classification_float32.tflite")
