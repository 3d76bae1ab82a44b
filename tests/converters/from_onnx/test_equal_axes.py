"""Maps whose layout lengths do not tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converted import ConvertedModel
from edgeqwt.converters.convert import first_to_pass
from edgeqwt.converters.from_onnx.equal_axes import over_three_axes
from edgeqwt.converters.from_onnx.nodes import Values
from edgeqwt.converters.from_onnx.source import OnnxRunner
from edgeqwt.errors import ParityError
from edgeqwt.runtime.runners import xnnpack
from tests.converters.from_onnx.test_rewrites import exported, layer

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.requires("torch", "onnxruntime")
LENGTH = 4


def mixed(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A convolution, layers along each axis, parts along two axes, and products, on as many channels as places."""
    import torch

    convolution, rows, columns, head = inner
    y = convolution(x) * inner.factors
    y = y + rows(y)
    y = (y.permute(0, 2, 3, 1) + columns(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    first, second = y.split(LENGTH // 2, 2)
    y = torch.cat([second, first], 2)
    left, right = y.split(LENGTH // 2, 3)
    y = torch.cat([right, left], 3) @ y.softmax(-1) + y.softmax(1)
    return head(torch.maximum(y, y.mean((2, 3), keepdim=True)))


def network() -> torch.nn.Module:
    import torch
    from torch import nn

    def make() -> nn.ModuleList:
        parts = nn.ModuleList([nn.Conv2d(3, LENGTH, 3, 2, 1), nn.Linear(LENGTH, LENGTH), nn.Linear(LENGTH, LENGTH)])
        parts.append(nn.Conv2d(LENGTH, 3, 1))
        parts.register_parameter("factors", nn.Parameter(torch.randn(1, LENGTH, LENGTH, LENGTH)))
        return parts

    return layer(make, mixed)


SHAPE = (1, 3, 2 * LENGTH, 2 * LENGTH)


def test_the_same_is_computed_over_three_axes(tmp_path: Path) -> None:
    model = exported(network(), SHAPE, tmp_path)
    found = over_three_axes(model)
    sample = {"x": np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)}
    (before,), (after,) = OnnxRunner(model).run(sample).values(), OnnxRunner(found).run(sample).values()
    # The same sums in another order, in float32.
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
    shapes = Values(found).shapes
    over_four = [
        node.op_type
        for node in found.graph.node
        if node.op_type not in ("Reshape", "Conv") and shapes.get(node.output[0]) == (1, LENGTH, LENGTH, LENGTH)
    ]
    assert over_four == []


def test_maps_of_unequal_lengths_stay(tmp_path: Path) -> None:
    from torch import nn

    model = exported(layer(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardswish())), (1, 3, 8, 8), tmp_path)
    assert over_three_axes(model) is model


@pytest.mark.requires("onnx2tf")
def test_onnx2tf_gets_them_where_it_mistook_their_layout(tmp_path: Path) -> None:
    samples = from_arrays({"x": np.random.default_rng(0).normal(size=(2, *SHAPE[1:])).astype(np.float32)})
    sample = samples.first()

    def right(found: ConvertedModel) -> ConvertedModel:
        wanted = next(iter(found.run_source(sample).values()))
        values = xnnpack(found.graph).run(found.graph_inputs(sample))
        got = found.outputs[0].to_source(values[found.outputs[0].tensor])
        if not np.allclose(got, wanted, rtol=0, atol=1e-4):
            raise ParityError("wrong")
        return found

    found = first_to_pass(network(), samples, tmp_path, right, converter="onnx2tf")
    assert any("over three axes" in note for note in found.notes)
