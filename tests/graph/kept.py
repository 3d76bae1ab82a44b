"""What has to come through reading and writing a file unchanged."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array
from tests.graph.packed import content

MODELS = [
    f"{name}_{kind}.tflite"
    for name in ("image_classification", "visual_wake_words", "keyword_spotting")
    for kind in ("float32", "int8")
]


def round_trip(data: bytes) -> bytes:
    return flatbuffer.to_bytes(flatbuffer.from_bytes(data))


def outputs(data: bytes, seed: int = 0) -> list[Array]:
    """What LiteRT's reference kernels compute from random inputs."""
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(seed)
    for detail in interpreter.get_input_details():
        values = rng.integers(0, 2 if detail["dtype"] == np.bool_ else 100, detail["shape"])
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def assert_kept(data: bytes) -> bytes:
    """The round trip changes nothing that the file says or computes, and changes nothing at all a second time."""
    written = round_trip(data)
    assert content(written) == content(data)
    assert round_trip(written) == written
    return written


def assert_kept_and_runs(data: bytes) -> bytes:
    written = assert_kept(data)
    for before, after in zip(outputs(data), outputs(written), strict=True):
        assert before.dtype == after.dtype
        assert before.shape == after.shape
        assert before.tobytes() == after.tobytes()
    return written
