from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeqwt.calibration.samples import InputSpec
from edgeqwt.converters.from_onnx.source import OnnxRunner, check_weights, input_specs, load, with_static_shapes
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array


def linear(batch: int | str | None, weights: Array | None = None, features: int | str = 4) -> Any:
    """relu(x @ w), x of shape (batch, features)."""
    w = np.arange(12, dtype=np.float32).reshape(4, 3) - 5 if weights is None else weights
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["product"], name="multiply"),
            helper.make_node("Relu", ["product"], ["y"], name="activate"),
        ],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def test_specs_and_running() -> None:
    model = linear(1)
    assert input_specs(model) == (InputSpec("x", (1, 4), "float32"),)
    x = np.array([[1, 2, 3, 4]], np.float32)
    weights = np.arange(12, dtype=np.float32).reshape(4, 3) - 5
    assert np.array_equal(OnnxRunner(model).run({"x": x})["y"], np.maximum(x @ weights, 0))


def test_all_intermediate_values() -> None:
    values = OnnxRunner(linear(1), everything=True).run({"x": np.ones((1, 4), np.float32)})
    assert set(values) == {"y", "product"}
    assert np.array_equal(values["y"], np.maximum(values["product"], 0))


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    model = linear(1)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3]))
    assert [spec.name for spec in input_specs(model)] == ["x"]


def test_dynamic_dimensions_take_the_samples_size() -> None:
    model = linear("batch")
    fixed, notes = with_static_shapes(model, {"x": np.zeros((1, 4), np.float32)})
    assert input_specs(fixed)[0].shape == (1, 4)
    assert [d.dim_value for d in fixed.graph.output[0].type.tensor_type.shape.dim] == [1, 3]
    assert notes == ("input 'x' with dynamic shape (?, 4) was fixed to (1, 4)",)
    assert input_specs(model)[0].shape == (None, 4)  # unchanged


def test_static_models_are_left_alone() -> None:
    model = linear(1)
    assert with_static_shapes(model, {"x": np.zeros((1, 4), np.float32)}) == (model, ())


@pytest.mark.parametrize("shape", [(1, 5), (1, 4, 1), (4,)])
def test_samples_that_contradict_the_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"input 'x' takes shape \(\?, 4\)"):
        with_static_shapes(linear("batch"), {"x": np.zeros(shape, np.float32)})


def test_one_symbol_on_several_axes_says_nothing_of_their_sizes() -> None:
    fixed, notes = with_static_shapes(linear("n", features="n"), {"x": np.zeros((1, 4), np.float32)})
    assert input_specs(fixed)[0].shape == (1, 4)
    assert notes[0].startswith("dimension 'n' is 1 on axis 0 of input 'x' and 4 on axis 1 of input 'x'")


def test_inputs_of_one_sample_have_batches_of_one_size() -> None:
    model = linear("n")
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n"]))
    model.graph.node.append(helper.make_node("Add", ["product", "z"], ["sum"]))
    with pytest.raises(InputError, match="dimension 'n' is 3 here and 1 in an earlier input"):
        with_static_shapes(model, {"x": np.zeros((1, 4), np.float32), "z": np.zeros(3, np.float32)})


@pytest.mark.parametrize("size", [-1, 0])
def test_sizes_that_some_exporters_write_for_open_dimensions(size: int) -> None:
    model = linear(1)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = size
    assert input_specs(model)[0].shape == (None, 4)
    fixed, notes = with_static_shapes(model, {"x": np.zeros((2, 4), np.float32)})
    assert [d.dim_value for d in fixed.graph.output[0].type.tensor_type.shape.dim] == [2, 3]
    assert notes == ("input 'x' with dynamic shape (?, 4) was fixed to (2, 4)",)


