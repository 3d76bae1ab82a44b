from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeqwt.converters.resolve import TorchObject, resolve
from edgeqwt.errors import InputError

FUNCTIONS = """
import torch

def module():
    return torch.nn.Linear(4, 3)

def with_examples():
    return torch.nn.Linear(4, 3), (torch.zeros(1, 4),)

def dictionary():
    return {"weight": torch.zeros(3)}

def broken():
    weights = {}
    return weights["linear"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "user_model.py"
    path.write_text(FUNCTIONS)
    return path


def test_functions_that_return_modules(file: Path) -> None:
    plain, exampled = resolve(f"{file}:module"), resolve(f"{file}:with_examples")
    assert isinstance(plain, TorchObject)
    assert plain.examples is None
    assert isinstance(exampled, TorchObject)
    assert isinstance(exampled.module, torch.nn.Linear)
    assert exampled.examples is not None


def test_a_module_itself() -> None:
    module = torch.nn.Linear(4, 3)
    found = resolve(module)
    assert isinstance(found, TorchObject)
    assert found.module is module
    assert found.what == "Linear"


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".tflite"])
def test_files_that_are_missing_or_folders(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    with pytest.raises(InputError, match="there is no file"):
        resolve(str(path))
    path.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        resolve(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("weights.pth", "holds weights, not the model"),
        ("model.py", "does not say which function"),
        ("model.keras", "is no source model"),
        ("nonsense", "is no source model"),
        (".", "is a folder, not a model"),
        (42, "gives int, not a torch.nn.Module"),
        ("missing.py:create", "there is no file missing.py"),
    ],
)
def test_what_is_no_source(source: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve(source)
    assert caught.value.hint


def test_a_function_that_returns_something_else(file: Path) -> None:
    with pytest.raises(InputError, match=r"user_model\.py:dictionary gives dict, not a torch\.nn\.Module"):
        resolve(f"{file}:dictionary")


def test_a_function_that_raises(file: Path) -> None:
    with pytest.raises(InputError, match=r"KeyError.*user_model\.py:15"):
        resolve(f"{file}:broken")
