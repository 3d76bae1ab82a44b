from __future__ import annotations

from pathlib import Path

import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.runtime.arena import measure_arena
from edgeqwt.target.package.memory import measured_arena, scratch
from tests.targets.package import common

# What the packaged firmware used with CMSIS-NN on an emulated Cortex-M55 (docs/packages.md), more than with reference
# kernels. Keyword spotting's is more than what is measured here: without the margin it would not load.
USED_BY_FIRMWARE = {"image_classification": 54_996, "keyword_spotting": 27_300, "visual_wake_words": 100_756}


def test_the_arena_is_what_was_measured_and_the_largest_scratch() -> None:
    graph = common.int8()
    measured = measure_arena(flatbuffer.to_bytes(graph))
    margin = max(scratch(graph, op) for op in graph.ops)
    arena = measured_arena(graph)
    assert arena.size % 16 == 0
    assert 0 <= arena.size - measured.bytes - margin < 16
    assert f"{measured.bytes} bytes were measured" in arena.reason
    assert f"about {measured.bytes32}." in arena.reason


def test_scratch_of_a_convolution_is_four_columns() -> None:
    graph = common.int8()
    (conv,) = (op for op in graph.ops if op.kind == "CONV_2D")
    assert graph.tensors[conv.inputs[1]].shape == (6, 3, 3, 3)
    assert scratch(graph, conv) == 4 * (3 * 3 * 3 + 16)


@pytest.mark.parametrize("name", ["image_classification", "keyword_spotting", "visual_wake_words"])
def test_firmware_fits(mlperf_tiny: Path, name: str) -> None:
    graph = flatbuffer.read(mlperf_tiny / f"{name}_int8.tflite")
    size = measured_arena(graph).size
    assert size >= USED_BY_FIRMWARE[name]
    assert size < 1.25 * USED_BY_FIRMWARE[name]
