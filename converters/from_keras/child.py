"""Runs in TensorFlow's environment, as a program: a Keras model or a SavedModel, asked through pipes.

    python -P child.py MODEL [trusted]

It imports nothing of edgeqwt's, which need not be installed there. Requests and answers are JSON lines; arrays travel
in .npz files that a request names. What the library prints goes to standard error.

- {"do": "describe"}: names, shapes and types of the inputs, and names of the outputs.
- {"do": "run", "inputs": FILE, "outputs": FILE}: runs one sample.
- {"do": "convert", "inputs": FILE, "tflite": FILE}: writes a float file for inputs of these shapes.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import re
import runpy
import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

LEGACY = "TF_USE_LEGACY_KERAS"
_TOOLKIT = "tensorflow_model_optimization"
_OWN = re.compile(r"(keras|tf_keras|tensorflow\w*|builtins)\b")
"""Modules that register what is theirs by themselves."""
_HALF = re.compile(rb'"(mixed_)?b?float16"')
"""Keras's names of half precision, of what is computed in it, and of what is stored in it."""
_UNTRUSTED = runpy.run_path(os.path.join(os.path.dirname(__file__), "untrusted.py"))


def is_legacy(path: str) -> bool:
    """Whether a file was written by Keras 2, which is tf_keras today."""
    if path.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(_UNTRUSTED["text_of"](archive, "metadata.json"))["keras_version"]).startswith("2.")
    if path.endswith((".h5", ".hdf5")):
        import h5py

        with h5py.File(path) as file:
            version = file.attrs.get("keras_version", "2.")
            return str(version.decode() if isinstance(version, bytes) else version).startswith("2.")
    return False


class UnreadableError(ValueError):
    """The optimization toolkit does not read back what it saved."""

    hint = (
        "TensorFlow's model optimization toolkit does not read all of its layers from .keras files. Save the model as "
        ".h5: model.save('model.h5')."
    )


class StatefulError(ValueError):
    """A layer keeps a state from one call to the next."""

    hint = (
        "Make the same model with stateful=False and set_weights(old.get_weights()); for single steps with "
        "return_state=True and initial_state=..., so that states are inputs and outputs."
    )


def _config(path: str) -> Any:
    with zipfile.ZipFile(path) as archive:
        return _UNTRUSTED["config_of"](archive)


@contextlib.contextmanager
def in_float32(path: str) -> Iterator[str]:
    """A file whose model computes in float32: the file itself, or a copy of one that computes in half precision.

    TFLite's kernels do not compute in half precision, and Keras keeps the weights of mixed precision in float32.
    """
    if not path.endswith(".keras"):
        with _hdf5_in_float32(path) as given:
            yield given
        return
    with zipfile.ZipFile(path) as archive:
        text = _UNTRUSTED["text_of"](archive, "config.json")
        if not _HALF.search(text):
            yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            copied = os.path.join(folder, os.path.basename(path))
            with zipfile.ZipFile(copied, "w") as target:
                for part in archive.infolist():
                    if part.filename == "config.json":
                        target.writestr(part, _HALF.sub(b'"float32"', text))
                        continue
                    with archive.open(part) as source, target.open(part, "w", force_zip64=True) as written:
                        shutil.copyfileobj(source, written)
            yield copied


@contextlib.contextmanager
def _hdf5_in_float32(path: str) -> Iterator[str]:
    """`in_float32` of a .h5 file, whose configuration is an attribute."""
    import h5py

    with h5py.File(path) as file:
        text = file.attrs.get("model_config", b"")
    text = text if isinstance(text, bytes) else str(text).encode()
    if not _HALF.search(text):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copied = shutil.copy(path, folder)
        with h5py.File(copied, "r+") as file:
            file.attrs["model_config"] = _HALF.sub(b'"float32"', text)
        yield copied


def named_modules(path: str) -> list[str]:
    """The modules of users that a .keras file's objects are of, in order."""
    found = {part.get("module") for part in _UNTRUSTED["objects_in"](_config(path))}
    return sorted(m for m in found if isinstance(m, str) and m and not _OWN.match(m))


def _import_named(path: str) -> None:
    """Imports the modules that a trusted .keras file names, from its folder, too: they register layers of users."""
    sys.path.append(os.path.dirname(path))
    for module in named_modules(path) if path.endswith(".keras") else ():
        with contextlib.suppress(ModuleNotFoundError):  # where Keras does not find its class, it says so
            importlib.import_module(module)


