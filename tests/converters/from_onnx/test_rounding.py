from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgeqwt
from edgeqwt.converters.from_onnx.rounding import rounds, without_rounding
from edgeqwt.converters.from_onnx.source import OnnxRunner

SCALES = {"x": 0.05, "h": 0.02, "y": 0.03}


def qdq(last: bool = True) -> onnx.ModelProto:
    """Two dense layers and a RELU, with QuantizeLinear and DequantizeLinear around; `last`: at the output too."""
    rng = np.random.default_rng(0)
    arrays = {
        **{f"{name}_scale": np.float32(scale) for name, scale in SCALES.items()},
        "zero": np.int8(0),
        "first": rng.integers(-100, 100, (8, 16)).astype(np.int8),
        "first_scale": np.float32(0.004),
        "second": rng.normal(size=(16, 3)).astype(np.float32),
    }

    def rounded(source: str, name: str, out: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("QuantizeLinear", [source, f"{name}_scale", "zero"], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale", "zero"], [out]),
        ]

    nodes = [
        *rounded("x", "x", "x_r"),
        helper.make_node("DequantizeLinear", ["first", "first_scale", "zero"], ["first_r"]),
        helper.make_node("MatMul", ["x_r", "first_r"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        *rounded("r", "h", "h_r"),
        helper.make_node("MatMul", ["h_r", "second"], ["n" if last else "y"]),
        *(rounded("n", "y", "y") if last else []),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k]) for n, k in (("x", 8), ("y", 3))]
    constants = [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("last", [True, False])
def test_the_float_model_below(last: bool) -> None:
    model = qdq(last)
    assert rounds(model)
    below = without_rounding(model)
    assert not rounds(below)
    onnx.checker.check_model(below)
    x = np.random.default_rng(1).normal(size=(1, 8)).astype(np.float32)
    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    wanted = np.maximum(x @ (arrays["first"] * np.float32(0.004)), 0) @ arrays["second"]
    found = OnnxRunner(below).run({"x": x})["y"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=16 * 2**-24 * np.abs(wanted).max() * 8)
    assert without_rounding(below) is below


@pytest.mark.requires("onnx2tf")
def test_a_build_keeps_the_ranges(tmp_path: Path) -> None:
    onnx.save(qdq(), tmp_path / "m.onnx")
    samples = np.random.default_rng(2).normal(size=(32, 8)).astype(np.float32)
    result = edgeqwt.build(tmp_path / "m.onnx", calibration={"x": samples}, recipe="fast")
    scales = [float(t.quantization.scale[0]) for t in result.graph.tensors if t.quantization and t.dtype == "int8"]
    for scale in SCALES.values():
        assert any(found == pytest.approx(scale, rel=1e-6) for found in scales)
    assert result.quality[result.choice.name].worst_db > 30
