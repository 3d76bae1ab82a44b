from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.calibration.validate import validated
from edgeqwt.converters import convert
from edgeqwt.converters.child import environment
from edgeqwt.converters.from_keras.child import is_legacy, named_modules
from edgeqwt.converters.tools import find
from edgeqwt.errors import EdgeqwtError, InputError, ToolError
from edgeqwt.loading import trusting
from edgeqwt.verify.parity import check_parity

MAKE = """
import tensorflow as tf, tf_keras
tf.keras.utils.set_random_seed(0)
image = tf.keras.Input((6, 6, 3), name="image")
gain = tf.keras.Input((1,), name="gain")
x = tf.keras.layers.Conv2D(4, 3, padding="same", name="stem")(image)
x = tf.keras.layers.ReLU()(tf.keras.layers.BatchNormalization()(x))
x = tf.keras.layers.GlobalAveragePooling2D()(x)
scores = tf.keras.layers.Dense(5, activation="softmax", name="scores")(x)
model = tf.keras.Model([image, gain], {"scores": scores, "scaled": scores * gain})
model.save("two.keras")
model.export("saved", verbose=False)
old = tf_keras.Sequential([tf_keras.layers.Conv2D(4, 3, input_shape=(6, 6, 3)), tf_keras.layers.Flatten()])
old.save("old.h5")
layers = tf.keras.layers
tf.keras.Sequential([tf.keras.Input((5, 3)), layers.GRU(4), layers.Dense(2)]).save("gru.keras")
frames = [tf.keras.Input((3, 4, 4, 2)), layers.ConvLSTM2D(2, 3, padding="same"), layers.Flatten(), layers.Dense(2)]
tf.keras.Sequential(frames).save("frames.keras")
tf.keras.Sequential([tf.keras.Input((4, 4, 4, 2)), layers.MaxPooling3D(2)]).save("volume.keras")
cells = layers.RNN([layers.GRUCell(4, dropout=0.3), layers.LSTMCell(3)])
both = layers.Bidirectional(layers.LSTM(4, dropout=0.2, recurrent_dropout=0.1, return_sequences=True))
tf.keras.Sequential([tf.keras.Input((5, 3)), both, cells, layers.Dense(2)]).save("dropout.keras")

open_sizes = [tf.keras.Input((None, None, 3)), layers.Resizing(8, 8), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()]
tf.keras.Sequential(open_sizes).save("open.keras")
one = tf.keras.Input(batch_shape=(1, 1, 3))
tf.keras.Model(one, layers.LSTM(4, stateful=True)(one)).save("stateful.keras")
tf.keras.Sequential([tf.keras.Input((4,)), layers.Dense(2)]).save_weights("only.weights.h5")
open("own_layers.py", "w").write(OWN)
import sys; sys.path.append("")
from own_layers import Scale
owned = tf.keras.Sequential([tf.keras.Input((4,)), layers.Dense(3), Scale()])
owned.save("owned.keras"), owned.save("owned.h5")

class Module(tf.Module):
    def __init__(self):
        self.weights = tf.Variable(tf.random.normal((3, 2)))

    @tf.function(autograph=False)
    def predict(self, x, gain):
        return {"y": x @ self.weights * gain, "z": tf.nn.relu(x)}

called = Module()
tf.saved_model.save(called, "uncalled")
called.predict(tf.zeros((1, 3)), tf.ones((1, 1)))
tf.saved_model.save(called, "called")
for policy in ("mixed_float16", "mixed_bfloat16", "float16"):
    tf.keras.mixed_precision.set_global_policy(policy)
    half = tf.keras.Sequential([tf.keras.Input((6, 3)), layers.Conv1D(4, 3, activation="relu"), layers.Dense(2)])
    half.save(policy + ".keras")
    if policy == "mixed_float16":
        half.export("half", verbose=False)
        half.save("half.h5")
"""
OWN = """
import keras

class Scale(keras.layers.Layer):
    def build(self, shape):
        self.gains = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * keras.ops.sigmoid(self.gains * x)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    python = find("tensorflow").python
    done = subprocess.run(
        [python, "-P", "-c", f"OWN = {OWN!r}{MAKE}"],
        cwd=folder,
        env=environment(python),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.tool("tensorflow")
@pytest.mark.parametrize("name", ["two.keras", "saved"])
def test_models_of_keras_3(files: Path, tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(0)
    arrays = {"image": random.normal(size=(4, 6, 6, 3)), "gain": random.normal(size=(4, 1))}
    samples = from_arrays({key: value.astype(np.float32) for key, value in arrays.items()})
    model = convert(files / name, samples, tmp_path)
    assert model.converter == "tensorflow"
    assert {b.spec.name for b in model.inputs} == {"image", "gain"}
    assert {b.spec.name for b in model.outputs} == {"scores", "scaled"}
    assert all(b.permutation is None for b in (*model.inputs, *model.outputs))
    parity = check_parity(model, model.graph, validated(samples, [b.spec for b in model.inputs]))
    assert parity.samples == 4
    [convolution] = [op for op in model.graph.ops if op.kind == "CONV_2D"]
    assert model.locations[model.graph.tensors[convolution.outputs[0]].name].rpartition("/")[2].startswith("stem")


@pytest.mark.tool("tensorflow")
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_models_in_half_precision_compute_in_float32(files: Path, tmp_path: Path, policy: str) -> None:
    before = (files / f"{policy}.keras").read_bytes()
    samples = from_arrays({"": np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)})
    model = convert(files / f"{policy}.keras", samples, tmp_path)
    assert {t.dtype for t in model.graph.tensors} <= {"float32", "int32"}
    check_parity(model, model.graph, validated(samples, [b.spec for b in model.inputs]))
    assert (files / f"{policy}.keras").read_bytes() == before


@pytest.mark.tool("tensorflow")
def test_hdf5_in_half_precision_computes_in_float32(files: Path, tmp_path: Path) -> None:
    samples = from_arrays({"": np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)})
    model = convert(files / "half.h5", samples, tmp_path)
    assert {t.dtype for t in model.graph.tensors} <= {"float32", "int32"}


@pytest.mark.tool("tensorflow")
def test_open_dimensions_are_those_of_the_first_sample(files: Path, tmp_path: Path) -> None:
    samples = from_arrays({"": np.random.default_rng(0).normal(size=(4, 12, 10, 3)).astype(np.float32)})
    model = convert(files / "open.keras", samples, tmp_path)
    assert model.inputs[0].spec.shape == (1, 12, 10, 3)
    assert any("open dimensions" in note and "(1, 12, 10, 3)" in note for note in model.notes)
    check_parity(model, model.graph, validated(samples, [b.spec for b in model.inputs]))


@pytest.mark.tool("tensorflow")
@pytest.mark.parametrize("name", ["owned.keras", "owned.h5"])
def test_trusted_layers_of_a_file_beside_the_model(files: Path, tmp_path: Path, name: str) -> None:
    """Without --trust nothing beside the model runs."""
    samples = from_arrays({"": np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)})
    with pytest.raises(InputError) as caught:
        convert(files / name, samples, tmp_path)
    assert "--trust" in caught.value.hint
    with trusting(True):
        model = convert(files / name, samples, tmp_path)
    check_parity(model, model.graph, validated(samples, [b.spec for b in model.inputs]))


@pytest.mark.tool("tensorflow")
@pytest.mark.parametrize(
    ("name", "shape", "hint"),
    [("stateful.keras", (1, 3), "stateful=False"), ("only.weights.h5", (4,), "load_weights")],
)
def test_what_cannot_be_loaded_says_what_to_do(
    files: Path, tmp_path: Path, name: str, shape: tuple[int, ...], hint: str
) -> None:
    samples = from_arrays({"": np.zeros((2, *shape), np.float32)})
    with pytest.raises(InputError, match="TensorFlow cannot load") as caught:
        convert(files / name, samples, tmp_path)
    assert hint in caught.value.hint


@pytest.mark.tool("tensorflow")
def test_a_saved_model_in_half_precision_is_refused_with_a_way_out(files: Path, tmp_path: Path) -> None:
    samples = from_arrays({"": np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)})
    with pytest.raises(EdgeqwtError, match="TFLite has no op for") as caught:
        convert(files / "half", samples, tmp_path, converter="tensorflow")
    assert "half precision" in caught.value.hint


@pytest.mark.tool("tensorflow")
@pytest.mark.parametrize(("name", "shape"), [("gru", (5, 3)), ("frames", (3, 4, 4, 2))])
def test_recurrent_layers_are_built(files: Path, name: str, shape: tuple[int, ...]) -> None:
    """Each step reads its own part of the sequence, in integers, too."""
    samples = np.random.default_rng(0).normal(size=(48, *shape)).astype(np.float32)
    result = edgeqwt.build(files / f"{name}.keras", calibration=samples, recipe="plain")
    # Random weights leave 14 to 30 dB; where a step read another's part it was below 0.
    assert result.quality[result.choice.name].worst_db > 10


@pytest.mark.tool("tensorflow")
def test_dropout_of_recurrent_cells_draws_nothing(files: Path, tmp_path: Path) -> None:
    """Keras 3 counts its draws in a variable, which no TFLite file changes."""
    samples = from_arrays({"": np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)})
    model = convert(files / "dropout.keras", samples, tmp_path)
    check_parity(model, model.graph, validated(samples, [b.spec for b in model.inputs]))


@pytest.mark.tool("tensorflow")
def test_a_module_that_was_saved_without_signatures(files: Path, tmp_path: Path) -> None:
    """Its one function is taken, if it was called for one shape."""
    random = np.random.default_rng(0)
    samples = from_arrays({n: random.normal(size=(4, k)).astype(np.float32) for n, k in (("x", 3), ("gain", 1))})
    model = convert(files / "called", samples, tmp_path)
    assert [b.spec.name for b in model.outputs] == ["y", "z"]
    check_parity(model, model.graph, validated(samples, [b.spec for b in model.inputs]))
    with pytest.raises(InputError, match=r"no signature, and not one tf\.function .* signatures=module\.predict"):
        convert(files / "uncalled", samples, tmp_path)


@pytest.mark.tool("tensorflow")
def test_an_op_that_tflite_lacks_is_named(files: Path, tmp_path: Path) -> None:
    samples = from_arrays({"": np.zeros((2, 4, 4, 4, 2), np.float32)})
    with pytest.raises(InputError, match=r"volume\.keras: .*TFLite has no op for MaxPool3D$"):
        convert(files / "volume.keras", samples, tmp_path)


@pytest.mark.tool("tensorflow")
def test_files_of_keras_2(files: Path, tmp_path: Path) -> None:
    samples = from_arrays({"": np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype(np.float32)})
    model = convert(files / "old.h5", samples, tmp_path)
    check_parity(model, model.graph, validated(samples, [b.spec for b in model.inputs]))
    with pytest.raises(InputError, match="onnx2tf does not convert"):
        convert(files / "old.h5", samples, tmp_path, converter="onnx2tf")
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"TensorFlow cannot load .*broken\.h5"):
        convert(tmp_path / "broken.h5", samples, tmp_path)


def test_without_tensorflow_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"PK")
    with pytest.raises(ToolError, match="tensorflow could not be started") as caught:
        convert(tmp_path / "model.keras", from_arrays({"": np.zeros((1, 4), np.float32)}), tmp_path / "work")
    assert "edgeqwt tools install tensorflow" in caught.value.hint


@pytest.mark.parametrize(("version", "legacy"), [("2.21.0", True), ("3.15.1", False)])
def test_who_wrote_a_file(tmp_path: Path, version: str, legacy: bool) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", f'{{"keras_version": "{version}"}}')
    assert is_legacy(str(path)) is legacy


def test_which_modules_a_file_names(tmp_path: Path) -> None:
    """Those of its layers, however the JSON is laid out; not those of losses, nor texts that look like one."""
    path = tmp_path / "model.keras"
    layers = [
        {"module": "keras.layers", "class_name": "Dense"},
        {"module": "größen.lagen", "class_name": "Own", "config": {"inner": [{"module": "other", "class_name": "A"}]}},
        {"module": None, "class_name": "B", "config": {"name": '"module": "text"'}},
    ]
    config = {"config": {"layers": layers}, "compile_config": {"loss": {"module": "losses", "class_name": "L"}}}
    for indent in (None, 1):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(config, indent=indent))
        assert named_modules(str(path)) == ["größen.lagen", "other"]
