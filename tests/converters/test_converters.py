"""Several converters, one gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from torch import Tensor, nn

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.calibration.samples import Samples
from edgeqwt.converted import ConvertedModel
from edgeqwt.converters import convert
from edgeqwt.converters.convert import first_to_pass
from edgeqwt.errors import ConversionError, InputError, ParityError
from edgeqwt.verify.parity import Parity, check_parity
from tests import models


class Shortcut(nn.Module):
    """What onnx2tf gets wrong, in a part with a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = models.Residual()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"features": self.inner(image)}


def samples() -> Samples:
    return from_arrays({"image": np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float32)})


def test_there_is_no_such_converter(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no converter 'toco'") as caught:
        convert(nn.ReLU(), from_arrays({"input": np.ones((1, 4), np.float32)}), tmp_path, converter="toco")
    assert "auto, onnx2tf, litert-torch, tensorflow" in caught.value.hint


def test_a_converter_that_does_not_take_the_source(tmp_path: Path) -> None:
    one = np.ones((1, 4), np.float32)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "relu.onnx")
    with pytest.raises(InputError, match=r"litert-torch does not convert .*relu\.onnx") as caught:
        convert(tmp_path / "relu.onnx", from_arrays({"x": one}), tmp_path / "work", converter="litert-torch")
    assert caught.value.hint == "These do: onnx2tf, tensorflow."


def test_a_converter_that_is_not_installed_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="litert-torch could not be started") as caught:
        convert(models.seeded(Shortcut), samples(), tmp_path, converter="litert-torch")
    assert "edgeqwt tools install litert-torch" in getattr(caught.value, "hint", "")


def test_the_only_converters_error_names_another_one(tmp_path: Path) -> None:
    def gate(model: ConvertedModel) -> Parity:
        return check_parity(model, model.graph, samples())

    with pytest.raises(ParityError, match="is the first op whose output diverges") as caught:
        first_to_pass(models.seeded(Shortcut), samples(), tmp_path, gate)
    assert caught.value.op.startswith("ADD #2")
    assert caught.value.location == "inner"
    assert caught.value.hint.endswith("Another converter may take it: `edgeqwt tools install litert-torch`.")


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[ConvertedModel], ConversionError]:
    """What each converter makes where the gate refuses all of it, and the error that comes of it."""
    seen: list[ConvertedModel] = []

    def gate(model: ConvertedModel) -> None:
        seen.append(model)
        check_parity(model, model.graph, samples())
        raise ParityError("the gate says no.", "Change that.", "CONV_2D #0", "inner.conv")

    with pytest.raises(ConversionError) as caught:
        first_to_pass(models.seeded(Shortcut), samples(), tmp_path_factory.mktemp("refused"), gate)
    return seen, caught.value


@pytest.mark.tool("litert-torch")
def test_the_next_converter_is_tried_where_one_fails(refused: tuple[list[ConvertedModel], ConversionError]) -> None:
    model = next(model for model in refused[0] if model.converter != "onnx2tf")
    assert check_parity(model, model.graph, samples()).samples == 4
    assert model.converter == "litert-torch"
    [attempt] = model.attempts
    assert (attempt.converter, attempt.location) == ("onnx2tf", "inner")
    assert attempt.op.startswith("ADD #2")
    # In the source's terms.
    assert [b.spec.name for b in (*model.inputs, *model.outputs)] == ["image", "features"]
    ends = (*model.inputs, *model.outputs)
    assert [model.graph.tensors[b.tensor].name for b in ends] == ["image", "features"]
    places = {model.locations.get(model.graph.tensors[op.outputs[0]].name): op.kind for op in model.graph.ops}
    assert places["inner.conv"] == "CONV_2D"
    # Its own values are known, so that a wrong op of its would be found, too.
    assert model.trace_source is not None
    assert len(model.trace_source(samples().first())) > len(model.graph.ops) / 2


@pytest.mark.tool("litert-torch")
def test_where_none_passes_the_error_lists_all(refused: tuple[list[ConvertedModel], ConversionError]) -> None:
    error = refused[1]
    assert error.message.startswith("no converter carries Shortcut over")
    assert [f.partition(" ")[0] for f in error.failures][:2] == ["onnx2tf", "litert-torch"]
    assert "is the first op whose output diverges" in error.failures[0]
    assert error.failures[1].endswith("the gate says no. Change that.")
    assert error.exit_code == ParityError.exit_code
