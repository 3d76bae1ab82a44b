"""What is set right on loading an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeqwt.converters.from_onnx.loadable import loadable
from edgeqwt.converters.from_onnx.source import OnnxRunner, with_static_shapes
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array
from tests.chain import noise

OPSETS = [helper.make_opsetid("", 17)]


def network(nodes: list[onnx.NodeProto], constants: Mapping[str, Array], x: tuple[int, ...]) -> onnx.ModelProto:
    """A model of some nodes, the last of which makes the output y."""
    ends = helper.make_tensor_value_info("x", 1, x), helper.make_tensor_value_info("y", 1, None)
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, "net", ends[:1], ends[1:], held), opset_imports=OPSETS, ir_version=9
    )


def recurrent() -> onnx.ModelProto:
    """A convolution over a line, an LSTM of 8 units and a dense layer."""
    constants = {
        "k": noise(6, 4, 3, seed=1), "kb": noise(6, seed=2), "w": noise(1, 32, 6, seed=3), "r": noise(1, 32, 8, seed=4),
        "b": noise(1, 64, seed=5), "m": noise(8, 5, seed=6), "mb": noise(5, seed=7), "axes": np.array([1], np.int64),
    }  # fmt: skip
    return network(
        [
            helper.make_node("Conv", ["x", "k", "kb"], ["c"], "conv", pads=[1, 1]),
            helper.make_node("Transpose", ["c"], ["t"], perm=[2, 0, 1]),
            helper.make_node("LSTM", ["t", "w", "r", "b"], ["l"], "lstm", hidden_size=8),
            helper.make_node("Squeeze", ["l", "axes"], ["s"]),
            helper.make_node("MatMul", ["s", "m"], ["p"], "dense"),
            helper.make_node("Add", ["p", "mb"], ["y"]),
        ],
        constants,
        (1, 4, 7),
    )


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamically_quantized_models_are_float_again(per_channel: bool, tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    model = recurrent()
    onnx.save(model, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx", per_channel=per_channel)
    rounded = onnx.load(tmp_path / "int8.onnx")
    assert {"DynamicQuantizeLinear", "DynamicQuantizeLSTM"} <= {node.op_type for node in rounded.graph.node}
    again = loadable(rounded)
    kinds = {node.op_type for node in again.graph.node}
    assert {"Conv", "LSTM", "MatMul"} <= kinds
    assert not any("Quantize" in kind or "Integer" in kind for kind in kinds)
    sample = {"x": noise(1, 4, 7, seed=8)}
    wanted, found = (OnnxRunner(m).run(sample)["y"] for m in (model, again))
    # Normal weights with one scale of 8 bits err by 1 % of their size, in each of four products.
    assert 0 < np.square(found - wanted).mean() < 0.05**2 * np.square(wanted).mean()


def test_integers_of_ranges_that_something_else_reads_are_refused() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "back"),
    ]
    with pytest.raises(InputError, match="DequantizeLinear 'back' reads integers whose range is taken at run time"):
        loadable(network(nodes, {}, (1, 4)))


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    inputs = ["x", "w", "r", "", "", "", "", "", "s", "z", "s", "z"]
    held = {"w": np.zeros((2, 4, 8), np.int8), "r": np.zeros((2, 4, 8), np.int8), "s": np.ones(3, np.float32)}
    for given, message in ((inputs, "has weights of wrong shapes"), (inputs[:8], "are computed, or not there")):
        node = helper.make_node("DynamicQuantizeLSTM", given, ["y"], "l", domain="com.microsoft", hidden_size=8)
        with pytest.raises(InputError, match=message):
            loadable(network([node], {**held, "z": np.zeros(3, np.int8)}, (1, 4)))


def test_weights_that_are_computed_are_refused() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("Transpose", ["q"], ["t"]),
        helper.make_node("MatMulInteger", ["q", "t", "z", "z"], ["p"], "product"),
        helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(InputError) as caught:
        loadable(network(nodes, {}, (4, 4)))
    assert caught.value.hint == "Give the float model that it was made of."


def test_a_spectrum_has_one_side_where_nothing_says_otherwise() -> None:
    """onnx infers 16 bins of a window of 16; the default is 9, which onnxruntime computes."""
    nodes = [
        helper.make_node("STFT", ["x", "hop", "window"], ["f"]),
        helper.make_node("ReduceSumSquare", ["f"], ["p"], axes=[-1], keepdims=0),
        helper.make_node("MatMul", ["p", "m"], ["y"]),
    ]
    constants = {"hop": np.array(8), "window": np.hanning(16).astype(np.float32), "m": noise(9, 3, seed=1)}
    sample = {"x": noise(1, 64, seed=2)}
    fixed, _ = with_static_shapes(loadable(network(nodes, constants, (1, 64))), sample)
    assert OnnxRunner(fixed).run(sample)["y"].shape == (1, 7, 3)


def test_what_is_right_is_the_model_itself() -> None:
    model = recurrent()
    assert loadable(model) is model


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("Constant", [], {}),
        ("Conv", ["x"], {}),
        ("Conv", ["x", "w"], {"auto_pad": "SAME_UPPER", "kernel_shape": [3], "dilations": [2, 2]}),
    ],
)
def test_nodes_that_nothing_runs_are_left_to_the_runtime_which_names_them(
    kind: str, inputs: list[str], attributes: dict[str, Any]
) -> None:
    nodes = [helper.make_node(kind, inputs, ["y"], **attributes)]
    model = network(nodes, {"w": np.ones((4, 3, 3, 3), np.float32)}, (1, 3, 8, 8))
    with pytest.raises(InputError) as caught:
        OnnxRunner(loadable(model)).run({"x": np.zeros((1, 3, 8, 8), np.float32)})
    assert caught.value.hint
