"""Half precision and float64: modules, what their forward casts to, programs and TorchScript compute in float32."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeqwt.converters.from_onnx.source import OnnxRunner, load
from edgeqwt.converters.from_torch.float32 import types_of
from edgeqwt.converters.from_torch.source import export, from_module, from_program
from edgeqwt.converters.resolve import load_torchscript
from edgeqwt.errors import InputError
from tests import models

pytestmark = pytest.mark.requires("torch", "onnx", "onnxruntime")
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
HALF = [torch.float16, torch.bfloat16]


class Casting(nn.Module):
    """A layer between casts; `cast` is how forward spells the first."""

    def __init__(self, cast: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.cast = cast

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.cast(x))


def wanted(module: Casting) -> np.ndarray:
    """What the layer computes in float64 with the weights that it holds."""
    weight, bias = (p.detach().to(torch.float64).numpy() for p in (module.layer.weight, module.layer.bias))
    return X.astype(np.float64) @ weight.T + bias


@pytest.mark.parametrize("kind", [*HALF, torch.float64])
def test_a_cast_to_the_type_of_the_weights_in_every_spelling(kind: torch.dtype) -> None:
    own = {torch.float16: "half", torch.bfloat16: "bfloat16", torch.float64: "double"}[kind]
    spellings = (
        lambda x: getattr(x, own)(),
        lambda x: x.to(kind),
        lambda x: x.to(dtype=kind),
        lambda x: x.to("cpu", kind),
        lambda x: x.type(kind),
        lambda x: x * torch.ones(4, dtype=kind) if kind == torch.float64 else x.to(torch.ones(4, dtype=kind)),
    )
    for cast in spellings:
        module = models.seeded(lambda cast=cast: Casting(cast)).to(kind)
        model = from_module("m", module, {"x": X})
        (got,) = model.run({"x": X}).values()
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted(module), atol=1e-6)  # products of 4 float32s below 1
        assert model.inputs[0].dtype == "float32"
        assert model.notes == (f"The source's {str(kind).removeprefix('torch.')} is computed in float32.",)
        assert module.layer.weight.dtype == kind  # the one that was given


def test_example_inputs_in_half_precision() -> None:
    model = from_module("m", models.seeded(Casting).half(), {"": X}, torch.zeros(2, 4, dtype=torch.float16))
    assert model.inputs[0].dtype == "float32"


@pytest.mark.parametrize("kind", HALF)
def test_casts_and_autocast_in_a_module_of_float32(kind: torch.dtype, tmp_path: Path) -> None:
    class Auto(Casting):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=kind):
                return super().forward(x)

    for module in (models.seeded(lambda: Casting(lambda x: x.to(kind).float())), models.seeded(Auto)):
        model = from_module("m", module, {"x": X})
        (got,) = model.run({"x": X}).values()
        np.testing.assert_allclose(got, wanted(module), atol=1e-6)
        export(model, {"x": X}, tmp_path / "m.onnx", tmp_path / "log")
        (again,) = OnnxRunner(load(tmp_path / "m.onnx")).run({"x": X}).values()
        np.testing.assert_allclose(again, got, atol=1e-6)
        assert not model.notes


def test_float64_stays_where_no_weights_are_float64() -> None:
    # In float32, 1e8 + 1 is 1e8, and the difference is 0.
    module = models.seeded(lambda: Casting(lambda x: ((x * 0 + 1e8).double() + 1 - 1e8).float()))
    (got,) = from_module("m", module, {"x": X}).run({"x": X}).values()
    one = module.layer.weight.sum(1) + module.layer.bias
    np.testing.assert_allclose(got, one.detach().numpy()[None].repeat(2, 0), atol=1e-6)
    assert torch.float64 not in types_of(module).kinds


class Half(Casting):
    """Casts in a form that TorchScript compiles."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x.half())
        return (y * torch.ones(3, dtype=torch.float16)).float()


@pytest.mark.parametrize("how", ["program", "traced", "scripted"])
def test_files(how: str, tmp_path: Path) -> None:
    module, path = models.seeded(Half).half().eval(), tmp_path / "m"
    del module.cast  # nothing that TorchScript compiles
    if how == "program":
        torch.export.save(torch.export.export(module, (torch.tensor(X),)), path)
        model = from_program(path, {"x": X}, tmp_path / "log")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made = torch.jit.trace(module, torch.tensor(X)) if how == "traced" else torch.jit.script(module)
            torch.jit.save(made, path)
        model = from_module("m", load_torchscript(path), {"x": X})
    (got,) = model.run({"x": X}).values()
    np.testing.assert_allclose(got, wanted(module), atol=1e-6)
    export(model, {"x": X}, tmp_path / "m.onnx", tmp_path / "log")
    (again,) = OnnxRunner(load(tmp_path / "m.onnx")).run({"x": X}).values()
    np.testing.assert_allclose(again, got, atol=1e-6)


def test_what_cannot_be_copied() -> None:
    class Sealed(nn.Linear):
        def __deepcopy__(self, memo: object) -> Sealed:
            raise RuntimeError("one of a kind")

    with pytest.raises(InputError, match=r"holds float16, and cannot be copied: one of a kind") as caught:
        from_module("m", Sealed(4, 3).half(), {"": X})
    assert ".float()" in caught.value.hint
