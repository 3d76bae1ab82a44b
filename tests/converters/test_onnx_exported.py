"""What onnx2tf wrote, read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converters.convert import convert
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.runners import xnnpack
from tests.converters.test_onnx_rewrites import layer

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.requires("torch", "onnxruntime")


@pytest.mark.requires("onnx2tf")
def test_rotary_embeddings_of_complex_numbers_are_converted(tmp_path: Path) -> None:
    """The number of pairs written as -1 between others: the file states 1, and LiteRT computes what the source has."""
    import torch
    from torch import nn

    angles = torch.outer(torch.arange(24.0), 0.5 ** torch.arange(4.0))
    turns = torch.view_as_real(torch.polar(torch.ones_like(angles), angles))
    mask = torch.full((24, 24), -1e9).triu(1)

    def turned(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * torch.view_as_complex(turns)[None, :, None]).flatten(3)

    def forward(inner: Any, x: torch.Tensor) -> torch.Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        q, k, v = (part(x).view(1, 24, 4, -1) for part in inner)
        q, k, v = (part.transpose(1, 2) for part in (turned(q), turned(k), v))
        return torch.softmax(q @ k.transpose(2, 3) + mask, -1) @ v

    samples = from_arrays({"x": np.random.default_rng(0).normal(size=(2, 24, 32)).astype(np.float32)})
    module = layer(lambda: nn.ModuleList(nn.Linear(32, 32, bias=False) for _ in range(3)), forward)
    found, sample = convert(module, samples, tmp_path, converter="onnx2tf"), samples.first()
    for op in (op for op in found.graph.ops if op.kind == "RESHAPE"):
        assert found.graph.tensors[op.inputs[0]].size == found.graph.tensors[op.outputs[0]].size
    wanted = next(iter(found.run_source(sample).values()))
    graph = prepare(found.graph).graph
    values = xnnpack(graph).run(found.graph_inputs(sample))
    got = found.outputs[0].to_source(values[graph.outputs[0]])
    # Means of 24 sums of 32 terms of about 1 in float32, in another order.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
