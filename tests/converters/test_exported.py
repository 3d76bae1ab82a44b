"""What onnx2tf wrote, read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

from edgeqwt.calibration.arrays import from_arrays  # noqa: E402
from edgeqwt.converters.convert import convert  # noqa: E402
from edgeqwt.errors import EdgeqwtError  # noqa: E402
from edgeqwt.prepare.prepare import prepare  # noqa: E402
from edgeqwt.runtime.runners import xnnpack  # noqa: E402
from tests.converters.from_onnx.test_rewrites import layer  # noqa: E402

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


def test_what_torch_exports_and_onnxruntime_cannot_run_is_the_model_s_affair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Export it again` would be no help to who has exported nothing."""
    import torch

    from edgeqwt.converters.from_torch import source as torch_source

    def exported(model: Any, sample: Any, path: Path, log: Path) -> tuple[str, ...]:
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("input", "y")]
        node = helper.make_node("Unheard", ["input"], ["y"], domain="of.nobody")
        graph = helper.make_graph([node], "g", ends[:1], ends[1:])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("of.nobody", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return ()

    monkeypatch.setattr(torch_source, "export", exported)
    samples = from_arrays({"input": np.zeros((2, 4), np.float32)})
    with pytest.raises(EdgeqwtError) as caught:
        convert(torch.nn.Linear(4, 4).eval(), samples, tmp_path, converter="onnx2tf")
    assert "torch.onnx.export gives a model that does not run" in caught.value.message + caught.value.hint
    assert "xport it again" not in caught.value.message + caught.value.hint
