from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeqwt.converters.from_torch.source import from_module
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

class Net(torch.nn.Linear):
    def __init__(self, size=4):
        super().__init__(size, 3)

class Sized(torch.nn.Linear):
    def __init__(self, size):
        super().__init__(size, 3)

net = Net()
compiled = torch.nn.DataParallel(net)

def sized(size):
    return Net(size)

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
        ("model.mlmodel", "there is no file model.mlmodel"),
        ("nonsense", "there is no file nonsense"),
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
    with pytest.raises(InputError, match=r"user_model\.py:dictionary gives dict, not a torch\.nn\.Module") as caught:
        resolve(f"{file}:dictionary")
    assert "load_state_dict" in caught.value.hint


class Trainer:
    def __init__(self) -> None:
        self.module_, self.rate = torch.nn.Linear(4, 3), 0.1


class Pipeline:
    @property
    def model(self) -> torch.nn.Module:
        return torch.nn.Linear(4, 3)


@pytest.mark.parametrize(
    ("result", "way"),
    [
        (Trainer(), r"It holds one: return \.module_ of it"),
        (Pipeline(), r"return \.model of it"),
        ({"epoch": 3, "model": torch.nn.Linear(4, 3)}, r"return \['model'\] of it"),
        ([torch.nn.Linear(4, 3)] * 2 + [None], r"It holds several: return \[0\] or \[1\] of it"),
        (torch.nn.Linear, "call what is returned"),
        (type("Forest", (), {"__module__": "sklearn.ensemble"})(), "skl2onnx"),
        (type("Functional", (), {"__module__": "keras.src.models"})(), r"model\.keras"),
    ],
)
def test_what_holds_a_module_or_is_of_another_package(result: object, way: str) -> None:
    with pytest.raises(InputError, match=r"gives \w+, not a torch\.nn\.Module") as caught:
        resolve(lambda: result)
    assert re.search(way, caught.value.hint or "")


@pytest.mark.parametrize("samples", [(x for x in "ab"), np.zeros((4, 3)), torch.zeros(4, 3)])
def test_samples_in_the_models_place(samples: object) -> None:
    with pytest.raises(InputError, match=r"not a torch\.nn\.Module") as caught:
        resolve(lambda: samples)
    assert "samples are given by --calibration" in caught.value.hint


def test_a_function_that_raises(file: Path) -> None:
    with pytest.raises(InputError, match=r"KeyError.*user_model\.py:29"):
        resolve(f"{file}:broken")


@pytest.mark.parametrize("name", ["Net", "net", "compiled"])
def test_classes_and_modules_themselves(name: str, file: Path) -> None:
    found = resolve(f"{file}:{name}")
    assert isinstance(found, TorchObject)
    assert type(found.module).__name__ == "Net"


@pytest.mark.parametrize("name", ["Sized", "sized"])
def test_what_needs_arguments(name: str, file: Path) -> None:
    with pytest.raises(InputError, match="needs arguments: size") as caught:
        resolve(f"{file}:{name}")
    assert "without parameters" in caught.value.hint


def test_a_function_or_class_given_in_python() -> None:
    for maker in (lambda: torch.nn.Linear(4, 3), torch.nn.Identity):
        found = resolve(maker)
        assert isinstance(found, TorchObject)
        assert isinstance(found.module, torch.nn.Module)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit")
def test_torchscript_files(tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 3)
    sample = {"input": np.ones((1, 4), np.float32)}
    wanted = module(torch.ones(1, 4)).detach().numpy()
    for name, scripted in (
        ("scripted.pt", torch.jit.script(module)),
        ("traced.pth", torch.jit.trace(module, torch.zeros(1, 4))),
        ("frozen.ts", torch.jit.freeze(torch.jit.script(module.eval()))),
    ):
        torch.jit.save(scripted, tmp_path / name)
        found = resolve(str(tmp_path / name))
        assert isinstance(found, TorchObject)
        (output,) = from_module(name, found.module, sample).run(sample).values()
        # The same product and sum in another order: 4 terms below 1, 2^-24 each.
        assert np.abs(output - wanted).max() < 4 * 2**-24 * 4


class Mine(torch.nn.Linear):
    """A class of somebody's own."""


def test_pickled_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(Mine(4, 3), tmp_path / "whole.pth")
    with pytest.raises(InputError, match=rf"holds a pickled module, {re.escape(__name__)}\.Mine") as caught:
        resolve(tmp_path / "whole.pth")
    assert f"torch.load('{tmp_path / 'whole.pth'}', map_location='cpu', weights_only=False)" in caught.value.hint
    torch.save({"epoch": 3, "model": torch.nn.Sequential(torch.nn.Linear(4, 3))}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.container\.Sequential"):
        resolve(tmp_path / "checkpoint.pt")
    monkeypatch.setattr(Mine, "__module__", "__main__")  # as of a script that trained and saved it
    monkeypatch.setattr(sys.modules["__main__"], "Mine", Mine, raising=False)
    torch.save(Mine(4, 3), tmp_path / "script.pth")
    with pytest.raises(InputError, match=r"__main__\.Mine") as caught:
        resolve(tmp_path / "script.pth")
    assert "after import __main__; __main__.Mine = Mine" in caught.value.hint


def test_files_of_weights_and_broken_torchscript(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(4, 3).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match="holds weights"):
        resolve(tmp_path / "weights.pt")
    with zipfile.ZipFile(tmp_path / "broken.pt", "w") as archive:
        archive.writestr("broken/code/x.py", "")
    with pytest.raises(InputError, match="not a readable TorchScript file"):
        resolve(tmp_path / "broken.pt")
