from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.calibration.validate import named
from edgeqwt.converted import ConvertedModel
from edgeqwt.converters import convert
from edgeqwt.converters import trace as tracing
from edgeqwt.converters.exported import check_export
from edgeqwt.errors import InputError, ParityError, UnsupportedError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.verify.parity import check_parity
from tests import models

RESNET = Path(__file__).parents[2] / "benchmarks" / "models" / "resnet20_cifar10.py"
# float32 sums in another order: sqrt(n)·2^-24 relative for n terms; n is at most 10^4 in the small models,
# whose error is therefore below 1e-5. A wrong layout or op gives an error of about 1.
CLOSE = 1e-5


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def activations(graph: Graph, feeds: Mapping[int, Array]) -> dict[int, Array]:
    return dict(xnnpack(graph, [t for op in graph.ops for t in op.outputs]).run(feeds))


def outputs(model: ConvertedModel, samples: Iterable[Sample]) -> Iterator[tuple[str, Array, Array]]:
    """Name, value of the source and value of the graph, both in the source's layout, of every sample."""
    runner = xnnpack(model.graph)
    for sample in samples:
        values, expected = runner.run(model.graph_inputs(sample)), model.run_source(sample)
        assert list(expected) == [b.spec.name for b in model.outputs]
        for binding in model.outputs:
            wanted = expected[binding.spec.name]
            yield binding.spec.name, wanted, binding.to_source(values[binding.tensor]).reshape(wanted.shape)


def error(value: Array, expected: Array) -> float:
    return float(np.abs(value - expected).max() / np.abs(expected).max())


def first_divergence(graph: Graph, values: Mapping[int, Array], traced: Mapping[str, Array]) -> str | None:
    """As the parity gate finds it: the first op whose output is not what the source has there."""
    for i, op in enumerate(graph.ops):
        for t in op.outputs:
            expected = traced.get(graph.tensors[t].name)
            if expected is not None and error(values[t], expected) > 1e-3:
                return graph.describe(i)
    return None


# -- the real model --------------------------------------------------------------------


@pytest.fixture(scope="module")
def cifar(cifar10: Mapping[str, Array]) -> Samples:
    pixels = cifar10["test_images"][:50].astype(np.float32) / 255
    normalized = (pixels - np.float32(models.MEAN)) / np.float32(models.STD)
    return from_arrays({"": normalized.transpose(0, 3, 1, 2)})


@pytest.fixture(scope="module")
def resnet(cifar: Samples, tmp_path_factory: pytest.TempPathFactory) -> ConvertedModel:
    return convert(f"{RESNET}:create", cifar, tmp_path_factory.mktemp("resnet"))


def test_resnet20_computes_what_pytorch_computes(resnet: ConvertedModel, cifar: Samples) -> None:
    for _, expected, found in outputs(resnet, named(cifar, ["x"])):
        # 20 layers; logits up to 20. Measured: 1.8e-5.
        assert np.abs(found - expected).max() <= 1e-4


def test_resnet20_is_described_in_the_terms_of_the_source(resnet: ConvertedModel) -> None:
    assert [b.spec.name for b in resnet.inputs] == ["x"]
    assert [b.permutation for b in resnet.inputs] == [(0, 2, 3, 1)]
    assert resnet.notes == ("input 'x' (1, 3, 32, 32) NCHW became (1, 32, 32, 3) NHWC",)
    assert set(resnet.versions) == {"torch", "onnx", "onnxruntime", "onnx2tf"}
    assert resnet.log is not None
    assert "flatbuffer_direct fast path started" in resnet.log.read_text()
    kinds = {resnet.locations[resnet.graph.tensors[op.outputs[0]].name]: op.kind for op in resnet.graph.ops}
    assert kinds["layer1.0.conv1"] == "CONV_2D"
    assert kinds["layer3.2.conv2"] == "CONV_2D"
    assert kinds["linear"] == "FULLY_CONNECTED"
    assert kinds["layer1.0 (Add)"] == "ADD"
    assert kinds["layer2.0.conv1 (PAD)"] == "PAD"
    assert all(resnet.graph.tensors[op.outputs[0]].name in resnet.locations for op in resnet.graph.ops)
    assert "reduced_precision_support" not in resnet.graph.metadata


def test_nothing_diverges_in_a_right_conversion(resnet: ConvertedModel, cifar: Samples) -> None:
    assert resnet.trace_source is not None
    sample = {"x": cifar.first()[""]}
    traced = resnet.trace_source(sample)
    values = activations(resnet.graph, resnet.graph_inputs(sample))
    assert first_divergence(resnet.graph, values, traced) is None
    # All but the explicit padding before the two strided convolutions.
    assert len(traced) == len(resnet.graph.ops) - 2


