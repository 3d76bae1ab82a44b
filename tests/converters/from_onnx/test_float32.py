"""float64 that an exporter wrote, and half precision, become float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeqwt.converters.from_onnx.float32 import in_float32
from edgeqwt.converters.from_onnx.source import OnnxRunner, load

if TYPE_CHECKING:
    import onnx

pytestmark = pytest.mark.requires("onnx", "onnxruntime")


def model(wide: bool, wide_input: bool = False) -> onnx.ModelProto:
    """2 (x + 1/3), with a constant, an initializer and a cast, as torch writes them."""
    from onnx import TensorProto, helper, numpy_helper

    dtype, kind = (np.float64, TensorProto.DOUBLE) if wide else (np.float32, TensorProto.FLOAT)
    held = numpy_helper.from_array(np.array([1 / 3], dtype), "third")
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array([2.0], dtype))),
        helper.make_node("Cast", ["x"], ["y"], to=kind),
        helper.make_node("Add", ["y", "third"], ["z"]),
        helper.make_node("Mul", ["z", "two"], ["out"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE if wide_input else TensorProto.FLOAT, [1, 4])
    out = helper.make_tensor_value_info("out", kind, [1, 4])
    graph = helper.make_graph(nodes, "net", [x], [out], [held])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_everything_is_float32() -> None:
    sample = {"x": np.linspace(-1, 1, 4, dtype=np.float32)[None]}
    found = in_float32(model(wide=True))
    (wanted,), (got,) = OnnxRunner(model(wide=False)).run(sample).values(), OnnxRunner(found).run(sample).values()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, wanted)


def test_what_has_no_float64_comes_back_as_it_is() -> None:
    given = model(wide=False)
    assert in_float32(given) is given


def test_inputs_in_float64_are_float32_too() -> None:
    found = in_float32(model(wide=True, wide_input=True))
    assert OnnxRunner(found).specs[0].dtype == "float32"


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_files_in_half_precision_are_read_as_float32(kind: str, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    half = getattr(TensorProto, kind.upper())
    numbers = helper.make_tensor("w", half, [4], [0.5, -2.0, 0.25, 8.0])
    inner = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["twice"])],
        "then",
        [],
        [helper.make_tensor_value_info("twice", half, None)],
    )
    nodes = [
        helper.make_node("Cast", ["given"], ["x"], to=half),
        helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner),
    ]
    given, out = (helper.make_tensor_value_info(name, half, [1, 4]) for name in ("given", "out"))
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    graph = helper.make_graph(nodes, "net", [given], [out], [numbers, yes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    runner = OnnxRunner(load(tmp_path / "m.onnx"))
    assert runner.specs[0].dtype == "float32"
    x = np.array([[1 / 3, 1.0, 2.0, 3.0]], np.float32)
    (got,) = runner.run({"given": x}).values()
    np.testing.assert_array_equal(got, x * np.array([0.5, -2.0, 0.25, 8.0], np.float32))
