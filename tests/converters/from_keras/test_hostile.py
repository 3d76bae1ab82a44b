"""Keras files and SavedModels of strangers, in TensorFlow's own environment: refused, and nothing of theirs runs."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converters import convert
from edgeqwt.converters.child import environment
from edgeqwt.converters.from_keras import untrusted as keras_untrusted
from edgeqwt.converters.tools import find
from edgeqwt.errors import EdgeqwtError, InputError
from edgeqwt.loading import trusting

MAKE = """
import json, pathlib, runpy, sys
import tensorflow as tf, tf_keras
from tensorflow.core.protobuf import saved_model_pb2
mark = sys.argv[2]
tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Dense(2)]).save("good.keras")
run = eval("lambda x: (__import__('pathlib').Path(%r).touch(), x * 2.0)[1]" % mark)
code = tf.keras.layers.Lambda(run, output_shape=(3,))
model = tf.keras.Sequential([tf.keras.Input((3,)), code])
model.save("lambda.keras")
model.save("lambda.h5")

class Module(tf.Module):
    def __init__(self, run):
        super().__init__()
        self.run = tf.function(run, input_signature=[tf.TensorSpec((1, 3), tf.float32)])

def save(name, run):
    module = Module(run)
    tf.saved_model.save(module, name, signatures={"serving_default": module.run})

def written(x):
    tf.io.write_file(mark, "x")
    return {"y": x * 2.0}

def saved(x):
    tf.raw_ops.SaveV2(prefix=mark, tensor_names=["x"], shape_and_slices=[""], tensors=[x])
    return {"y": x * 2.0}

def restored(x):
    inner = tf.function(lambda v: v * tf.raw_ops.RestoreV2(
        prefix=mark, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])[0])
    return {"y": tf.ensure_shape(inner(x), (1, 3))}

class Starting(Module):
    # Its table's initializer, which runs when the model is loaded, writes a file.
    def __init__(self, run):
        super().__init__(run)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [2]), 0)
        start = self.table._initialize
        self.table._initialize = lambda: (tf.raw_ops.SaveV2(
            prefix=mark, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.ones(1)]), start())[1]

def looked(module):
    return lambda x: {"y": x * tf.cast(module.table.lookup(tf.constant([1])), tf.float32)[0]}

for name in ("starts", "table"):
    module = Starting(lambda x: {"y": x})
    if name == "table":
        del module.table._initialize
    module.run = tf.function(looked(module), input_signature=[tf.TensorSpec((1, 3), tf.float32)])
    tf.saved_model.save(module, name, signatures={"serving_default": module.run})

class Scaled(Module):
    def __init__(self):
        super().__init__(lambda x: {"y": x * self.gain})
        self.gain = tf.Variable(2.0)

module = Scaled()
tf.saved_model.save(module, "variable", signatures={"serving_default": module.run})

old = tf_keras.Input((3,))
tf_keras.Model(old, tf.math.tanh(tf_keras.layers.Dense(2, activation=tf.nn.relu6)(old)) * 2.0).save("old.keras")
tf_keras.Model(old, tf.math.tanh(tf_keras.layers.Dense(2)(old))).save("old.h5")
pathlib.Path("my_layers.py").write_text(
    "import keras\\n"
    "@keras.saving.register_keras_serializable('mine')\\n"
    "class Twice(keras.layers.Layer):\\n"
    "    def call(self, x):\\n"
    "        return x * 2.0\\n"
)
sys.path.append(".")
import my_layers
tf.keras.Sequential([tf.keras.Input((3,)), my_layers.Twice()]).save("own.keras")
save("plain", lambda x: {"y": x * 2.0})
save("writes", written)
save("saves", saved)
save("restores", restored)
save("python", lambda x: {"y": tf.ensure_shape(tf.numpy_function(lambda v: v, [x], tf.float32), (1, 3))})
save("asset", lambda x: {"y": x * 2.0})
document = saved_model_pb2.SavedModel.FromString(pathlib.Path("asset/saved_model.pb").read_bytes())
document.meta_graphs[0].asset_file_def.add(filename="../../secret")
pathlib.Path("asset/saved_model.pb").write_bytes(document.SerializeToString())
check_plain = runpy.run_path(sys.argv[1])["check_plain"]
found = {}
for name in sys.argv[3:]:
    try:
        check_plain(name)
        found[name] = ""
    except ValueError as error:
        found[name] = str(error)
