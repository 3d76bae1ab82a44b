from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.converters.from_onnx import source as onnx_source
from edgeqwt.converters.from_onnx.source import OnnxRunner
from edgeqwt.converters.from_torch.source import check_parameters, export, flattened, from_module, from_program
from edgeqwt.errors import InputError
from tests import models

ROW = np.ones((1, 4), np.float32)


class Several(nn.Module):
    def forward(self, a: Tensor, b: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        return (a - b) * scale if mask is None else (a - b) * mask


class Positional(nn.Module):
    def forward(self, *args: Tensor) -> Tensor:
        return args[0] - args[1]


def test_inputs_are_in_forwards_order_and_bound_by_name() -> None:
    sample = {"mask": np.zeros((1, 4), np.float32), "b": 2 * ROW, "a": 5 * ROW}
    model = from_module("m", Several(), sample)
    assert [spec.name for spec in model.inputs] == ["a", "b", "mask"]
    assert not model.run(sample)["output"].any()
    without = {"b": 2 * ROW, "a": 5 * ROW}
    assert np.array_equal(from_module("m", Several(), without).run(without)["output"], 3 * ROW)


def test_inputs_by_position() -> None:
    sample = {"first": 5 * ROW, "second": 2 * ROW}
    assert np.array_equal(from_module("m", Positional(), sample).run(sample)["output"], 3 * ROW)


def test_a_nameless_sample_is_the_only_required_input() -> None:
    model = from_module("m", nn.Linear(4, 3), {"": np.ones((1, 4))})
    assert model.inputs == (InputSpec("input", (1, 4), "float32"),)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"": ROW}, "forward takes a, b, the samples have one array without a name"),
        ({"a": ROW}, "forward takes a, b, scale, mask; the samples have a$"),
        ({"a": ROW, "b": ROW, "c": ROW}, "the samples have a, b, c"),
    ],
)
def test_samples_that_do_not_fit_forward(sample: Sample, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_module("m", Several(), sample)


@pytest.mark.parametrize("examples", [torch.zeros(1, 12, dtype=torch.int64), (torch.zeros(1, 12).long(),)])
def test_example_inputs_give_the_types(examples: object) -> None:
    model = from_module("m", nn.Embedding(50, 4), {"": np.zeros((1, 12), np.uint8)}, examples)
    assert model.inputs[0].dtype == "int64"


def test_example_inputs_of_another_kind() -> None:
    with pytest.raises(InputError, match="the example inputs are str"):
        from_module("m", nn.Linear(4, 3), {"": ROW}, "nothing")


def test_the_module_is_put_into_evaluation_mode() -> None:
    module = nn.Sequential(nn.Dropout(0.5)).train()
    model = from_module("m", module, {"": ROW})
    assert np.array_equal(model.run({"input": ROW})["output"], ROW)


def test_nested_results_become_flat() -> None:
    one, two = torch.zeros(1), torch.ones(1)
    assert list(flattened(one, "m")) == ["output"]
    assert list(flattened((one, two), "m")) == ["output_0", "output_1"]
    assert list(flattened({"logits": one, "aux": [two, None, one]}, "m")) == ["logits", "aux_0", "aux_2"]
    with pytest.raises(InputError, match="forward returns str"):
        flattened({"x": "text"}, "m")
    with pytest.raises(InputError, match="returns no tensors"):
        flattened([], "m")


class Counter(nn.Module):
    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": x + h, "h": h + 1}


def test_outputs_that_have_the_name_of_an_input_are_exported(tmp_path: Path) -> None:
    """torch wrote the input as 'h.1', and the build ended in a KeyError."""
    sample = {"x": ROW, "h": ROW}
    model = from_module("m", Counter(), sample)
    assert list(model.run(sample)) == ["y", "h_out"]
    export(model, sample, tmp_path / "model.onnx", tmp_path / "log")
    written = onnx.load(tmp_path / "model.onnx").graph
    assert [value.name for value in (*written.input, *written.output)] == ["x", "h", "y", "h_out"]


@dataclass
class Heads:
    logits: torch.Tensor
    boxes: list[torch.Tensor]
    loss: torch.Tensor | None = None


def test_dataclasses_give_their_fields() -> None:
    one = torch.ones(1)
    assert list(flattened(Heads(one, [one, one]), "m")) == ["logits", "boxes_0", "boxes_1"]


def test_lazy_layers_without_values() -> None:
    with pytest.raises(InputError, match=r"^m: 0\.weight of a lazy layer has no shape and no values yet$"):
        check_parameters("m", torch.nn.Sequential(torch.nn.LazyLinear(2)))


def test_parameters_that_cannot_be_converted() -> None:
    module = models.seeded(models.SmallCnn)
    check_parameters("m", module)
    with torch.no_grad():
        module.pointwise.weight[3, 1] = float("nan")
    with pytest.raises(InputError, match=r"parameter pointwise\.weight has NaN"):
        check_parameters("m", module)
    with pytest.raises(InputError, match=r"is of type torch\.float16") as caught:
        check_parameters("m", nn.Linear(4, 3).half())
    assert ".float()" in caught.value.hint
    with pytest.raises(InputError, match="is on device meta"):
        check_parameters("m", nn.Linear(4, 3, device="meta"))


def test_masks_among_the_buffers_may_be_infinite() -> None:
    module = nn.Linear(4, 3)
    module.register_buffer("mask", torch.full((3,), -torch.inf))
    check_parameters("m", module)


def test_a_module_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "raising.py"
    path.write_text(
        "import torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x @ torch.zeros(7, 7)\n\n\ndef create():\n    return Model()\n"
    )
    from edgeqwt.converters.resolve import TorchObject, resolve

    found = resolve(f"{path}:create")
    assert isinstance(found, TorchObject)
    model = from_module(found.what, found.module, {"": ROW})
    with pytest.raises(InputError, match=r"forward raised RuntimeError.*raising\.py:6"):
        model.run({"x": ROW})


def test_what_torch_prints_goes_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Running(nn.Module):  # the first exporter does not know it, and prints the whole graph
        def forward(self, x: Tensor) -> Tensor:
            print("from the model")
            return torch.logcumsumexp(x, 1)

    sample = {"x": np.ones((1, 8), np.float32)}
    model = from_module("m", Running(), sample)
    capfd.readouterr()
    notes = export(model, sample, tmp_path / "model.onnx", tmp_path / "log")
    assert notes[0].startswith(
        "torch.onnx.export fell back on torch.export: Exporting the operator 'aten::logcumsumexp'"
    )
    printed = capfd.readouterr()
    assert "graph(" not in printed.out + printed.err
    assert "aten::logcumsumexp" in (tmp_path / "log").read_text()


def test_a_module_that_cannot_be_exported(tmp_path: Path) -> None:
    class Unexportable(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    sample = {"x": np.eye(3, dtype=np.float32)[None]}
    with pytest.raises(
        InputError,
        match=r"^m: torch\.onnx\.export fails: .*bessel_j0.*; by way of torch\.export: .*bessel_j0",
    ):
        export(from_module("m", Unexportable(), sample), sample, tmp_path / "model.onnx", tmp_path / "log")


def test_what_cannot_be_traced_is_named_with_its_line(tmp_path: Path) -> None:
    class Unexportable(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.complex(x, x).cosh().real

    line = Unexportable.forward.__code__.co_firstlineno + 1
    sample = {"x": np.eye(3, dtype=np.float32)[None]}
    with pytest.raises(InputError, match=rf"no 'cosh' .*\.real and \.imag \(.*test_source\.py:{line}\)"):
        export(from_module("m", Unexportable(), sample), sample, tmp_path / "model.onnx", tmp_path / "log")


def test_gradients_in_forward_are_refused_with_what_to_write(tmp_path: Path) -> None:
    class Force(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x.requires_grad_(True)
                return -torch.autograd.grad(self.energy(x).sum(), x)[0]

    sample = {"x": np.eye(3, dtype=np.float32)[:1]}
    with pytest.raises(InputError) as caught:
        export(from_module("m", Force(), sample), sample, tmp_path / "model.onnx", tmp_path / "log")
    assert caught.value.hint.startswith("forward computes gradients")


def test_files_that_are_no_exported_programs(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 3), (torch.zeros(1, 4),)), whole)
    cut, noise = tmp_path / "cut.pt2", tmp_path / "noise.pt2"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    noise.write_bytes(np.random.default_rng(0).bytes(1000))
    for path in (cut, noise):
        with pytest.raises(InputError, match="is not a readable exported program"):
            from_program(path, {"": ROW}, tmp_path / "log")


def test_an_exported_program_with_keyword_inputs(tmp_path: Path) -> None:
    path, sample = tmp_path / "model.pt2", {"a": 5 * ROW, "b": 2 * ROW}
    tensors = {name: torch.from_numpy(value) for name, value in sample.items()}
    torch.export.save(torch.export.export(Several(), (tensors["a"],), {"b": tensors["b"]}), path)
    model = from_program(path, sample, tmp_path / "log")
    assert np.array_equal(model.run(sample)["output"], 3 * ROW)


def test_weights_of_parametrizations_are_constants(tmp_path: Path) -> None:
    """An orthogonal layer's weight is a matrix's exponential, which no ONNX file computes."""
    layer = torch.nn.utils.parametrizations.orthogonal(nn.Linear(8, 8)).eval()
    sample = {"input": np.eye(8, dtype=np.float32)}
    model = from_module("m", layer, sample)
    assert export(model, sample, tmp_path / "model.onnx", tmp_path / "log") == ()
    (found,) = OnnxRunner(onnx_source.load(tmp_path / "model.onnx")).run(sample).values()
    np.testing.assert_allclose(found, model.run(sample)["output"], rtol=0, atol=1e-6)  # 8 terms up to 1


@pytest.mark.filterwarnings("ignore")  # torch, on its own quantization
def test_dynamic_quantization_is_refused_with_what_to_give() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    packed = torch.ao.quantization.quantize_dynamic(module, {nn.Linear})
    with pytest.raises(InputError, match=r"^m: 1 is a layer of dynamic quantization, Linear$") as caught:
        from_module("m", packed, {"input": np.zeros((1, 4), np.float32)})
    assert "before quantize_dynamic" in caught.value.hint


def test_a_dict_of_tensors_is_refused_with_a_module_that_takes_them() -> None:
    class OfDict(nn.Module):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return batch["a"] + batch["b"]

    with pytest.raises(InputError, match="takes batch; the samples have a, b") as caught:
        from_module("m", OfDict(), {"a": ROW, "b": ROW})
    assert "def forward(self, a, b): return self.model({'a': a, 'b': b})" in caught.value.hint
