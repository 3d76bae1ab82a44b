"""Constants that meet maps, over as many axes as these or over fewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converters.convert import convert
from edgeqwt.converters.from_onnx.rewrites import rewritten
from edgeqwt.runtime.runners import xnnpack
from tests.converters.nodes import of_nodes

if TYPE_CHECKING:
    import onnx
    import torch

pytestmark = pytest.mark.requires("torch", "onnxruntime")

CHANNELS = 8


def beside_maps(kind: str, shape: tuple[int, ...]) -> torch.nn.Module:
    """An op with a constant between two convolutions."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.before, self.after = torch.nn.Conv2d(2, CHANNELS, 3, padding=1), torch.nn.Conv2d(CHANNELS, 3, 1)
            self.register_buffer("held", torch.rand(shape) + 0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.after(getattr(torch, kind)(self.before(x), self.held).relu())

    return Net().eval()


@pytest.mark.requires("onnx2tf")
@pytest.mark.parametrize("size", [(5, 5), (4, 5)])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("mul", (CHANNELS, 1, 1)),
        ("mul", (None, None)),
        ("add", (None, None)),
        ("sub", (None, 1)),
        ("add", (1, 1, None, 1)),
        ("div", (1, None, None)),
        ("maximum", (None, 1)),
        ("pow", (CHANNELS, 1, 1)),
        ("mul", (5,)),
    ],
)
def test_constants_are_repeated_as_the_source_does(
    kind: str, shape: tuple[int | None, ...], size: tuple[int, int], tmp_path: Path
) -> None:
    held = tuple(n if n is not None else size[k + 2 - len(shape)] for k, n in enumerate(shape))
    module = beside_maps(kind, held)
    if kind == "pow":  # roots of negative numbers are NaN
        module.before.weight.data.abs_()
        module.before.bias.data.abs_()
    samples = from_arrays({"x": np.random.default_rng(0).uniform(0.1, 1, size=(2, 2, *size)).astype(np.float32)})
    found, sample = convert(module, samples, tmp_path, converter="onnx2tf"), samples.first()
    wanted = next(iter(found.run_source(sample).values()))
    values = xnnpack(found.graph).run(found.graph_inputs(sample))
    got = found.outputs[0].to_source(values[found.outputs[0].tensor])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)  # of values around 1, sums of 18 and 8 products


def model(nodes: list[Any], held: dict[str, np.ndarray[Any, Any]], shape: tuple[int, ...]) -> onnx.ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    return of_nodes(nodes, ends, [numpy_helper.from_array(data, name) for name, data in held.items()])


@pytest.mark.requires("onnx2tf")
def test_rows_beside_maps_whose_lengths_tell_nothing(tmp_path: Path) -> None:
    """As many channels as rows and columns, which the second try of the ways through onnx2tf is for."""
    samples = np.random.default_rng(0).normal(size=(4, 2, CHANNELS, CHANNELS)).astype(np.float32)
    module = beside_maps("add", (1, CHANNELS, 1, CHANNELS))
    found = edgeqwt.build(
        module, calibration={"x": samples}, target="tflite", recipe="int8-only", converter="onnx2tf", accept=True
    )
    assert max(output.used for output in found.parity.outputs) < 1


def test_what_is_no_map_stays() -> None:
    """Such as tokens with a norm's weights, which onnx2tf gets right."""
    from onnx import helper

    given = model([helper.make_node("Mul", ["x", "w"], ["y"])], {"w": np.ones(6, np.float32)}, (1, 4, 5, 6))
    assert rewritten(given) is given


def test_numbers_stay() -> None:
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["x", "k"], ["maps"]),
        helper.make_node("Mul", ["maps", "w"], ["y"]),
    ]
    held = {"k": np.ones((2, 2, 1, 1), np.float32), "w": np.full(1, 3, np.float32)}
    given = model(nodes, held, (1, 2, 5, 6))
    assert rewritten(given) is given
