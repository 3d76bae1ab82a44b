from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tflite_micro import runtime

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.runtime.arena import measure_arena
from edgeqwt.runtime.native_log import captured_stderr
from edgeqwt.runtime.runners import InterpreterError
from tests.graph.random_graphs import random_graph

MLPERF_TINY = {"keyword_spotting": 24_272, "visual_wake_words": 103_680, "image_classification": 55_984}


def runs(model: bytes, size: int) -> bool:
    """Whether a fresh interpreter loads and runs the model in so large an arena."""
    with captured_stderr():
        try:
            runtime.Interpreter.from_bytes(model, arena_size=size).invoke()
        except RuntimeError:
            return False
    return True


@pytest.mark.parametrize(("name", "size"), MLPERF_TINY.items())
def test_arenas_of_mlperf_tiny(mlperf_tiny: Path, name: str, size: int) -> None:
    model = (mlperf_tiny / f"{name}_int8.tflite").read_bytes()
    found = measure_arena(model)
    assert found.bytes == pytest.approx(size, rel=0.02)  # what the issue asks for
    assert runs(model, found.bytes)
    assert not runs(model, found.bytes - 16)
    assert found.printed["total"] == found.printed["head"] + found.printed["tail"]
    # 32-bit arenas were seen 3 to 6 % smaller; the estimate leaves out what it cannot be sure of.
    assert 0.94 * found.bytes <= found.bytes32 < found.bytes
    assert found.bytes32 % 16 == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_arena_of_small_graphs(seed: int) -> None:
    model = flatbuffer.to_bytes(random_graph(np.random.default_rng(seed), ops=6))
    found = measure_arena(model)
    assert runs(model, found.bytes)
    assert found.bytes % 16 == 0
    # Not below what it says, and no more above it than was ever seen (4640 for 3984 printed).
    assert found.printed["total"] - 16 <= found.bytes <= found.printed["total"] + 1024


def test_a_model_that_tflite_micro_lacks_ops_for_is_refused_with_its_own_words() -> None:
    q = Quantization.per_tensor(1.0, 0)
    tensors = tuple(Tensor(name, (2, 3), "int8", quantization=q) for name in "xy")
    graph = Graph(tensors, (Op("GELU", (0,), (1,), {"approximate": False}),), (0,), (1,))
    with pytest.raises(InterpreterError, match="GELU"):
        measure_arena(flatbuffer.to_bytes(graph))


def test_bytes_that_are_no_model_are_an_input_error() -> None:
    with pytest.raises(InputError):
        measure_arena(b"no model")
