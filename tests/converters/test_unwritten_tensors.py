"""What onnx2tf leaves out of its files: the TRANSPOSE before what reads a convolution's output in another layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converters import convert
from edgeqwt.converters.unwritten_tensors import closed
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.verify.parity import check_parity
from tests import models
from tests.chain import CONV, NONE, Chain, noise


class ShortcutFirst(nn.Module):
    """A residual block that computes its shortcut, a strided slice with padded channels, before its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.before = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.first, self.second = nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(self.before(x) + x)
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return functional.relu(self.second(functional.relu(self.first(x))) + shortcut)


class ScaledFirst(nn.Module):
    """A product of a tensor stands before the convolution of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mixer = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.first, self.second = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 8)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(self.mixer(x) + x)
        scaled = x * self.scale
        return self.second(functional.relu(self.first(x))) + scaled


@pytest.mark.parametrize("module", [ShortcutFirst, ScaledFirst])
def test_networks_that_use_a_tensor_before_its_convolution_convert(module: type[nn.Module], tmp_path: Path) -> None:
    samples = from_arrays({"x": noise(3, 3, 10, 10)})
    model = convert(models.seeded(module), samples, tmp_path)
    assert any("onnx2tf left out" in note for note in model.notes), "onnx2tf does so no more: find another model"
    check_parity(model, model.graph, samples)


def lost(size: int) -> tuple[Graph, dict[str, Array]]:
    """A convolution (1, size, size, 4) whose transposed output "value" a product reads and nothing writes.

    Returns:
        The graph, with the open end as its second input, and what the source has by its names.
    """
    chain, x = Chain(), noise(1, 4, size, size)
    image, filters = chain.input((1, size, size, 4), "x"), chain.constant(noise(4, 1, 1, 4, seed=1))
    conv = chain.op("CONV_2D", image, filters, chain.constant(noise(4, seed=2)), name="value_nhwc", **CONV)
    end = chain.input((1, 4, size, size), "value")
    graph = chain.graph(chain.op("MUL", end, chain.constant(np.float32(2)), name="y", **NONE), conv)
    value = xnnpack(graph).run({image: x.transpose(0, 2, 3, 1), end: x})[conv].transpose(0, 3, 1, 2)
    return graph, {"x": x, "value": value, "y": 2 * value}


@pytest.mark.parametrize("size", [6, 4])
def test_an_open_end_is_computed_from_the_tensor_with_its_value(size: int) -> None:
    graph, values = lost(size)  # of size 4, every layout has the same shape
    mended = closed(graph, 1, values, {})
    assert [op.kind for op in mended.ops] == ["CONV_2D", "TRANSPOSE", "MUL"]
    assert [mended.tensors[t].name for t in mended.inputs] == ["x"]
    found = xnnpack(mended).run({mended.inputs[0]: values["x"].transpose(0, 2, 3, 1)})
    assert np.array_equal(found[mended.outputs[0]], values["y"])
    (remark,) = mended.remarks
    assert "'value': it is 'value_nhwc' in another layout" in remark


@pytest.mark.parametrize(
    "change",
    [{"value": noise(1, 4, 6, 6, seed=9)}, {"value": noise(1, 5, 6, 6)}, {"other": noise(1)}],
    ids=["another value", "another shape", "no such name"],
)
def test_an_open_end_whose_value_is_nowhere_stays_open(change: Mapping[str, Array]) -> None:
    graph, values = lost(6)
    left = {name: value for name, value in values.items() if name != "value"}
    assert len(closed(graph, 1, {**left, **change}, {}).inputs) == 2


def test_names_that_the_converter_recorded_are_followed() -> None:
    graph, values = lost(6)
    renamed = replace(graph.tensors[graph.inputs[1]], name="elsewhere")
    graph = graph.with_tensors({graph.inputs[1]: renamed})
    assert len(closed(graph, 1, values, {}).inputs) == 2
    assert len(closed(graph, 1, values, {"elsewhere": ("value",)}).inputs) == 1