pathlib.Path("found.json").write_text(json.dumps(found))
"""

CASES = {
    "good.keras": "",
    "old.keras": "",
    "old.h5": "",
    "plain": "",
    "table": "",
    "variable": "",
    "lambda.keras": "it has a Lambda layer, which is Python code",
    "lambda.h5": "it has a Lambda layer, which is Python code",
    "own.keras": "it imports the module 'my_layers'",
    "writes": "it has the op WriteFile, which reaches beyond the model",
    "saves": "it has the op SaveV2, which reaches beyond the model",
    "restores": "it has the op RestoreV2, which reaches beyond the model",
    "starts": "it has the op SaveV2, which reaches beyond the model",
    "python": "it has the op PyFunc, which reaches beyond the model",
    "asset": "its asset '../../secret' lies elsewhere",
}
"""Models that `MAKE` makes, and what is said of them."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, python = tmp_path_factory.mktemp("hostile"), find("tensorflow").python
    command = [python, "-P", "-c", MAKE, keras_untrusted.__file__, str(folder / "mark"), *CASES]
    done = subprocess.run(command, cwd=folder, env=environment(python), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "mark").unlink(missing_ok=True)
    return folder


def refused(path: Path, work: Path) -> EdgeqwtError:
    with pytest.raises(EdgeqwtError) as caught:
        convert(path, from_arrays({"": np.ones((4, 3), np.float32)}), work)
    assert not (path.parent / "mark").exists()
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.tool("tensorflow")
def test_what_is_said_of_files_before_they_are_loaded(files: Path) -> None:
    found = json.loads((files / "found.json").read_text())
    assert found == {name: f"not loaded: {said}" if said else "" for name, said in CASES.items()}


@pytest.mark.tool("tensorflow")
@pytest.mark.parametrize("name", ["lambda.keras", "saves"])
def test_they_are_not_loaded(files: Path, tmp_path: Path, name: str) -> None:
    error = refused(files / name, tmp_path)
    assert isinstance(error, InputError)
    assert error.message == f"{files / name} is not loaded: {CASES[name]}"
    assert "--trust" in error.hint


@pytest.mark.tool("tensorflow")
def test_a_lambda_layer_of_somebody_who_is_trusted(files: Path, tmp_path: Path) -> None:
    with trusting(True):
        model = convert(files / "lambda.keras", from_arrays({"": np.ones((4, 3), np.float32)}), tmp_path)
    assert [op.kind for op in model.graph.ops] == ["MUL"]
    (files / "mark").unlink()  # its code ran


@pytest.mark.tool("tensorflow")
def test_layers_of_somebody_who_is_trusted(files: Path, tmp_path: Path) -> None:
    with trusting(True):
        model = convert(files / "own.keras", from_arrays({"": np.ones((4, 3), np.float32)}), tmp_path)
    assert [op.kind for op in model.graph.ops] == ["MUL"]


@pytest.mark.tool("tensorflow")
def test_functions_of_tensorflow_in_models_of_keras_2(files: Path, tmp_path: Path) -> None:
    model = convert(files / "old.keras", from_arrays({"": np.ones((4, 3), np.float32)}), tmp_path)
    assert "TANH" in [op.kind for op in model.graph.ops]


Edit = Callable[[zipfile.ZipFile], None]


def rewritten(source: Path, path: Path, edit: Edit, **parts: Callable[[Any], Any]) -> Path:
    """A copy of a .keras file, its JSON documents changed, and something done to the archive."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data, change = old.read(name), parts.get(name.partition(".")[0])
            new.writestr(name, data if change is None else json.dumps(change(json.loads(data))))
        edit(new)
    return path


def enlarged(archive: zipfile.ZipFile) -> None:
    """Claims that a part is a terabyte unpacked."""
    archive.writestr("assets/zeros", b"0")
    archive.filelist[-1].file_size = 1 << 40


def wide(config: Any) -> Any:
    config["config"]["layers"][-1]["config"]["units"] = 1 << 42
    return config


@pytest.mark.tool("tensorflow")
@pytest.mark.parametrize(
    ("edit", "parts", "said"),
    [
        (enlarged, {}, "its parts take 1048576 MiB unpacked"),
        (lambda archive: None, {"config": wide}, "TensorFlow cannot load"),
    ],
)
def test_archives_that_are_made_to_harm(
    files: Path, tmp_path: Path, edit: Edit, parts: dict[str, Callable[[Any], Any]], said: str
) -> None:
    path = rewritten(files / "good.keras", tmp_path / "m.keras", edit, **parts)
    assert said in refused(path, tmp_path / "work").message


@pytest.mark.tool("tensorflow")
def test_archives_with_parts_that_lie_elsewhere(files: Path, tmp_path: Path) -> None:
    """They are not unpacked there; and a name that is not UTF-8 is one."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = folder / os.fsdecode(b"\xff.keras")
    rewritten(files / "good.keras", path, lambda archive: archive.writestr("../../evil", "x"))
    model = convert(path, from_arrays({"": np.ones((4, 3), np.float32)}), tmp_path / "work")
    assert model.converter == "tensorflow"
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.tool("tensorflow")
def test_files_that_are_cut_off(files: Path, tmp_path: Path) -> None:
    data = (files / "good.keras").read_bytes()
    (tmp_path / "good.keras").write_bytes(data[: len(data) // 2])
    assert isinstance(refused(tmp_path / "good.keras", tmp_path / "work"), InputError)