def test_wrong_shapes_of_values_are_not_believed() -> None:
    model = linear(1)
    model.graph.value_info.append(helper.make_tensor_value_info("product", TensorProto.FLOAT, [1, 9]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9
    fixed, _ = with_static_shapes(model, {"x": np.zeros((1, 4), np.float32)})
    found = [*fixed.graph.value_info, *fixed.graph.output]
    assert [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in found] == [[1, 3], [1, 3]]


def test_damaged_weights_and_types_are_named() -> None:
    model = linear(1)
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:8]
    with pytest.raises(InputError, match="weight 'w' of the ONNX model cannot be read"):
        check_weights(model)
    model = linear(1)
    model.graph.input[0].type.tensor_type.elem_type = 65
    with pytest.raises(InputError, match="input 'x' of the ONNX model has the element type 65"):
        input_specs(model)


def test_nan_weights_are_named(tmp_path: Path) -> None:
    weights = np.zeros((4, 3), np.float32)
    for bad in (np.nan, np.inf):
        weights[2, 1] = bad
        onnx.save(linear(1, weights), tmp_path / "model.onnx")
        with pytest.raises(InputError, match="weight 'w' has NaN or infinite values"):
            load(tmp_path / "model.onnx")


def test_nodes_in_another_order_are_put_in_order(tmp_path: Path) -> None:
    """onnxruntime runs such files; onnx's checker refuses them."""
    model, path = linear(1), tmp_path / "model.onnx"
    onnx.save(model, path)
    assert [node.op_type for node in load(path).graph.node] == ["MatMul", "Relu"]
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    assert [node.op_type for node in load(path).graph.node] == ["MatMul", "Relu"]
    model.graph.node[1].input[0] = "y"  # each waits for the other
    onnx.save(model, path)
    with pytest.raises(InputError, match="topologically sorted"):
        load(path)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_an_output_without_a_shape_gets_that_of_a_sample(tmp_path: Path, batch: int | str) -> None:
    """Exporters leave it out where an If gives the output; onnxruntime does not ask for it."""
    model = linear(batch)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "net.onnx")
    read = load(tmp_path / "net.onnx")
    assert not read.graph.output[0].type.tensor_type.HasField("shape")  # what nobody knows yet, nobody says
    fixed, _ = with_static_shapes(read, {"x": np.zeros((1, 4), np.float32)})
    assert [d.dim_value for d in fixed.graph.output[0].type.tensor_type.shape.dim] == [1, 3]
    model.graph.node[0].input[1] = "nothing"
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(InputError, match="is not a readable ONNX model"):
        load(tmp_path / "net.onnx")


def test_external_data_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(linear(1), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert np.array_equal(numpy_helper.to_array(load(path).graph.initializer[0])[0], [-5, -4, -3])
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match="is not a readable ONNX model"):
        load(path)


def test_files_that_are_no_onnx_models(tmp_path: Path) -> None:
    whole = linear(1).SerializeToString()
    for name, content in {"cut": whole[: len(whole) // 2], "noise": b"\x93noise" * 50, "empty": b""}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not a readable ONNX model"):
            load(path)


def test_choices_by_shapes_whose_branches_hold_weights_run() -> None:
    """onnxruntime 1.26 takes the branch in, and then does not find its weights in memory of its own."""
    weights = [np.random.default_rng(k).normal(size=(64, 64)).astype(np.float32) for k in range(2)]

    def branch(k: int) -> onnx.GraphProto:
        product = helper.make_node("MatMul", ["x", f"w{k}"], [f"y{k}"])
        held = [numpy_helper.from_array(weights[k], f"w{k}")]
        return helper.make_graph([product], f"branch{k}", [], [helper.make_tensor_value_info(f"y{k}", 1, None)], held)

    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "first"], ["rows"]),
        helper.make_node("Equal", ["rows", "four"], ["yes"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch(0), else_branch=branch(1)),
    ]
    ends = helper.make_tensor_value_info("x", 1, (4, 64)), helper.make_tensor_value_info("y", 1, None)
    numbers = [numpy_helper.from_array(np.array(n), name) for name, n in (("first", 0), ("four", 4))]
    graph = helper.make_graph(nodes, "chosen", ends[:1], ends[1:], numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    x = np.random.default_rng(2).normal(size=(4, 64)).astype(np.float32)
    # Sums of 64 products in float32.
    np.testing.assert_allclose(OnnxRunner(model).run({"x": x})["y"], x @ weights[0], atol=1e-4)


def test_layers_between_integers_are_run_as_they_are_written() -> None:
    """onnxruntime's kernels of 8-bit weights and activations saturate sums of two products at 16 bits without VNNI."""
    weights = np.full((4, 4, 3, 3), 127, np.int8)
    held = {"scale": np.float32(1), "zero": np.int8(-128), "w": weights, "none": np.int8(0)}
    constants = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x_real"]),
        onnx.helper.make_node("DequantizeLinear", ["w", "scale", "none"], ["w_real"]),
        onnx.helper.make_node("Conv", ["x_real", "w_real"], ["y"]),
        onnx.helper.make_node("QuantizeLinear", ["y", "large", "zero"], ["y_q"]),
        onnx.helper.make_node("DequantizeLinear", ["y_q", "large", "zero"], ["out"]),
    ]
    constants.append(onnx.numpy_helper.from_array(np.asarray(np.float32(36 * 255 * 127 / 200)), "large"))
    x, out = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 4, 5, 5]), ("out", [1, 4, 3, 3]))
    )
    graph = onnx.helper.make_graph(nodes, "net", [x], [out], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    found = OnnxRunner(model).run({"x": np.full((1, 4, 5, 5), 255, np.float32)})["out"]
    np.testing.assert_allclose(found, np.float32(36 * 255 * 127), rtol=1e-5)
