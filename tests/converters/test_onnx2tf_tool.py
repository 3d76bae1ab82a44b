from __future__ import annotations

import os
import signal
import sys
import threading
import time
import venv
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeqwt.converters import onnx2tf_tool
from edgeqwt.converters.onnx2tf_tool import PYTHON_VARIABLE, find_python, run_onnx2tf
from edgeqwt.errors import ToolError
from edgeqwt.graph import flatbuffer
from edgeqwt.runtime.runners import xnnpack


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    """A model of one op."""
    shape = [1, 4]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["/y"], name="activate")],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("/y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "relu.onnx")
    return tmp_path / "relu.onnx"


def test_the_given_file_stays_as_it_is(relu: Path, tmp_path: Path) -> None:
    before = relu.read_bytes()
    done = run_onnx2tf(relu, tmp_path / "work")
    assert not [*done.tflite.parent.glob("*float16*")]  # the same model once more, which nobody reads
    assert relu.read_bytes() == before
    assert done.tflite.read_bytes()[4:8] == b"TFL3"
    assert done.sources == {"wa/y": ("wa/y",)}
    assert done.simplified
    log = done.log.read_text()
    assert "flatbuffer_direct fast path started" in log
    assert "\x1b" not in log


@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        (["Div", "Transpose"], (1, 4, 5, 3)),
        (["Transpose", "Div"], (1, 4, 5, 3)),
        (["Transpose", "Relu"], (1, 4, 5, 3)),
        (["Mul", "Transpose", "ReduceMax"], (1, 4, 5, 3)),
        (["Transpose", "GlobalMaxPool"], (1, 5, 3, 4)),
        (["Div"], (1, 5, 3, 4)),
    ],
)
def test_inputs_whose_channels_are_last_keep_their_axes(
    steps: list[str], shape: tuple[int, ...], tmp_path: Path
) -> None:
    """A camera's picture is (1, height, width, 3) for the file as for the module that permutes it."""
    nodes, last, beside = [], "x", ("Relu", "ReduceMax", "GlobalMaxPool")
    for step in (step for step in steps if step not in beside):
        options = {"perm": [0, 3, 1, 2]} if step == "Transpose" else {}
        inputs = [last] if step == "Transpose" else [last, "factor"]
        nodes.append(helper.make_node(step, inputs, [f"{step}_made"], name=step, **options))
        last = f"{step}_made"
    nodes.append(helper.make_node("Relu", [last], ["y"], name="activate"))
    again = [step for step in steps if step in beside]
    nodes += [helper.make_node(step, ["x"], ["z"], name="again") for step in again]
    wanted = ("y", "z") if again else ("y",)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted]
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5, 3])
    factor = helper.make_tensor("factor", TensorProto.FLOAT, [], [255.0])
    graph = helper.make_graph(nodes, "camera", [picture], outputs, [factor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "camera.onnx")
    found = flatbuffer.read(run_onnx2tf(tmp_path / "camera.onnx", tmp_path / "work").tflite)
    assert found.tensors[found.inputs[0]].shape == shape


def test_a_crash_while_simplifying_is_left_to_the_program(
    relu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = tmp_path / "crash.py"
    crash.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(onnx2tf_tool, "CHILD", crash)
    assert run_onnx2tf(relu, tmp_path / "work").tflite.read_bytes()[4:8] == b"TFL3"


def test_a_model_that_cannot_be_simplified_is_converted_as_it_is(relu: Path, tmp_path: Path) -> None:
    model = onnx.load(relu)
    model.graph.node[0].domain = "nobody's"  # onnxsim's checks know no such op; onnx2tf looks at the kind alone
    onnx.save(model, relu)
    done = run_onnx2tf(relu, tmp_path / "work")
    assert not done.simplified
    assert done.sources == {"wa/y": ("wa/y",)}


@pytest.mark.parametrize(("kind", "largest"), [("Neg", 0.0), ("Relu", 1.0)])
def test_zeros_around_a_max_pool_stay_zeros(kind: str, largest: float, tmp_path: Path) -> None:
    """onnxsim makes the lowest number of them; where no value is negative that is the same, and saves the Pad."""
    nodes = [
        helper.make_node(kind, ["x"], ["y"]),
        helper.make_node("Pad", ["y", "pads"], ["wide"]),
        helper.make_node("MaxPool", ["wide"], ["z"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 0, 0, 0, 0, 1, 1])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2, k, k]) for n, k in (("x", 6), ("z", 3))]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], [pads])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "p.onnx")
    converted = flatbuffer.read(run_onnx2tf(tmp_path / "p.onnx", tmp_path / "work").tflite)
    [x], [z] = converted.inputs, converted.outputs
    found = xnnpack(converted).run({x: np.ones((1, 6, 6, 2), np.float32)})[z]
    assert found[0, -1, -1].tolist() == [largest] * 2
    assert ("PAD" in {op.kind for op in converted.ops}) == (kind == "Neg")


def test_the_interpreter_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    assert find_python(None) == sys.executable
    monkeypatch.setenv(PYTHON_VARIABLE, "/no/such/python")
    with pytest.raises(ToolError, match="/no/such/python could not be started"):
        find_python(None)
    assert find_python(sys.executable) == sys.executable


def test_an_interpreter_without_onnx2tf(relu: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", with_pip=False)
    with pytest.raises(ToolError, match="-m onnx2tf could not be started") as caught:
        run_onnx2tf(relu, tmp_path / "work", str(tmp_path / "empty" / "bin" / "python"))
    assert "pip install" in caught.value.hint


def test_a_failure_shows_the_last_lines_of_the_log(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08")
    with pytest.raises(ToolError, match="onnx2tf failed with exit status 1") as caught:
        run_onnx2tf(broken, tmp_path / "work")
    assert "onnx" in caught.value.log_tail
    assert "--work FOLDER keeps the whole log, as onnx2tf.log" in caught.value.hint
    assert (tmp_path / "work" / "onnx2tf.log").is_file()


def test_an_interrupt_stops_the_child(relu: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "onnx2tf"

    def running() -> list[str]:
        children = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "cwd") == str(folder) and "Z" not in _state(process):
                    children.append(process.name)
            except OSError:  # ended meanwhile
                continue
        return children

    seen: list[str] = []

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            time.sleep(0.05)
            seen.extend(running())
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        run_onnx2tf(relu, tmp_path / "work")
    watcher.join()
    assert seen
    deadline = time.monotonic() + 20  # on a busy machine a killed process takes a moment
    while running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running() == []


def _state(process: Path) -> str:
    return (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
