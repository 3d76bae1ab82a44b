"""What the user named as the source model."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeqwt.converters.from_keras import source as keras_source
from edgeqwt.converters.from_torch.pickled import pickled_class
from edgeqwt.converters.from_torch.untrusted import check_torchscript
from edgeqwt.errors import InputError
from edgeqwt.loading import calling, load_callable
from edgeqwt.regular_files import of_its_kind, regular

if TYPE_CHECKING:
    import torch

FILES = (".pt2", ".onnx", ".tflite")
TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript", ".jit", ".ptl")
FORMS = (
    "Give file.py:function, package.module:function, or a .pt2, .onnx, .keras, .h5, .tflite or TorchScript file, "
    "or a SavedModel."
)
NOT_MODELS = {
    ".pt": "it holds weights, or a pickled module",
    ".pth": "it holds weights, not the model",
    ".th": "it holds weights, not the model",
    ".ckpt": "it holds weights, not the model",
    ".safetensors": "it holds weights, not the model",
}
DATA = (".npz", ".npy", ".csv", ".jpg", ".jpeg", ".png", ".wav")


@dataclass(frozen=True, eq=False)
class TorchObject:
    """A module that the user's function returned, or the user gave.

    Attributes:
        what: how messages name it.
        module: as the user made it.
        examples: the example inputs that came with it, or None.
        notes: sentences on what was done to the module.
    """

    what: str
    module: torch.nn.Module
    examples: object = None
    notes: tuple[str, ...] = ()


def resolve(source: object) -> TorchObject | Path:
    """The module, or the file of a known kind, that a source stands for.

    Raises:
        InputError: it is neither; the user's function is missing, raises, or returns something else.
    """
    if isinstance(source, TorchObject):
        return source
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        path = Path(os.fsdecode(text))
        if path.suffix in (*FILES, *keras_source.FILES):
            return _existing(path)
        if keras_source.is_saved_model(path):
            return path
        if path.suffix in TORCHSCRIPT and is_torchscript(path):
            return TorchObject(str(path), load_torchscript(path))
        if isinstance(source, str) and ":" in source:
            return _made(source, load_callable(source, "source model"))
        raise _not_a_source(path)
    name = getattr(source, "__qualname__", None) or type(source).__name__
    return _made(name, source) if callable(source) else _as_module(name, source)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: such have the module's code beside its weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def scripted(source: object) -> TorchObject | None:
    """A source that is TorchScript, a file or a module; None of others, which are not looked at any further."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(os.fspath(source)))
        if path.suffix not in TORCHSCRIPT or not is_torchscript(path):
            return None
    elif "torch" not in sys.modules or not isinstance(source, sys.modules["torch"].jit.ScriptModule):
        return None
    found = resolve(source)
    return found if isinstance(found, TorchObject) else None


def load_torchscript(path: Path) -> torch.nn.Module:
    """The module of a TorchScript file; its code runs in torch's own interpreter, which is not Python.

    Raises:
        InputError: torch cannot read it.
    """
    import torch

    check_torchscript(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have torch.export
            module: torch.nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
            return module
    except Exception as error:  # torch raises RuntimeError, zipfile's and unpickling errors
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path} is not a readable TorchScript file: {reason}", "Save it with torch.jit.save."
        ) from error


MOST_NAMED = 3
KERAS = "Save it with model.save('model.keras'), and give that file."
JAX = "Write it as a SavedModel with jax2tf, and give that folder."
TREES = "Trees and neighbours have no ops in TFLite: train a network on their answers, and give that."
SAVED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("keras", "tf_keras", "tensorflow"), KERAS),
        "onnx": "Save it with onnx.save(model, 'model.onnx'), and give that file.",
        "onnxruntime": "Give the .onnx file that the session was made of.",
        "sklearn": "Write it as ONNX with skl2onnx (to_onnx(model, samples[:1], options={'zipmap': False})), and give "
        "that file; trees and neighbours have no ops in TFLite.",
        **dict.fromkeys(("xgboost", "lightgbm", "catboost"), TREES),
        **dict.fromkeys(("jax", "jaxlib", "flax", "equinox"), JAX),
    }
)
"""What to do with what other packages make, by the package."""


def _made(what: str, maker: Callable[..., object]) -> TorchObject:
    """The module that a user's function or class makes; a module itself is one, though it can be called."""
    import torch

    if isinstance(maker, torch.nn.Module):
        return TorchObject(what, _unwrapped(maker))
    needed = _needed(maker)
    if needed:
        kind = "class" if isinstance(maker, type) else "function"
        raise InputError(
            f"{what}: the {kind} needs arguments: {', '.join(needed)}",
            "Write a function without parameters that makes the module, and name that.",
        )
    return _as_module(what, calling(maker, f"source model {what}")())


