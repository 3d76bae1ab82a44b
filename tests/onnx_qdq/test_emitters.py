from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import InputError, UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Quantization, Tensor
from edgeqwt.graph.opset16 import rule_at
from edgeqwt.lowering.lower import Precision
from edgeqwt.onnx_qdq.emitters import EMITTERS, to_onnx
from edgeqwt.runtime.runners import reference
from tests import small
from tests.chain import Chain, noise
from tests.one_op import Lowered, lowered
from tests.one_op_specs import SPECS, case
from tests.test_golden import attention, residual, separable

pytestmark = pytest.mark.requires("onnx", "onnxruntime")

# One case of each kind, and all of those whose attributes ONNX counts in another way.
MANY = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "STRIDED_SLICE", "RESIZE_NEAREST_NEIGHBOR")
FIRST = {spec.kind: name for name, spec in reversed(SPECS.items())}
CASES = sorted({*FIRST.values(), *(name for name, spec in SPECS.items() if spec.kind in MANY)})
WITHOUT_FORM = ("FLOOR_DIV", "FLOOR_MOD", "RANGE")
WIDE = ("CONV_2D/3x3-RELU", "FULLY_CONNECTED/NONE", "ADD/same-shape", "MUL/constant", "MEAN/spatial", "LOGISTIC/image")


@cache
def at_8_bits(name: str) -> Lowered:
    return lowered(case(name).graph, case(name).samples)


def session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def steps(graph: Graph, inputs: Any) -> float:
    """The largest difference between onnxruntime and LiteRT's reference kernels, in integers."""
    runner, model, worst = reference(graph), session(to_onnx(graph)), 0.0
    names = [port.name for port in model.get_inputs()]
    assert names == [graph.tensors[t].name for t in graph.inputs]
    assert [port.name for port in model.get_outputs()] == [graph.tensors[t].name for t in graph.outputs]
    for values in inputs:
        wanted = runner.run(values)
        found = model.run(None, {name: np.asarray(values[t]) for name, t in zip(names, graph.inputs, strict=True)})
        for t, array in zip(graph.outputs, found, strict=True):
            assert (array.shape, array.dtype) == (wanted[t].shape, wanted[t].dtype)
            worst = max(worst, float(np.abs(array.astype(np.float64) - wanted[t]).max(initial=0)))
    return worst


@pytest.mark.parametrize("name", [n for n in CASES if SPECS[n].kind not in WITHOUT_FORM])
def test_each_op_is_within_a_step_of_the_reference_kernels(name: str) -> None:
    low = at_8_bits(name)
    assert steps(low.graph, low.inputs) <= 1


@pytest.mark.parametrize("name", WIDE)
def test_each_op_of_16_bits_is_as_close_as_the_kernels_are_to_the_truth(name: str) -> None:
    low = lowered(case(name).graph, case(name).samples, precision=Precision(8, 16))
    (op,) = low.graph.ops
    # ONNX computes the exact value, rounded: half a step; the kernels' own error is the op table's.
    assert steps(low.graph, low.inputs) <= rule_at(op.kind, 16).bound + 0.5


def in_integers(graph: Graph, shape: tuple[int, ...]) -> Lowered:
    return lowered(graph, [{t: noise(*shape, seed=k) for t in graph.inputs} for k in range(4)])


@pytest.mark.parametrize("make", [residual, separable, attention])
def test_networks_stay_close(make: Callable[[], Graph]) -> None:
    graph = make()
    low = in_integers(graph, graph.tensors[graph.inputs[0]].shape)
    # One step an op; a softmax or a mean at the end takes some of that back.
    assert steps(low.graph, low.inputs) <= 3


def test_every_int8_integer_and_scale_is_in_the_file() -> None:
    import onnx

    graph = in_integers(residual(), (1, 10, 10, 3)).graph
    stored = [onnx.numpy_helper.to_array(i) for i in onnx.load_from_string(to_onnx(graph)).graph.initializer]
    flat = {(a.dtype.name, a.size, a.reshape(-1).tobytes()) for a in stored}

    def has(array: Array) -> bool:
        return (array.dtype.name, array.size, array.reshape(-1).tobytes()) in flat

    for tensor in graph.tensors:
        if tensor.quantization is not None:
            assert has(tensor.quantization.scale)
        if tensor.data is not None and tensor.dtype == "int8":
            assert has(tensor.data.transpose(0, 3, 1, 2) if tensor.data.ndim == 4 else tensor.data)
        if tensor.data is not None and tensor.dtype == "int32" and tensor.quantization is not None:
            assert has(tensor.data)


def test_convolutions_in_a_row_are_not_transposed_between() -> None:
    import onnx

    graph = in_integers(separable(), (1, 10, 10, 3)).graph
    kinds = [node.op_type for node in onnx.load_from_string(to_onnx(graph)).graph.node]
    assert kinds.count("Transpose") == 1  # of the input


def test_the_same_graph_gives_the_same_bytes() -> None:
    graph = in_integers(residual(), (1, 10, 10, 3)).graph
    assert to_onnx(graph) == to_onnx(graph)