@pytest.mark.parametrize(("victim", "kind"), [(3, "ADD"), (7, "CONV_2D"), (26, "CONV_2D"), (40, "FULLY_CONNECTED")])
def test_a_corrupted_op_is_found(resnet: ConvertedModel, cifar: Samples, victim: int, kind: str) -> None:
    assert resnet.trace_source is not None
    graph, sample = resnet.graph, {"x": cifar.first()[""]}
    op = graph.ops[victim]
    assert op.kind == kind
    if kind == "ADD":
        corrupted = graph.with_ops({victim: op.with_options(fusedActivationFunction="NONE")})
    else:
        weights = graph.tensors[op.inputs[1]]
        assert weights.data is not None
        corrupted = graph.with_tensors({op.inputs[1]: replace(weights, data=weights.data[::-1].copy())})
    source = {f"value {i}": value for i, value in enumerate(resnet.trace_source(sample).values())}
    values = activations(corrupted, resnet.graph_inputs(sample))
    traced = tracing.align(corrupted, values, source, {})
    assert first_divergence(corrupted, values, traced) == corrupted.describe(victim)


@pytest.mark.skipif("EDGEQWT_TF_PYTHON" not in os.environ, reason="EDGEQWT_TF_PYTHON names no Python with TensorFlow")
def test_tensorflows_wrong_shortcut_is_found(cifar: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQWT_TENSORFLOW_PYTHON", os.environ["EDGEQWT_TF_PYTHON"])
    model = convert(f"{RESNET}:create", cifar, tmp_path, converter="tensorflow")
    # The zero padding of the channels, which went to another axis at 16x16x16.
    with pytest.raises(ParityError, match=r"PAD #\d+ -> '[^']*/layer2\.0/Pad' is the first op"):
        check_parity(model, model.graph, named(cifar, ["x"]))


# -- what modules may look like ----------------------------------------------------------


def test_a_conversion_that_goes_wrong_is_stopped_at_its_op(tmp_path: Path) -> None:
    samples = from_arrays({"x": normal(2, 8, 8, 8)})
    model = convert(models.seeded(models.Residual), samples, tmp_path)
    wrong = [error(found, expected) for _, expected, found in outputs(model, samples.head(1))]
    assert wrong[0] > 0.1, "onnx2tf converts it rightly now: find another model for this test"
    with pytest.raises(ParityError, match=r"ADD #2 -> 'output' \(in the source: forward \(Add\)\) is the first op"):
        check_parity(model, model.graph, samples)


def test_token_ids_become_int32(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 50, (4, 12))
    model = convert(models.seeded(models.TokenClassifier), from_arrays({"ids": ids}), tmp_path)
    assert model.inputs[0].spec.dtype == "int64"
    for _, expected, found in outputs(model, from_arrays({"ids": ids})):
        assert error(found, expected) < CLOSE
    assert model.graph.tensors[model.inputs[0].tensor].dtype == "int32"
    assert model.notes == ("input 'ids' int64 became int32",)


def test_inputs_and_outputs_keep_their_names_and_order(tmp_path: Path) -> None:
    samples = from_arrays({"gains": normal(3, 6), "image": normal(3, 4, 8, 8)})
    model = convert(models.seeded(models.TwoInputs), samples, tmp_path)
    assert [b.spec.name for b in model.inputs] == ["image", "gains"]
    assert [b.spec.name for b in model.outputs] == ["map", "mean"]
    for _, expected, found in outputs(model, samples):
        assert error(found, expected) < CLOSE


def test_a_branch_that_the_export_froze_is_blamed_on_the_export(tmp_path: Path) -> None:
    up, down = np.ones((1, 4), np.float32), -np.ones((1, 4), np.float32)
    model = convert(models.seeded(models.Branching), from_arrays({"x": np.concatenate([up, down])}), tmp_path)
    check_parity(model, model.graph, [{"x": up}])
    with pytest.raises(ParityError, match=r"torch\.onnx\.export changed the model") as caught:
        check_parity(model, model.graph, [{"x": up}, {"x": down}])
    assert "Branches" in caught.value.hint


def test_exports_are_compared_with_their_source() -> None:
    x = np.array([[1, 20, -np.inf]], np.float32)
    check_export("m", {"y": x}, {"y": x + np.float32([1e-3, 0, 0])})
    with pytest.raises(ParityError, match="output 'y' differs by 1, with values up to 20"):
        check_export("m", {"y": x}, {"y": x + 1})
    with pytest.raises(ParityError, match=r"shape \(1, 2\) instead of \(1, 3\)"):
        check_export("m", {"y": x}, {"y": x[:, :2]})
    with pytest.raises(ParityError, match="output 'y' differs by inf"):
        check_export("m", {"y": x}, {"y": np.zeros_like(x)})
    with pytest.raises(InputError, match="output 'y' is NaN"):
        check_export("m", {"y": x * np.nan}, {"y": x})


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_an_op_without_tflite_form_is_refused_with_its_place(tmp_path: Path) -> None:
    class Determinant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.det(x)

    with pytest.raises(UnsupportedError, match=r"forward \(Det\)"):
        convert(torch.jit.trace(Determinant(), torch.eye(4)[None]), from_arrays({"x": normal(1, 4, 4)}), tmp_path)


def test_what_onnxsim_optimizes_wrongly_is_simplified_without(tmp_path: Path) -> None:
    """Its passes end on computed positions beside an expanded mask; without its shapes onnx2tf wrote shapes of 1."""

    class Biased(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Embedding(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            places = torch.arange(x.shape[1])
            apart = (places[None] - places[:, None]).abs()
            far = torch.min(4 + (torch.log(apart.float() / 2)).to(torch.long), torch.full_like(apart, 7))
            bias = self.bias(torch.where(apart < 2, apart, far)).permute(2, 0, 1)[None]
            heads = x.view(x.shape[0], x.shape[1], 2, 8).transpose(1, 2)
            mask = bias.expand(x.shape[0], -1, -1, -1)
            found = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=mask)
            return found.transpose(1, 2).flatten(2)

    samples = from_arrays({"x": normal(3, 10, 16)})
    model = convert(models.seeded(Biased), samples, tmp_path, converter="onnx2tf")
    for name, wanted, value in outputs(model, samples):
        assert error(value, wanted) < CLOSE, name


def test_sizes_that_depend_on_values_are_refused_with_what_to_write(tmp_path: Path) -> None:
    class Chosen(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x > 0].sum() + x.mean()

    with pytest.raises(UnsupportedError, match=r"how many positions it gives .*x\[mask\]") as caught:
        convert(Chosen(), from_arrays({"x": normal(4, 8)}), tmp_path, converter="onnx2tf")
    assert "multiply them with the mask" in caught.value.hint


def test_an_lstm_starts_anew_each_time(tmp_path: Path) -> None:
    samples = from_arrays({"x": normal(3, 5, 8)})
    model = convert(models.seeded(models.Recurrent), samples, tmp_path)
    assert not any(tensor.is_variable for tensor in model.graph.tensors)
    for name, wanted, value in outputs(model, [*samples, *samples]):
        assert error(value, wanted) < CLOSE, name


# -- files -------------------------------------------------------------------------------


def test_exported_program(tmp_path: Path) -> None:
    module, images = models.seeded(models.SmallCnn), normal(3, 3, 16, 16)
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(module, (torch.from_numpy(images[:1]),)), path)
    model = convert(str(path), from_arrays({"": images}), tmp_path / "work")
    with torch.no_grad():
        logits = module(torch.from_numpy(images)).numpy()
    for row, (_, expected, found) in zip(logits, outputs(model, from_arrays({"image": images})), strict=True):
        assert error(expected[0], row) < CLOSE
        assert error(found, expected) < CLOSE
    places = {op.kind: model.locations[model.graph.tensors[op.outputs[0]].name] for op in model.graph.ops}
    assert places["DEPTHWISE_CONV_2D"] == "depthwise"
    assert places["FULLY_CONNECTED"] == "head"


def test_onnx_with_dynamic_shapes_is_fixed_to_the_samples(tmp_path: Path) -> None:
    path, images = tmp_path / "model.onnx", normal(2, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            models.seeded(models.SmallCnn),
            (torch.zeros(1, 3, 16, 16),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch", 2: "height"}},
        )
    before = path.read_bytes()
    model = convert(path, from_arrays({"image": images}), tmp_path / "work")
    assert path.read_bytes() == before
    assert model.inputs[0].spec.shape == (1, 3, 16, 16)
    assert model.notes[0] == "input 'image' with dynamic shape (?, 3, ?, 16) was fixed to (1, 3, 16, 16)"
    for name, expected, found in outputs(model, from_arrays({"image": images})):
        assert name == "logits"
        assert error(found, expected) < CLOSE
    assert "/depthwise/Conv" in model.locations.values()


def test_float_tflite(mlperf_tiny: Path, tmp_path: Path) -> None:
    path = next(p for p in sorted(mlperf_tiny.glob("*.tflite")) if "int8" not in p.name)
    from edgeqwt.graph import flatbuffer

    graph = flatbuffer.read(path)
    sample = {"": normal(*graph.tensors[graph.inputs[0]].shape)}
    model = convert(path, from_arrays(sample), tmp_path)
    assert model.trace_source is None
    for _, expected, found in outputs(model, [{model.inputs[0].spec.name: sample[""]}]):
        assert np.array_equal(found, expected)


def test_int8_tflite_is_refused(mlperf_tiny: Path, tmp_path: Path) -> None:
    path = next(p for p in sorted(mlperf_tiny.glob("*.tflite")) if "int8" in p.name)
    with pytest.raises(InputError, match="quantized already") as caught:
        convert(path, from_arrays({"": normal(1, 4)}), tmp_path)
    assert "compensate" in caught.value.hint


def test_same_source_same_bytes(tmp_path: Path) -> None:
    from edgeqwt.graph.flatbuffer import to_bytes

    def build(folder: str) -> bytes:
        samples: Any = from_arrays({"image": normal(1, 3, 16, 16)})
        return to_bytes(convert(models.seeded(models.SmallCnn), samples, tmp_path / folder).graph)

    assert build("a") == build("b")
