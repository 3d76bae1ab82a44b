"""Fourier transforms of ONNX models as products, against onnxruntime's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converters.from_onnx.rewrites import rewritten
from edgeqwt.converters.from_onnx.source import OnnxRunner
from edgeqwt.converters.from_onnx.spectra import in_sums
from edgeqwt.converters.source import open_onnx
from edgeqwt.graph.graph import Array


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def model(node: Any, shape: tuple[int, ...], constants: dict[str, Any], opset: int) -> onnx.ModelProto:
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    rank = 4 if node.op_type == "STFT" else len(shape)
    ends = [helper.make_tensor_value_info("x", 1, shape)], [helper.make_tensor_value_info("y", 1, [*"abcd"][:rank])]
    graph = helper.make_graph([node], "test", *ends, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def dft(shape: tuple[int, ...], opset: int = 17, size: int | None = None, **attributes: Any) -> onnx.ModelProto:
    constants, inputs = ({}, ["x"]) if size is None else ({"n": size}, ["x", "n"])
    if opset >= 20 and "axis" in attributes:
        constants, inputs = {**constants, "a": attributes.pop("axis")}, [*inputs, *[""] * (2 - len(inputs)), "a"]
    return model(helper.make_node("DFT", inputs, ["y"], **attributes), shape, constants, opset)


def stft(batch: int, size: int) -> onnx.ModelProto:
    constants = {"hop": 5, "window": np.hanning(size).astype(np.float32)}
    node = helper.make_node("STFT", ["x", "hop", "window"], ["y"], onesided=1)
    return model(node, (batch, 64, 1), constants, 17)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (dft((2, 16, 1), onesided=1), (2, 16, 1)),
        (dft((2, 3, 8, 2), axis=-2), (2, 3, 8, 2)),
        (dft((2, 8, 3, 2), axis=1), (2, 8, 3, 2)),
        (dft((2, 8, 3, 2), axis=1, inverse=1), (2, 8, 3, 2)),
        (dft((2, 3, 6, 1), 17, 8, axis=-2, onesided=1), (2, 3, 6, 1)),
        (dft((2, 8, 3, 1), 20, 4, axis=1), (2, 8, 3, 1)),
        (dft((2, 3, 8, 1), 20), (2, 3, 8, 1)),
        (stft(1, 16), (1, 64, 1)),
        (stft(3, 20), (3, 64, 1)),
    ],
)
def test_the_same_is_computed(given: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    new = rewritten(given)
    assert not {"DFT", "STFT"} & {node.op_type for node in new.graph.node}
    (before,), (after,) = (OnnxRunner(m).run({"x": noise(*shape)}).values() for m in (given, new))
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-4)


def test_the_source_is_run_with_exact_transforms_of_odd_lengths(tmp_path: Path) -> None:
    """onnxruntime's own of 20 values errs more than the sums do; that of 16 does not."""
    onnx.save(stft(1, 20), tmp_path / "odd.onnx")
    signal = np.sin(np.arange(64))[None, :, None].astype(np.float32)
    source = open_onnx(tmp_path / "odd.onnx", from_arrays({"x": signal[None, 0]}))
    window, frames = np.hanning(20).astype(np.float32), np.stack([signal[0, k : k + 20, 0] for k in range(0, 45, 5)])
    exact = np.fft.rfft(frames.astype(np.float64) * window)
    errors = [
        np.abs(found[0, ..., 0] + 1j * found[0, ..., 1] - exact).max()
        for found in (source.outputs["y"], OnnxRunner(stft(1, 20)).run({"x": signal})["y"])
    ]
    assert errors[0] < errors[1]
    even = stft(1, 16)
    assert in_sums(even, {"x": signal}) is even


def test_a_length_that_nobody_knows_stays() -> None:
    given = stft(1, 16)
    given.graph.input.append(helper.make_tensor_value_info("hop", 7, ()))
    kept = [held for held in given.graph.initializer if held.name != "hop"]
    del given.graph.initializer[:]
    given.graph.initializer.extend(kept)
    assert rewritten(given) is given