def own_classes(path: str) -> dict[str, Any]:
    """Classes of users that a trusted file's objects are of, by the names that the file has for them.

    They are looked for where a file does not say, or not rightly, which module has them: in the Python files beside it.
    """
    if path.endswith(".keras"):
        config = _config(path)
    elif os.path.isfile(path):
        config = _UNTRUSTED["hdf5_config"](path)
    else:
        return {}
    names = {part["class_name"] for part in _UNTRUSTED["objects_in"](config) if isinstance(part.get("class_name"), str)}
    names |= {
        part["registered_name"]
        for part in _UNTRUSTED["objects_in"](config)
        if isinstance(part.get("registered_name"), str) and not _OWN.match(str(part.get("module")))
    }
    folder = os.path.dirname(path)
    found: dict[str, Any] = {}
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".py"):
            continue
        with open(os.path.join(folder, file), encoding="utf-8", errors="replace") as text:
            defined = set(re.findall(r"^(?:class|def) (\w+)", text.read(), re.MULTILINE))
        wanted = {name for name in names if name.rpartition(">")[2] in defined}
        if wanted:
            module = importlib.import_module(file.removesuffix(".py"))
            found |= {name: getattr(module, name.rpartition(">")[2]) for name in wanted}
    return found


class Model:
    """A model as a function of tensors by name.

    Args:
        path: of a .keras or .h5 file, or a SavedModel's folder.
        trusted: load Lambda layers, too.
    """

    def __init__(self, path: str, trusted: bool) -> None:
        import tensorflow as tf

        self.tf = tf
        if os.path.isdir(path):
            self._open_saved_model(path)
        else:
            self.model = self._loaded(path, trusted)
            layers = [layer for layer in self.model._flatten_layers() if hasattr(layer, "return_sequences")]
            if any(getattr(layer, "stateful", False) for layer in layers):
                raise StatefulError(
                    "it has a recurrent layer with stateful=True, which a file cannot keep the state of"
                )
            without_dropout(self.model)
            self.inputs = [self._spec(name, t) for name, t in zip(self._input_names(), self.model.inputs, strict=True)]
            nested = self._structure("output")
            self.outputs = list(nested) if isinstance(nested, dict) else self._output_names()

    def _loaded(self, path: str, trusted: bool) -> Any:
        """The model; Python files beside it are imported only where it cannot be loaded without."""
        with in_float32(path) as given:
            try:
                return _load(self.tf, given, safe_mode=not trusted)
            except Exception:
                own = own_classes(path) if trusted else {}
                if not own:
                    raise
            with self.tf.keras.utils.custom_object_scope(own):
                return _load(self.tf, given, safe_mode=not trusted)

    def _open_saved_model(self, path: str) -> None:
        self.model = self.tf.saved_model.load(path)
        signatures = dict(self.model.signatures)
        if not signatures:
            return self._open_function()
        self.signature = signatures.get("serving_default") or next(iter(signatures.values()))
        specs = self.signature.structured_input_signature[1]
        self.inputs = [self._spec(name, spec) for name, spec in specs.items()]
        self.outputs = sorted(self.signature.structured_outputs)

    def _open_function(self) -> None:
        """A tf.Module that was saved without signatures: the one function that it was called by, for one shape."""
        named = {name: getattr(self.model, name, None) for name in dir(self.model)}
        traced = [one for f in named.values() for one in getattr(f, "concrete_functions", [])]
        if len(traced) != 1:
            raise ValueError(
                "the SavedModel has no signature, and not one tf.function that was called for one shape: save it with "
                "signatures=module.predict.get_concrete_function(tf.TensorSpec([1, 224, 224, 3], tf.float32))"
            )
        positional, by_name = traced[0].structured_input_signature
        given = self.tf.nest.flatten((positional, by_name))
        tensors = [value for value in given if isinstance(value, self.tf.TensorSpec)]
        self.inputs = [self._spec(spec.name or f"input_{i}", spec) for i, spec in enumerate(tensors)]
        outputs = traced[0].structured_outputs
        count = len(self.tf.nest.flatten(outputs))
        self.outputs = sorted(outputs) if isinstance(outputs, dict) else [f"output_{i}" for i in range(count)]
        self.function = traced[0]

    def _structure(self, side: str) -> Any:
        """What the model takes or returns, nested as it is; None for a Sequential, which Keras 3 does not ask that."""
        try:
            return getattr(self.model, side)
        except AttributeError:
            return None

    def _input_names(self) -> list[str]:
        names = getattr(self.model, "input_names", None) or [t.name for t in self.model.inputs]
        return [str(name).partition(":")[0] for name in names]

    def _output_names(self) -> list[str]:
        names = [str(name) for name in getattr(self.model, "output_names", [])]
        return (
            names if len(names) == len(self.model.outputs) else [f"output_{i}" for i in range(len(self.model.outputs))]
        )

    def _spec(self, name: str, tensor: Any) -> dict[str, Any]:
        return {"name": name, "shape": [*tensor.shape], "dtype": self.tf.as_dtype(tensor.dtype).name}

    def call(self, *tensors: Any) -> list[Any]:
        """The outputs for inputs in order."""
        if hasattr(self, "signature"):
            found = self.signature(**{spec["name"]: t for spec, t in zip(self.inputs, tensors, strict=True)})
            return [found[name] for name in self.outputs]
        if hasattr(self, "function"):
            result = self.function(*tensors)
        else:
            result = self.model(tensors[0] if len(tensors) == 1 else self._nested(tensors), training=False)
        if isinstance(result, dict):
            return [result[name] for name in self.outputs]
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _nested(self, tensors: Any) -> Any:
        given = self._structure("input")
        if isinstance(given, dict):
            return dict(zip(given, tensors, strict=True))
        return list(tensors)

    def convert(self, arrays: dict[str, Any]) -> bytes:
        """A float TFLite file for inputs of the arrays' shapes."""
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        tf = self.tf
        specs = [tf.TensorSpec(arrays[s["name"]].shape, s["dtype"], name=s["name"]) for s in self.inputs]
        # Frozen: the converter does not find the variables of Keras 3, and would leave them to be set at run time.
        function = convert_variables_to_constants_v2(tf.function(self.call).get_concrete_function(*specs))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
        return bytes(converter.convert())


