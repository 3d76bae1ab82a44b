"""ONNX ops that torch's exporter does not write, or writes at newer opsets: they convert, and compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converters.convert import convert
from edgeqwt.converters.from_onnx.functions import written_out
from edgeqwt.converters.from_onnx.rewrites import rewritten
from edgeqwt.converters.from_onnx.source import OnnxRunner
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.runners import xnnpack
from tests.chain import noise

if TYPE_CHECKING:
    import onnx

pytestmark = pytest.mark.requires("onnx2tf", "onnxruntime")

SHAPES = {"q": (1, 2, 6, 8), "k": (1, 2, 6, 8), "v": (1, 2, 6, 8), "map": (1, 3, 7, 7), "rows": (1, 4, 5)}
QKV = ("q", "k", "v")
LOWER: dict[str, Any] = {"auto_pad": "SAME_LOWER", "kernel_shape": [2, 2]}
NO_REGION = np.zeros(0, np.float32)


def scaled(*ratios: float) -> tuple[Any, ...]:
    """Region and scales of Resize, along the last axes."""
    return NO_REGION, np.array([1, 1, *ratios], np.float32)


def sized(*sizes: int) -> tuple[Any, ...]:
    """Region, scales and sizes."""
    return NO_REGION, NO_REGION, np.array([1, 3, *sizes])


CASES: dict[str, tuple[str, tuple[str, ...], tuple[Any, ...], dict[str, Any]]] = {
    "attention": ("Attention", QKV, (), {}),
    "causal attention": ("Attention", QKV, (), {"is_causal": 1, "scale": 0.5}),
    "masked attention": ("Attention", QKV, (np.tri(6, dtype=bool),), {}),
    "norm by root mean square": ("RMSNormalization", ("rows",), (noise(5),), {"axis": 2}),
    "swish": ("Swish", ("rows",), (), {"alpha": 1.5}),
    "sum of one": ("Sum", ("rows",), (), {}),
    "GELU": ("Gelu", ("rows",), (), {}),
    "GELU by tanh": ("Gelu", ("rows",), (), {"approximate": "tanh"}),
    "convolution, SAME_LOWER": ("Conv", ("map",), (noise(4, 3, 2, 2),), {**LOWER, "strides": [2, 2]}),
    "pool, SAME_LOWER": ("MaxPool", ("map",), (), {**LOWER, "strides": [1, 2]}),
    "a given shape of what is spread": (
        "ConvTranspose", ("map",), (noise(3, 4, 3, 3),), {"strides": [2, 2], "output_shape": [14, 13]}
    ),
    "gather from the end": ("GatherElements", ("rows",), (np.array([[[-1, 0], [2, -5]]]),), {"axis": 2}),
    "gather of rows from the end": ("GatherND", ("rows",), (np.array([[0, -1], [0, 1]]),), {}),
    "sums of magnitudes": ("LpNormalization", ("rows",), (), {"p": 1, "axis": 1}),
    "neighbours at half-way": ("Resize", ("map",), scaled(0.6, 0.5), {}),
    "neighbours by ceiling": ("Resize", ("map",), sized(9, 7), {"nearest_mode": "ceil"}),
    "three neighbours each": ("Resize", ("map",), scaled(3, 3), {}),
    "a scale that is no ratio": ("Resize", ("map",), scaled(0.6, 0.6), {"mode": "linear"}),
    "a scale that is one": ("Resize", ("map",), scaled(2, 2), {"mode": "linear"}),
    "means of pixels": ("Resize", ("map",), sized(3, 4), {"mode": "linear", "antialias": 1}),
    "cubic, a scale that is no ratio": ("Resize", ("map",), scaled(0.6, 1.0), {"mode": "cubic"}),
    "axes out of order": ("Resize", ("map",), (NO_REGION, np.array([2, 3], np.float32)), {"axes": [3, 2]}),
    "the largest of one": ("Max", ("rows",), (), {}),
}  # fmt: skip
"""The op, its inputs, its constants and its attributes."""
OUT = {
    "convolution, SAME_LOWER": (1, 4, 4, 4),
    "pool, SAME_LOWER": (1, 3, 7, 4),
    "a given shape of what is spread": (1, 4, 14, 13),
    "gather from the end": (1, 2, 2),
    "neighbours at half-way": (1, 3, 4, 3),
    "neighbours by ceiling": (1, 3, 9, 7),
    "three neighbours each": (1, 3, 21, 21),
    "a scale that is no ratio": (1, 3, 4, 4),
    "a scale that is one": (1, 3, 14, 14),
    "means of pixels": (1, 3, 3, 4),
    "cubic, a scale that is no ratio": (1, 3, 4, 7),
    "axes out of order": (1, 3, 21, 14),
    "gather of rows from the end": (2, 5),
}


def model(name: str) -> onnx.ModelProto:
    """The op behind others, so that its inputs are not those of the graph."""
    from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

    kind, inputs, constants, given = CASES[name]
    held = [numpy_helper.from_array(array, f"c{k}") for k, array in enumerate(constants)]
    behind = [helper.make_node("Neg", [x], [f"{x}_"], name=f"neg_{x}") for x in inputs]
    node = helper.make_node(kind, [f"{x}_" for x in inputs] + [c.name for c in held], ["y"], name="node", **given)
    ends = [helper.make_tensor_value_info(x, TensorProto.FLOAT, SHAPES[x]) for x in inputs]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, OUT.get(name, SHAPES[inputs[0]]))
    graph = helper.make_graph([*behind, node], "one", ends, [out], held)
    opset = helper.make_opsetid("", {"Attention": 23, "RMSNormalization": 23, "Swish": 24}.get(kind, 22))
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    checker.check_model(made)
    return shape_inference.infer_shapes(made)


@pytest.mark.parametrize("name", CASES)
def test_it_converts_and_computes_the_same(name: str, tmp_path: Path) -> None:
    import onnx

    onnx.save(model(name), tmp_path / "model.onnx")
    arrays = {x: noise(2, *SHAPES[x][1:], seed=k) for k, x in enumerate(CASES[name][1])}
    samples = from_arrays(arrays)
    found, sample = convert(tmp_path / "model.onnx", samples, tmp_path / "work", converter="onnx2tf"), samples.first()
    wanted = next(iter(found.run_source(sample).values()))
    values = xnnpack(found.graph).run(found.graph_inputs(sample))
    got = found.outputs[0].to_source(values[found.outputs[0].tensor])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
    kinds = {op.kind for op in found.graph.ops}
    if name in ("three neighbours each", "a scale that is one"):
        assert kinds & {"RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"}
    if name.startswith("GELU"):
        ops = prepare(found.graph).graph.ops
        assert [(op.kind, op.options.get("approximate", False)) for op in ops if op.kind != "NEG"][-1] == (
            "GELU",
            "tanh" in name,
        )


def test_what_onnx2tf_takes_is_not_written_out() -> None:
    plain = model("GELU")
    assert written_out(plain) is plain
    kinds = {node.op_type for node in written_out(model("causal attention")).graph.node}
    assert "Attention" not in kinds
    assert {"MatMul", "Softmax"} <= kinds


def test_scalers_of_scikit_learn_become_two_ops() -> None:
    import onnx
    from onnx import helper

    from edgeqwt.converters.from_onnx.source import OnnxRunner

    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3]) for name in "xy")
    given = {"offset": [1.0, -2.0, 0.5], "scale": [2.0, 0.25, 10.0]}
    node = helper.make_node("Scaler", ["x"], ["y"], "scaler", domain="ai.onnx.ml", **given)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(helper.make_graph([node], "scaler", [x], [y]), opset_imports=imports)
    model.ir_version = 8
    written = written_out(model)
    onnx.checker.check_model(written)
    assert [n.op_type for n in written.graph.node] == ["Cast", "Sub", "Mul"]
    sample = {"x": noise(2, 3)}
    np.testing.assert_allclose(OnnxRunner(written).run(sample)["y"], OnnxRunner(model).run(sample)["y"], rtol=1e-6)


@pytest.mark.parametrize("source", ["x", "classes"])
def test_columns_that_scikit_learn_picks(source: str) -> None:
    """Of features, and the labels of classes by their numbers, which come out as one row."""
    import onnx
    from onnx import helper, numpy_helper

    from edgeqwt.converters.from_onnx.source import OnnxRunner

    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 4])
    kind, shape = (onnx.TensorProto.FLOAT, [2, 3]) if source == "x" else (onnx.TensorProto.INT64, [1, 3])
    y = helper.make_tensor_value_info("y", kind, shape)
    node = helper.make_node("ArrayFeatureExtractor", [source, "columns"], ["y"], domain="ai.onnx.ml")
    held = {"columns": np.array([[3, 0, 2]]), "classes": np.array([5, 7, 11, 13])}
    constants = [numpy_helper.from_array(array, name) for name, array in held.items()]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph([node], "picked", [x], [y], constants), opset_imports=imports)
    model.ir_version = 8
    written, sample = written_out(model), {"x": noise(2, 4)}
    assert {n.op_type for n in written.graph.node} <= {"Reshape", "Gather"}
    wanted, found = (OnnxRunner(each).run(sample)["y"] for each in (model, written))
    np.testing.assert_array_equal(found, wanted)
    assert found.shape == tuple(shape)


def unpooling(pads: int = 0) -> onnx.ModelProto:
    """Values that are written back to where the largest of windows were; equal ones, too, as behind a ReLU."""
    from onnx import helper

    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node(
            "MaxPool", ["r"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2], pads=[pads] * 4, name="pool"
        ),
        helper.make_node("Neg", ["p"], ["n"]),
        helper.make_node("MaxUnpool", ["n", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2], name="unpool"),
    ]
    ends = [helper.make_tensor_value_info(name, 1, (1, 3, 4, 6)) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "unpooling", ends[:1], ends[1:])
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made


def test_unpooling_compares_places_within_windows() -> None:
    model, sample = unpooling(), {"x": noise(1, 3, 4, 6)}
    changed = rewritten(model)
    assert "MaxUnpool" not in {node.op_type for node in changed.graph.node}
    wanted, found = (OnnxRunner(each).run(sample)["y"] for each in (model, changed))
    np.testing.assert_array_equal(found, wanted)
    assert rewritten(padded := unpooling(1)) is padded
