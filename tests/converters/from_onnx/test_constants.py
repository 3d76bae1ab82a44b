"""Inputs of one value in all samples as constants of an ONNX model."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgeqwt
from edgeqwt.calibration.samples import Samples
from edgeqwt.calibration.sources import open_samples
from edgeqwt.converted import Constant
from edgeqwt.converters.from_onnx.constants import constants_in, hint
from edgeqwt.converters.from_onnx.source import OnnxRunner, input_specs
from edgeqwt.errors import EdgeqwtError, InputError
from edgeqwt.interface.options import parse

F, INT = TensorProto.FLOAT, TensorProto.INT64
node, info = helper.make_node, helper.make_tensor_value_info


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """Writes 0 where an input says, and takes the mean of what follows: SCATTER_ND and a Slice of unknown starts."""
    nodes = [
        node("ReduceSum", ["at"], ["start"], keepdims=1),
        node("ScatterElements", ["x", "at2", "zero"], ["written"], axis=1),
        node("Reshape", ["at", "column"], ["at2"]),
        node("Slice", ["written", "start", "end", "axis"], ["rest"]),
        node("ReduceMean", ["rest"], ["mean"], axes=[1], keepdims=1),
        node("Add", ["written", "mean"], ["y"]),
    ]
    nodes[1], nodes[2] = nodes[2], nodes[1]
    held = [
        helper.make_tensor("zero", F, [1, 1], [0.0]),
        helper.make_tensor("column", INT, [2], [1, 1]),
        helper.make_tensor("end", INT, [1], [8]),
        helper.make_tensor("axis", INT, [1], [1]),
    ]
    graph = helper.make_graph(nodes, "cut", [info("x", F, [1, 8]), info("at", INT, [1])], [info("y", F, [1, 8])], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "cut.onnx")
    return tmp_path / "cut.onnx"


def samples(folder: Path, other: int | None = None) -> Path:
    at = np.full((16,), 3)
    at[5] = 3 if other is None else other
    x = np.random.default_rng(0).uniform(-1, 1, (16, 8)).astype(np.float32)
    np.savez(folder / "samples.npz", x=x, at=at)
    return folder / "samples.npz"


def opened(folder: Path, other: int | None = None) -> Samples:
    return open_samples(samples(folder, other))


def test_the_model_computes_the_same_without_the_input(cut: Path, tmp_path: Path) -> None:
    data = opened(tmp_path)
    written, left = constants_in(cut, data, ["at"], tmp_path)
    model = onnx.load(written)
    assert [spec.name for spec in input_specs(model)] == ["x"]
    assert not {"ReduceSum", "Reshape"} & {node.op_type for node in model.graph.node}  # known now
    for before, after in zip(data, left, strict=True):
        assert after.keys() == {"x"}
        wanted, found = OnnxRunner(onnx.load(cut)).run(before), OnnxRunner(model).run(after)
        assert np.array_equal(wanted["y"], found["y"])


def test_what_cannot_be_a_constant(cut: Path, tmp_path: Path) -> None:
    _, left = constants_in(cut, opened(tmp_path, other=4), ["at"], tmp_path)
    with pytest.raises(InputError, match="samples have several values of it"):
        list(left)
    with pytest.raises(InputError, match="no input 'length'"):
        constants_in(cut, opened(tmp_path), ["length"], tmp_path)
    with pytest.raises(InputError, match="all inputs"):
        constants_in(cut, opened(tmp_path), ["at", "x"], tmp_path)
    with pytest.raises(InputError, match=r"of \.onnx models only"):
        edgeqwt.build(cut.with_suffix(".tflite"), calibration=samples(tmp_path), interface=parse(["at=constant"]))
    with pytest.raises(InputError, match="no type 'constant'"):
        parse(outputs=["y=constant"])
    with pytest.raises(InputError, match="no type 'constant'"):
        parse(["constant"])


def test_the_hint_names_integers_of_one_value_alone(cut: Path, tmp_path: Path) -> None:
    assert "'at' is 3: where that always holds, try --input at=constant," in hint(cut, opened(tmp_path))
    assert hint(cut, opened(tmp_path), ["at"]) == ""
    assert hint(cut, opened(tmp_path, other=4)) == ""


@pytest.mark.requires("onnx2tf")
def test_a_refused_model_is_built_as_its_hint_says(cut: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeqwtError) as refused:
        edgeqwt.build(cut, calibration=samples(tmp_path), recipe="plain")
    assert "--input at=constant" in refused.value.hint
    out = tmp_path / "out"
    options = {"calibration": samples(tmp_path), "recipe": "plain", "interface": parse(["at=constant"])}
    built = edgeqwt.build(cut, output=out, **options)
    assert [binding.spec.name for binding in built.model.inputs] == ["x"]
    assert built.quality[built.choice.name].worst_db > 30  # 8 bits of uniform values: about 45
    wanted = {"name": "at", "dtype": "int64", "shape": [1], "values": [3]}
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["model"]["constants"] == [wanted]
    assert json.loads((out / "package/io.json").read_text(encoding="utf-8"))["constants"] == [wanted]
    said = "Input 'at' is a constant, and the file does not have it: 3."
    assert said in report["model"]["notes"]
    assert said in html.unescape((out / "report.html").read_text(encoding="utf-8"))


def test_what_is_said_of_a_constant() -> None:
    assert Constant.of("rate", np.float32([16000, 16000])).values == (16000,)
    assert Constant.of("at", np.array([[3, 4]])).sentence.endswith("does not have it: 3, 4.")
    many = Constant.of("table", np.arange(65, dtype=np.float32))
    assert many.values is None
    assert many.sentence.endswith("float32 values of shape (65,), as in all samples.")
    assert Constant.of("end", np.array([np.inf, 1.0])).values is None  # JSON has no infinities
