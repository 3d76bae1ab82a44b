"""What the user named as the source model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeqwt.errors import InputError
from edgeqwt.loading import calling, load_callable

if TYPE_CHECKING:
    import torch

FILES = (".pt2", ".onnx", ".tflite")
FORMS = "Give file.py:function, package.module:function, or a .pt2, .onnx or .tflite file."
NOT_MODELS = {
    ".pt": "it may hold weights only",
    ".pth": "it holds weights, not the model",
    ".th": "it holds weights, not the model",
    ".ckpt": "it holds weights, not the model",
    ".safetensors": "it holds weights, not the model",
}


@dataclass(frozen=True, eq=False)
class TorchObject:
    """A module that the user's function returned, or the user gave.

    Attributes:
        what: how messages name it.
        module: as the user made it.
        examples: the example inputs that came with it, or None.
    """

    what: str
    module: torch.nn.Module
    examples: object = None


def resolve(source: object) -> TorchObject | Path:
    """The module, or the file of a known kind, that a source stands for.

    Raises:
        InputError: it is neither; the user's function is missing, raises, or returns something else.
    """
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        path = Path(os.fsdecode(text))
        if path.suffix in FILES:
            return _existing(path)
        if isinstance(source, str) and ":" in source:
            function = load_callable(source, "source model")
            return _as_module(source, calling(function, f"source model {source}")())
        raise _not_a_source(path)
    return _as_module(type(source).__name__, source)


def _existing(path: Path) -> Path:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a {path.suffix} file", "Name the model file inside it.")
    if not path.exists():
        raise InputError(f"there is no file {path}", "Check the path; it is relative to the working folder.")
    return path


def _not_a_source(path: Path) -> InputError:
    if path.suffix in NOT_MODELS:
        return InputError(
            f"{path} is no model that can be run: {NOT_MODELS[path.suffix]}",
            "Write a function that makes the module and loads the weights, and give file.py:function.",
        )
    if path.suffix == ".py":
        return InputError(f"{path} does not say which function makes the model", f"Give {path}:function.")
    if path.is_dir():
        return InputError(f"{path} is a folder, not a model", FORMS)
    return InputError(f"{path} is no source model that edgeqwt knows", FORMS)


def _as_module(what: str, result: object) -> TorchObject:
    import torch

    if isinstance(result, torch.nn.Module):
        return TorchObject(what, result)
    if isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[0], torch.nn.Module):
        return TorchObject(what, result[0], result[1])
    raise InputError(
        f"{what} gives {type(result).__name__}, not a torch.nn.Module",
        "Return the module itself, or the module and its example inputs.",
    )
