"""Models of old operator sets: what they compute stays, and what onnxruntime has no kernels of is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeqwt.calibration.samples import Samples
from edgeqwt.converters.from_onnx import old as onnx_old
from edgeqwt.converters.from_onnx.source import OnnxRunner, load
from edgeqwt.converters.source import open_onnx
from edgeqwt.graph.graph import Array
from tests.chain import noise

SHAPE = (1, 3, 6, 8)


def network(
    opset: int, nodes: list[onnx.NodeProto], constants: Mapping[str, Array] | None = None, *, listed: bool = True
) -> onnx.ModelProto:
    """A model of IR version 3, whose initializers are inputs, too; x goes in, y comes out."""
    held = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    inputs = [helper.make_tensor_value_info("x", 1, SHAPE)]
    inputs += [helper.make_tensor_value_info(i.name, i.data_type, i.dims) for i in held if listed]
    graph = helper.make_graph(nodes, "old", inputs, [helper.make_tensor_value_info("y", 1, None)], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)


def opened(model: onnx.ModelProto, folder: Path) -> tuple[Any, Array]:
    """The source that a build has of a model, and what it computes of `x()`."""
    onnx.save(model, folder / "old.onnx")
    source = open_onnx(folder / "old.onnx", Samples("test", lambda: iter([{"x": x()}]), 1))
    return source, source.outputs["y"]


def x() -> Array:
    return noise(*SHAPE, seed=3)


def spread(values: Array) -> Array:
    return values[None, :, None, None]


C = noise(3, seed=1)
KINDS: dict[str, tuple[int, onnx.NodeProto, dict[str, Array], Array]] = {
    "added along the channels": (
        6, helper.make_node("Add", ["x", "c"], ["y"], broadcast=1, axis=1), {"c": C}, x() + spread(C)
    ),
    "added along the last axes": (
        6, helper.make_node("Mul", ["x", "c"], ["y"], broadcast=1), {"c": noise(8)}, x() * noise(8)
    ),
    "slopes of channels": (
        6, helper.make_node("PRelu", ["x", "c"], ["y"]), {"c": C}, np.where(x() < 0, spread(C), 1).astype("f") * x()
    ),
    "trained": (
        6,
        helper.make_node("BatchNormalization", ["x", "c", "c", "c", "v"], ["y"], epsilon=0.0, is_test=1),
        {"c": C, "v": np.full(3, 4.0, np.float32)},
        spread(C) * (x() - spread(C)) / 2 + spread(C),
    ),
    "shape as an attribute": (4, helper.make_node("Reshape", ["x"], ["y"], shape=[0, -1]), {}, x().reshape(1, -1)),
    "twice as high": (
        6,
        helper.make_node("Upsample", ["x"], ["y"], height_scale=2.0, width_scale=1.0, mode="nearest"),
        {},
        x().repeat(2, axis=2),
    ),
    "padded": (
        1,
        helper.make_node("Pad", ["x"], ["y"], paddings=[0, 0, 1, 0, 0, 0, 0, 2], value=0.5),
        {},
        np.pad(x(), [(0, 0), (0, 0), (1, 0), (0, 2)], constant_values=0.5),
    ),
    "an image scaled": (
        7, helper.make_node("ImageScaler", ["x"], ["y"], scale=0.5, bias=[1.0, 2.0, 3.0]), {},
        x() / 2 + spread(np.arange(1, 4).astype(np.float32)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_sets_that_onnxruntime_has_no_kernels_of_run(kind: str, tmp_path: Path) -> None:
    opset, node, constants, wanted = KINDS[kind]
    source, found = opened(network(opset, [node], constants), tmp_path)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)  # some float32 roundings
    assert onnx_old.operator_set(source.proto) == onnx_old.TODAY


RENEWED: dict[str, tuple[int, onnx.NodeProto, dict[str, Array]]] = {
    "softmax over all that follows": (9, helper.make_node("Softmax", ["x"], ["y"]), {}),
    "padded with ones": (9, helper.make_node("Pad", ["x"], ["y"], pads=[0, 0, 1, 1, 0, 0, 0, 0], value=1.0), {}),
    "between old pixels": (7, helper.make_node("Upsample", ["x"], ["y"], mode="linear", scales=[1.0, 1, 2, 2]), {}),
    "scales as an input": (
        9, helper.make_node("Upsample", ["x", "s"], ["y"], mode="nearest"), {"s": np.array([1, 1, 1.5, 3], "f")}
    ),
    "limits": (9, helper.make_node("Clip", ["x"], ["y"], min=-0.5), {}),
    "positions by themselves": (
        8,
        helper.make_node("BatchNormalization", ["x", "a", "b", "c", "v"], ["y"], spatial=0),
        {**{name: noise(3, 6, 8, seed=k) for k, name in enumerate("abc")}, "v": np.square(noise(3, 6, 8, seed=5)) + 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", RENEWED)
def test_old_sets_are_renewed_and_compute_the_same(kind: str, tmp_path: Path) -> None:
    source, found = opened(network(*[RENEWED[kind][0], [RENEWED[kind][1]], RENEWED[kind][2]]), tmp_path)
    assert onnx_old.operator_set(source.proto) == onnx_old.TODAY
    assert [value.name for value in source.proto.graph.input] == ["x"]
    renewed = OnnxRunner(source.proto).run({"x": x()})["y"]
    np.testing.assert_allclose(renewed, found, rtol=1e-5, atol=1e-6)
    assert source.notes[-1].startswith(f"the ops of ONNX's operator set {RENEWED[kind][0]} ")


def test_what_would_compute_something_else_stays_as_it_is(tmp_path: Path) -> None:
    model = network(9, [helper.make_node("Softmax", ["x"], ["y"])])
    assert onnx_old.renewed(model, lambda _: False) == (model, ())


def test_weights_need_not_be_inputs_in_files_of_ir_version_3(tmp_path: Path) -> None:
    model = network(8, [helper.make_node("Mul", ["x", "c"], ["y"])], {"c": noise(8)}, listed=False)
    np.testing.assert_allclose(opened(model, tmp_path)[1], x() * noise(8))


def test_models_of_today_are_left_alone(tmp_path: Path) -> None:
    model = network(13, [helper.make_node("Relu", ["x"], ["y"])])
    onnx.save(model, tmp_path / "new.onnx")
    assert onnx_old.with_kernels(load(tmp_path / "new.onnx")) == model
    assert onnx_old.renewed(model, lambda _: True)[0] is model