def _load(tf: Any, path: str, safe_mode: bool) -> Any:
    """A Keras model, those of TensorFlow's model optimization toolkit included where it is installed.

    What pruning and clustering wrap around layers is taken off; what quantization-aware training does to ranges and
    weights is what the model computes, and stays.
    """
    try:
        if not os.environ.get(LEGACY):  # the toolkit works with Keras 2 alone
            raise ImportError
        import tensorflow_model_optimization as toolkit
    except ImportError:  # models without its layers load all the same
        return tf.keras.models.load_model(path, compile=False, safe_mode=safe_mode)
    with (
        toolkit.quantization.keras.quantize_scope(),
        toolkit.sparsity.keras.prune_scope(),
        toolkit.clustering.keras.cluster_scope(),
    ):
        try:
            model = tf.keras.models.load_model(path, compile=False, safe_mode=safe_mode)
        except ValueError as error:  # it builds some of its layers twice, and then misses variables
            if path.endswith(".keras") and _TOOLKIT in str(_config(path)):
                raise UnreadableError(str(error)) from error
            raise
    kinds = {type(layer).__name__ for layer in model.layers}
    if "PruneLowMagnitude" in kinds:
        model = toolkit.sparsity.keras.strip_pruning(model)
    if "ClusterWeights" in kinds:
        model = toolkit.clustering.keras.strip_clustering(model)
    return model


def without_dropout(model: Any) -> None:
    """Takes it off recurrent cells: Keras 3 draws their masks in inference, too, and counts up in a variable then."""
    for layer in model._flatten_layers():
        if hasattr(layer, "recurrent_dropout"):
            with contextlib.suppress(AttributeError):  # of the layer around a cell it can be read alone
                layer.dropout = layer.recurrent_dropout = 0.0


def answer(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """What one request asks for."""
    import numpy as np

    if request["do"] == "describe":
        return {"inputs": model.inputs, "outputs": model.outputs, "version": model.tf.__version__}
    with np.load(request["inputs"]) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if request["do"] == "convert":
        converted = _converted(model, arrays)
        with open(request["tflite"], "wb") as file:
            file.write(converted)
        return {}
    values = model.call(*(model.tf.constant(arrays[s["name"]], s["dtype"]) for s in model.inputs))
    np.savez(request["outputs"], **{f"v{i}": value.numpy() for i, value in enumerate(values)})
    return {}


class LackingError(Exception):
    """TFLite has no form of an op of TensorFlow's."""

    half = "It computes in half precision: save it with the policy float32, or give its .keras file."

    hint = "Write their layers with others: a pool over a volume, say, as one over two axes and one over the third."


def _converted(model: Model, arrays: dict[str, Any]) -> bytes:
    """The .tflite file.

    Raises:
        LackingError: naming the ops, where the converter says it in compiler's words.
    """
    try:
        return bytes(model.convert(arrays))
    except Exception as error:
        lacking = sorted(set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", str(error))))
        if not lacking:
            raise
        raised = LackingError(f"TFLite has no op for {', '.join(lacking)}")
        if any(op.startswith("LookupTable") for op in lacking):
            raised.hint = (
                "Look values up before the model: cut lookup layers off it, and give it the numbers they make."
            )
        if re.search(r"tensor<[\dx?*]*b?f16>", str(error)):
            raised.hint = LackingError.half
        raise raised from error


def main(path: str, trusted: str = "") -> None:
    """Answers requests until standard input ends."""
    if sys.platform == "linux":  # and in the middle of one, where the process that asks is killed
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what TensorFlow prints is no answer
    model = None
    for line in sys.stdin:
        try:
            if model is None:
                if is_legacy(path):
                    os.environ[LEGACY] = "1"
                if not trusted:
                    _UNTRUSTED["check_plain"](path)
                else:
                    _import_named(path)
                model = Model(path, bool(trusted))
            reply = answer(model, json.loads(line))
        except Exception as error:  # TensorFlow and Keras raise anything
            reply = {"error": f"{type(error).__name__}: {error}", "hint": getattr(error, "hint", "")}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
