from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import edgeqwt
from edgeqwt.converters.from_torch.pt2e import as_fake_quantized, is_quantized, register_ops
from edgeqwt.errors import InputError
from edgeqwt.graph.linear import slots

register_ops()
OPS = torch.ops.quantized_decomposed
INPUT, HIDDEN = (0.02, 3), (0.015, -128)


class Rounded(torch.nn.Module):
    """What PT2E makes of a convolution and a dense layer: integers as weights, rounded activations."""

    def __init__(self, low: int = -128) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.low = low
        # The largest integer is not 127, as in training with quantization: min and max do not tell the scale.
        self.register_buffer("filter", torch.randint(-90, 91, (4, 3, 3, 3), generator=generator, dtype=torch.int8))
        self.register_buffer("scales", torch.tensor([0.003, 0.004, 0.002, 0.005]))
        self.register_buffer("zeros", torch.zeros(4, dtype=torch.int64))
        self.register_buffer("dense", torch.randint(-127, 128, (5, 4), generator=generator, dtype=torch.int8))

    def rounded(self, x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
        integers = OPS.quantize_per_tensor(x, scale, zero_point, self.low, 127, torch.int8)
        return OPS.dequantize_per_tensor(integers, scale, zero_point, self.low, 127, torch.int8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = OPS.dequantize_per_channel(self.filter, self.scales, self.zeros, 0, -127, 127, torch.int8)
        x = torch.relu(torch.nn.functional.conv2d(self.rounded(x, *INPUT), weight))
        dense = OPS.dequantize_per_tensor(self.dense, 0.01, 0, -127, 127, torch.int8)
        return torch.nn.functional.linear(self.rounded(x, *HIDDEN).mean((2, 3)), dense)


def exported(module: torch.nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(module.eval(), (torch.zeros(1, 3, 6, 6),))


def test_the_same_function_in_ops_that_onnx_has() -> None:
    module = exported(Rounded()).module()
    assert is_quantized(module)
    changed = as_fake_quantized("m", module)
    assert not is_quantized(changed)
    x = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(changed(x), module(x))


def test_other_widths_are_refused() -> None:
    module = exported(Rounded(low=-8)).module()
    assert is_quantized(module)
    with pytest.raises(InputError, match=r"m: quantize_per_tensor\w* rounds by quantized_decomposed"):
        as_fake_quantized("m", module)


@pytest.mark.requires("onnx2tf")
def test_a_build_keeps_integers_and_ranges(tmp_path: Path) -> None:
    torch.export.save(exported(Rounded()), tmp_path / "m.pt2")
    images = np.random.default_rng(0).normal(size=(32, 3, 6, 6)).astype(np.float32)
    result = edgeqwt.build(tmp_path / "m.pt2", calibration={"x": images}, recipe="balanced")
    assert any("trained with quantization" in note for note in result.model.notes)
    graph = result.uncompensated
    (conv,) = (op for op in graph.ops if op.kind == "CONV_2D")
    q = graph.tensors[slots(conv).data].quantization
    assert q is not None
    assert (float(q.scale[0]), int(q.zero_point[0])) == (pytest.approx(INPUT[0]), INPUT[1])
    weight = graph.tensors[slots(conv).weight]
    assert weight.data is not None
    assert weight.quantization is not None
    wanted = Rounded().filter.numpy().transpose(0, 2, 3, 1)
    # Integers may have a common factor, which is as good: real values are what must stay.
    found = weight.data * weight.quantization.broadcast(4)[0]
    np.testing.assert_allclose(found, wanted * Rounded().scales.numpy().reshape(-1, 1, 1, 1), rtol=1e-6)
    assert result.quality[result.choice.name].worst_db > 30