def test_integers_move_whatever_the_scales_say() -> None:
    chain = Chain()
    x = chain.input((2, 6))
    graph = chain.graph(chain.op("RESHAPE", x, chain.constant(np.array([3, 4])), newShape=(3, 4)))
    scales = Quantization.per_tensor(0.1, 3), Quantization.per_tensor(0.5, -9)
    ports = (graph.inputs[0], graph.outputs[0])
    tensors = {t: replace(graph.tensors[t], dtype="int8", quantization=q) for t, q in zip(ports, scales, strict=True)}
    graph = graph.with_tensors(tensors)
    assert steps(graph, [{graph.inputs[0]: np.arange(-6, 6, dtype=np.int8).reshape(2, 6)}]) == 0


def test_integers_that_are_cast_to_real_ones_are_quantized() -> None:
    """Qualcomm's runtime casts no integers to quantized tensors."""
    import onnx

    chain = Chain()
    x = chain.input((1, 4), "x", "int32")
    graph = chain.graph(chain.op("CAST", x, shape=(1, 4), inDataType="INT32", outDataType="INT8"))
    mask, other = Quantization.per_tensor(1.0, 0), Quantization.per_tensor(0.5, 0)
    kinds = {}
    for q in (mask, other):
        y = graph.outputs[0]
        integer = graph.with_tensors({y: replace(graph.tensors[y], dtype="int8", quantization=q)})
        model = onnx.load_from_string(to_onnx(integer, real_casts=True))
        kinds[float(q.scale[0])] = [node.op_type for node in model.graph.node]
        [found] = session(model.SerializeToString()).run(None, {"x": np.arange(4, dtype=np.int32)[None]})
        assert found.tolist() == [[0, 1, 2, 3]]
    assert kinds == {1.0: ["Cast", "QuantizeLinear"], 0.5: ["Cast"]}


def test_biases_beyond_32_bits_are_written_as_floats() -> None:
    low = lowered(case("CONV_2D/3x3-NONE").graph, case("CONV_2D/3x3-NONE").samples, precision=Precision(8, 16))
    bias = low.graph.ops[0].inputs[2]
    tensor = low.graph.tensors[bias]
    assert tensor.data is not None
    data = tensor.data.copy()
    data[0] = 2**40
    graph = low.graph.with_tensors({bias: replace(tensor, data=data)})
    assert steps(graph, low.inputs) <= 2  # that channel saturates in both


@pytest.mark.parametrize("kind", WITHOUT_FORM)
def test_what_has_no_form_is_named(kind: str) -> None:
    low = lowered(case(FIRST[kind]).graph, case(FIRST[kind]).samples)
    with pytest.raises(UnsupportedError, match=rf"{kind} #0 -> 'y0' cannot be written as ONNX"):
        to_onnx(low.graph)


def test_custom_ops_are_named() -> None:
    with pytest.raises(UnsupportedError, match="MyOp has no form in ONNX"):
        to_onnx(small.with_custom_op(small.graph()))


def test_float_graphs_are_written_as_they_are() -> None:
    graph = small.graph()
    image = noise(1, 8, 8, 3, seed=5)
    wanted = reference(graph).run({graph.inputs[0]: image})[graph.outputs[0]]
    (found,) = session(to_onnx(graph)).run(None, {"image": image})
    assert np.abs(found - wanted).max() < 1e-5  # sums of some hundred float32 products


def test_every_kind_in_the_table_is_tested() -> None:
    written = {op.kind for name in CASES for op in at_8_bits(name).graph.ops}
    # Ops that no graph of ours has as integers: files of other tools have.
    others = {"ELU", "EXP", "LOG", "SQRT", "RSQRT", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "DEPTH_TO_SPACE"}
    assert set(EMITTERS) - written <= others | {"DEQUANTIZE"}


def unary(kind: str, x: Quantization, y: Quantization) -> Graph:
    from edgeqwt.graph.graph import Op

    tensors = (Tensor("x", (1, 4, 16), "int8", None, x), Tensor("y", (1, 4, 16), "int8", None, y))
    return Graph(tensors, (Op(kind, (0,), (1,), {}),), (0,), (1,))


@pytest.mark.parametrize("kind", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_clamps_of_other_tools_files(kind: str) -> None:
    graph = unary(kind, Quantization.per_tensor(0.1, 3), Quantization.per_tensor(0.06, -20))
    values = np.arange(-64, 64, 2, dtype=np.int8).reshape(1, 4, 16)
    assert steps(graph, [{0: values}]) <= 1


def test_the_command(tmp_path: Path) -> None:
    graph = in_integers(residual(), (1, 10, 10, 3)).graph
    flatbuffer.write(graph, tmp_path / "model.tflite")
    edgeqwt.export(tmp_path / "model.tflite", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == to_onnx(flatbuffer.read(tmp_path / "model.tflite"))
    with pytest.raises(InputError, match="there is no format 'onnx'"):
        edgeqwt.export(tmp_path / "model.tflite", tmp_path / "other.onnx", "onnx")
    assert not (tmp_path / "other.onnx").exists()