def _needed(maker: Callable[..., object]) -> list[str]:
    """Parameters that have no default."""
    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):  # what is built in may have no signature
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in variadic]


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Without what training wraps around a module: torch.compile, DataParallel."""
    import torch

    inner = getattr(module, "_orig_mod", None)
    if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        inner = module.module
    return _unwrapped(inner) if isinstance(inner, torch.nn.Module) else module


def _existing(path: Path) -> Path:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a {path.suffix} file", "Name the model file inside it.")
    if not path.exists():
        raise InputError(f"there is no file {path}", "Check the path; it is relative to the working folder.")
    return of_its_kind(regular(path))


def _not_a_source(path: Path) -> InputError:
    if path.suffix in NOT_MODELS:
        return _weights(of_its_kind(path))
    if path.suffix == ".py":
        return InputError(f"{path} does not say which function makes the model", f"Give {path}:function.")
    if path.suffix in DATA:
        return InputError(
            f"{path} holds data, not a model", f"Samples are given by --calibration {path}, the model first. {FORMS}"
        )
    if path.is_dir():
        return InputError(f"{path} is a folder, not a model", FORMS)
    if not path.exists() and ":" not in str(path):
        return InputError(f"there is no file {path}", FORMS)
    return InputError(f"{path} is no source model that edgeqwt knows", FORMS)


def _weights(path: Path) -> InputError:
    """Of a file that torch.save wrote: weights, or a module whose Python code lies elsewhere."""
    kind = pickled_class(path)
    if kind is None:
        lightning = f" (of Lightning: `return Net.load_from_checkpoint('{path}', map_location='cpu')`)"
        return InputError(
            f"{path} is no model that can be run: {NOT_MODELS[path.suffix]}",
            "Write a function that makes the module and loads the weights"
            f"{lightning if path.suffix == '.ckpt' else ''}, and give file.py:function.",
        )
    module, _, name = kind.rpartition(".")
    found = f", after import __main__; __main__.{name} = {name}" if module == "__main__" else ""
    return InputError(
        f"{path} holds a pickled module, {kind}: the file has not its code, and loading it can run any other",
        f"Where you trust it, write a function, beside the code of {name}, that returns "
        f"torch.load('{path}', map_location='cpu', weights_only=False), or the module in what that gives{found}; "
        "and give file.py:function. Or save it as ONNX, or with torch.jit.script, where it was made.",
    )


def _as_module(what: str, result: object) -> TorchObject:
    import torch

    if isinstance(result, torch.nn.Module):
        return TorchObject(what, _unwrapped(result))
    if isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[0], torch.nn.Module):
        return TorchObject(what, _unwrapped(result[0]), result[1])
    if result is None and what == type(None).__name__:
        raise InputError("None was given as the model", FORMS)
    raise InputError(f"{what} gives {type(result).__name__}, not a torch.nn.Module", _way_out(result))


def _way_out(result: object) -> str:
    """What to return in place of what is no module."""
    if inside := _modules_in(result):
        return f"It holds {'one' if len(inside) == 1 else 'several'}: return {' or '.join(inside)} of it."
    if isinstance(result, Mapping):
        return "Weights alone do not say what to compute: make the module, call load_state_dict, and return it."
    if isinstance(result, Iterator) or hasattr(result, "__array__"):
        return "The model comes first; samples are given by --calibration."
    if callable(result) and _of(result) not in SAVED:
        return "Return the module itself: call what is returned now, if that makes it."
    return SAVED.get(_of(result), "Return the module itself, or the module and its example inputs.")


def _of(value: object) -> str:
    """The package that defines an object, or its class."""
    return str(getattr(value if isinstance(value, type) else type(value), "__module__", "")).split(".")[0]


def _modules_in(result: object) -> list[str]:
    """How torch modules are reached that an object holds, as trainers, pipelines and checkpoints do."""
    import torch

    if isinstance(result, Mapping):
        held = {f"[{key!r}]": value for key, value in result.items()}
    elif isinstance(result, list | tuple):
        held = {f"[{k}]": value for k, value in enumerate(result)}
    else:
        held = {f".{name}": value for name, value in getattr(result, "__dict__", {}).items() if name[0] != "_"}
        with contextlib.suppress(Exception):  # a property, which may raise anything
            held[".model"] = result.model  # type: ignore[attr-defined]
    return [way for way, value in held.items() if isinstance(value, torch.nn.Module)][:MOST_NAMED]
