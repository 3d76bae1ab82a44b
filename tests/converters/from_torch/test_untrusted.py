"""Files that would run code: for each kind one that does where it is trusted, and nothing of which runs otherwise."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.arrays import from_npy, from_npz
from edgeqwt.converters.from_keras import untrusted as keras_untrusted
from edgeqwt.converters.from_onnx.source import load as load_onnx
from edgeqwt.converters.from_torch import untrusted
from edgeqwt.converters.resolve import load_torchscript, resolve
from edgeqwt.errors import InputError
from edgeqwt.loading import trusting

Change = Callable[[str, bytes], list[tuple[str, bytes]]]


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that hostile files make."""
    return tmp_path / "ran"


def rewritten(source: Path, target: Path, change: Change) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            for name, content in change(info.filename, old.read(info)):
                new.writestr(name, content)
    return target


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good exported program."""
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("program") / "m.pt2"
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    torch.export.save(torch.export.export(model, (torch.ones(1, 4),)), path)
    return path


def pickled(mark: Path) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save(((Touch(mark),), {}), out)
    return out.getvalue()


def load_program(path: Path) -> object:
    from edgeqwt.converters.from_torch.source import program_inputs

    return program_inputs(path)


def example_inputs(mark: Path) -> Change:
    data = pickled(mark)
    return lambda name, old: [(name, data if name.endswith("sample_inputs/model.pt") else old)]


def weight(mark: Path) -> Change:
    data = pickled(mark)

    def change(name: str, old: bytes) -> list[tuple[str, bytes]]:
        if name.endswith("weights_config.json"):
            table = json.loads(old)
            for entry in table["config"].values():
                entry["use_pickle"] = True
            old = json.dumps(table).encode()
        return [(name, data if name.endswith("weight_0") else old)]

    return change


def size(mark: Path) -> Change:
    code = f"__import__('pathlib').Path('{mark}').touch()"
    sized = json.dumps({"as_expr": {"expr_str": code, "hint": None}}).encode()

    def change(name: str, old: bytes) -> list[tuple[str, bytes]]:
        first = b'"sizes": [{"as_int": 3}'
        return [(name, old.replace(first, b'"sizes": [' + sized, 1) if name.endswith("model.json") else old)]

    return change


@pytest.mark.requires("torch")
@pytest.mark.parametrize("how", [example_inputs, weight, size])
def test_a_program_that_runs_code_where_it_is_trusted(
    tmp_path: Path, program: Path, mark: Path, how: Callable[[Path], Change]
) -> None:
    path = rewritten(program, tmp_path / "e.pt2", how(mark))
    with pytest.raises(InputError, match="is not loaded: ") as caught:
        load_program(path)
    assert "--trust" in caught.value.hint
    assert not mark.exists()
    with trusting(True), contextlib.suppress(InputError):  # what the code gave is no model
        load_program(path)
    assert mark.exists(), "the test's file is harmless"


@pytest.mark.requires("torch")
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"torch.ops.aten.relu.default", b"torch.os.system", "it calls 'torch.os.system'"),
        (b"torch.ops.aten.relu.default", b"torch.ops.load_library", "it calls 'torch.ops.load_library'"),
        (b"torch.ops.aten.relu.default", b"torch.ops.aten.from_file.default", "it calls 'torch.ops.aten.from_file"),
        (b'"relu"', b'"__enum__"', "module to be imported"),
    ],
)
def test_a_program_that_calls_what_is_no_op(tmp_path: Path, program: Path, old: bytes, new: bytes, said: str) -> None:
    path = rewritten(program, tmp_path / "e.pt2", lambda name, data: [(name, data.replace(old, new))])
    with pytest.raises(InputError, match=said):
        load_program(path)


@pytest.mark.requires("torch")
@pytest.mark.parametrize("member", ["m/data/aotinductor/model/a.so", "m/data/constants/custom_obj_0", "x.py"])
def test_a_program_with_other_parts(tmp_path: Path, program: Path, member: str) -> None:
    path = tmp_path / "e.pt2"
    path.write_bytes(program.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"x")
    with pytest.raises(InputError, match="no part of a plain program"):
        load_program(path)


@pytest.mark.requires("torch")
def test_good_programs_are_loaded(program: Path) -> None:
    import torch

    load_program(program)
    sizes = {"x": {0: torch.export.Dim("n", min=2, max=8)}}
    model = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 3, stride=2, padding=1), torch.nn.Flatten(0, 1)).eval()
    exported = torch.export.export(model, (torch.ones(3, 2, 9),), dynamic_shapes=({0: sizes["x"][0]},))
    path = program.with_name("open.pt2")
    torch.export.save(exported, path)
    load_program(path)


@pytest.mark.parametrize(
    "plain",
    [
        "s0",
        "Max(1, s0 // 2)",
        "FloorDiv(s0, 2) <= 4",
        "1.5*s0",
        "-int_oo",
        "Mul(Integer(3), Symbol('s31', positive=True))",
    ],
)
def test_plain_sizes(plain: str) -> None:
    assert untrusted._is_plain(plain)


@pytest.mark.parametrize(
    "code",
    ["exec('')", "().__class__", "s0.args", "f(1)", "[x for x in s0]", "'a'", "eval (1)", "Symbol('a', exec('b'))"],
)
def test_sizes_that_are_code(code: str) -> None:
    assert not untrusted._is_plain(code)


@pytest.mark.requires("torch")
def test_torchscript_that_writes_files(tmp_path: Path, mark: Path) -> None:
    import torch

    source = f"""
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_file("{mark}", True, 4)
    """
    module = torch.jit.ScriptModule()
    module.define("\n".join(line[4:] for line in source.strip("\n").splitlines()))
    module.save(str(tmp_path / "m.pt"))
    with pytest.raises(InputError, match=r"it calls torch\.from_file"):
        load_torchscript(tmp_path / "m.pt")
    with trusting(True):
        load_torchscript(tmp_path / "m.pt")


@pytest.mark.requires("torch")
def test_a_pickled_module_is_not_unpickled(tmp_path: Path, mark: Path) -> None:
    (tmp_path / "m.pt").write_bytes(pickled(mark))
    with pytest.raises(InputError, match="no model that can be run"):
        resolve(str(tmp_path / "m.pt"))
    assert not mark.exists()


def test_arrays_of_objects(tmp_path: Path, mark: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([Touch(mark)], object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=np.array([Touch(mark)], object))
    for load, name in ((from_npy, "x.npy"), (from_npz, "x.npz")):
        with pytest.raises(InputError, match="pickled Python objects"):
            list(load(tmp_path / name))
    assert not mark.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert mark.exists(), "the test's file is harmless"


def keras_file(path: Path, layer: dict[str, object]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.12.0"}))
    return path


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"module": "keras.layers", "class_name": "Lambda", "config": {}}, "Lambda"),
        ({"class_name": "__lambda__", "config": {"code": "AAAA"}}, "__lambda__"),
        ({"module": "os", "class_name": "function", "config": "system"}, "imports the module 'os'"),
        (
            {"module": "keras.layers", "class_name": "Dense", "config": {"x": {"module": "a.b", "class_name": "C"}}},
            "a.b",
        ),
        ({"class_name": "Other", "config": {"function_type": "lambda"}}, "a lambda"),
        ({"class_name": "ResidualWrapper", "config": {"residual_fn_type": "lambda"}}, "lambda"),
        ({"module": "builtins", "class_name": "function", "config": "eval"}, "'builtins'"),
        ({"module": "builtins", "class_name": "function", "config": "x", "registered_name": "exec"}, "'builtins'"),
        ({"module": "keras.utils", "class_name": "function", "config": "get_file"}, "'keras.utils'"),
        ({"module": "keras.models", "class_name": "function", "config": "load_model"}, "'keras.models'"),
        ({"module": "keras.layers", "class_name": "X", "registered_name": "a>Lambda", "config": {}}, "Lambda"),
        ({"module": "keras", "class_name": "layers.Dense", "config": {}}, "which is no layer"),
        ({"class_name": "StringLookup", "config": {"vocabulary": "secrets.txt"}}, "the file 'secrets.txt'"),
        ({"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}, "calls 'io.write_file'"),
        ({"class_name": "TFOpLambda", "config": {"function": "compat.v1.py_func"}}, "py_func"),
        ({"class_name": "ClassMethod", "config": {"cls_symbol": "io.TFRecordWriter"}}, "ClassMethod"),
    ],
)
def test_keras_layers_that_are_code(tmp_path: Path, layer: dict[str, object], said: str) -> None:
    path = keras_file(tmp_path / "m.keras", layer)
    with pytest.raises(ValueError, match="not loaded: ") as caught:
        keras_untrusted.check_plain(str(path))
    assert said in str(caught.value)


@pytest.mark.requires("h5py")
def test_keras_lambda_in_hdf5(tmp_path: Path) -> None:
    import h5py

    layer = {"class_name": "Lambda", "config": {"function": ["4wAAAA==", None, None], "function_type": "lambda"}}
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}})
    with pytest.raises(ValueError, match="Lambda"):
        keras_untrusted.check_plain(str(tmp_path / "m.h5"))


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "keras.layers", "class_name": "Dense", "config": {"activation": "relu"}, "registered_name": None},
        {"class_name": "TFOpLambda", "config": {"function": "__operators__.add"}},
        {"class_name": "TFOpLambda", "config": {"function": "compat.v1.nn.conv2d"}},
        {"module": "builtins", "class_name": "function", "config": "gelu", "registered_name": "function"},
        {
            "module": "tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper",
            "class_name": "QuantizeWrapperV2",
            "config": {},
        },
    ],
)
def test_plain_keras_layers_pass(tmp_path: Path, layer: dict[str, object]) -> None:
    keras_untrusted.check_plain(str(keras_file(tmp_path / "m.keras", layer)))


def test_what_a_keras_file_was_trained_with_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    loss = {"module": "my_losses", "class_name": "function", "config": "mine"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "compile_config": {"loss": loss}}))
    keras_untrusted.check_plain(str(path))


@pytest.mark.requires("h5py")
@pytest.mark.parametrize("way", ["link", "external", "virtual"])
def test_weights_that_lie_in_other_files(tmp_path: Path, way: str) -> None:
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["w"] = np.zeros(4, np.float32)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group("weights")
        if way == "link":
            group["w"] = h5py.ExternalLink("other.h5", "w")
        elif way == "external":
            group.create_dataset("w", (4,), np.float32, external=[(str(tmp_path / "other.h5"), 0, 16)])
        else:
            layout = h5py.VirtualLayout((4,), np.float32)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "w", (4,))
            group.create_virtual_dataset("w", layout)
        group["itself"] = file["weights"]
    with pytest.raises(ValueError, match="'w' lies in another file"):
        keras_untrusted.check_plain(str(tmp_path / "m.h5"))


@pytest.mark.requires("onnx")
@pytest.mark.parametrize(
    ("judged", "good"),
    [
        ("w", True),
        ("./w", True),
        ("../w", False),
        ("link", False),
        ("up/w", False),
        ("/dev/zero", False),
        ("up", False),
    ],
)
def test_weights_of_onnx_stay_below_the_models_folder(tmp_path: Path, judged: str, good: bool) -> None:
    from onnx import TensorProto, helper

    folder = tmp_path / "model"
    folder.mkdir()
    for weights in (folder / "w", tmp_path / "w"):
        weights.write_bytes(np.arange(8, dtype=np.float32).tobytes())
    (folder / "link").symlink_to("../w")
    (folder / "up").symlink_to("..")
    tensor = TensorProto(name="w", data_type=1, dims=[8], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", judged
    ends = [helper.make_tensor_value_info(name, 1, (8,)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    if good:
        load_onnx(folder / "m.onnx")
        return
    with pytest.raises(InputError, match="no file below the model's folder"):
        load_onnx(folder / "m.onnx")
