"""Complex values that a module computes are exported as pairs of real ones, and give what torch's own give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from edgeqwt.converters.from_onnx import source as onnx_source  # noqa: E402
from edgeqwt.converters.from_onnx.source import OnnxRunner  # noqa: E402
from edgeqwt.converters.from_torch import source as torch_source  # noqa: E402

WEIGHTS = torch.polar(torch.ones(4, 3, 5), torch.arange(60.0).reshape(4, 3, 5))
SQUARE = torch.polar(torch.ones(5, 5), torch.arange(25.0).reshape(5, 5))


def pairs(x: Any) -> Any:
    """Some complex values, shape (2, 4, 5)."""
    return torch.complex(x, x.flip(-1))


def both(z: Any) -> Any:
    return torch.view_as_real(z)


def mixed(x: Any) -> Any:
    """The lowest frequencies weighted in channels, as Fourier neural operators have it."""
    f = torch.fft.rfft(x)
    out = torch.zeros(x.shape[0], 3, x.size(-1) // 2 + 1, dtype=torch.cfloat)
    out[:, :, :2] = torch.einsum("bix,iox->box", f[:, :, :2], WEIGHTS[..., :2])
    return torch.fft.irfft(out, n=x.size(-1))


def kernel(x: Any) -> Any:
    """The kernel of a diagonal state space from its real parameters, as S4D has it."""
    rates = -torch.exp(torch.zeros(4, 3)) + 1j * torch.arange(3.0).repeat(4, 1)
    steps = rates * 0.1
    powers = torch.exp(steps.unsqueeze(-1) * torch.arange(5))
    found = 2 * torch.einsum("hn,hnl->hl", (torch.exp(steps) - 1.0) / rates, powers).real
    return torch.fft.irfft(torch.fft.rfft(x, n=10) * torch.fft.rfft(found, n=10), n=10)[..., :5]


CASES: dict[str, Callable[[Any], Any]] = {
    "weights in an einsum": mixed,
    "a kernel of parameters": kernel,
    "real times i": lambda x: both(x * 1j + x),
    "i times real, less": lambda x: both(1 - 2j * x),
    "a matrix": lambda x: both(pairs(x) @ SQUARE.t()),
    "a real one by a matrix": lambda x: both(torch.einsum("bij,jk->bik", x.to(torch.complex64), SQUARE)),
    "a layer": lambda x: both(F.linear(pairs(x), SQUARE, SQUARE[0])),
    "a convolution": lambda x: both(F.conv1d(pairs(x), WEIGHTS.permute(1, 0, 2)[..., :3], WEIGHTS[0, :, 0])),
    "a quotient": lambda x: both(x / (pairs(x) + 3)) + both(pairs(x) / (pairs(x) - 3j)),
    "joined": lambda x: both(torch.cat([pairs(x), x.to(torch.cfloat)], 1)),
    "stacked": lambda x: both(torch.stack([pairs(x), 1j * x], 2).flatten(1, 2)),
    "chosen": lambda x: both(torch.where(x > 0, pairs(x), 0.0 * pairs(x))),
    "powers": lambda x: (pairs(x) ** 2).abs() + pairs(x).square().imag,
    "a curve": lambda x: both(torch.exp(pairs(x))),
    "moved": lambda x: both(torch.flatten(pairs(x).permute(0, 2, 1).mT.conj().resolve_conj(), 1).unsqueeze(1)),
    "written into": lambda x: both(_written(pairs(x))),
    "three in a sum": lambda x: both(torch.einsum("bij,ij,bij->bi", pairs(x), pairs(x)[0], pairs(x))),
    "a constant's parts": lambda x: x * SQUARE.real[0] + SQUARE[0].angle() + SQUARE[1].abs(),
}  # fmt: skip


def _written(z: Any) -> Any:
    out = torch.zeros_like(z)
    out[:, 1:] = z[:, :-1]
    out[..., 0] += 2j
    return out


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_torch(name: str, tmp_path: Path) -> None:
    class One(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return CASES[name](x)

    sample = {"x": np.random.default_rng(2).normal(size=(2, 4, 5)).astype(np.float32)}
    wanted = CASES[name](torch.from_numpy(sample["x"])).numpy()
    model = torch_source.from_module("module", One().eval(), sample, None)
    assert torch_source.export(model, sample, tmp_path / "one.onnx", tmp_path / "log") == ()
    proto = onnx_source.load(tmp_path / "one.onnx")
    (value,) = OnnxRunner(proto).run(sample).values()
    if name == "weights in an einsum":  # which is written to at positions that are known
        assert "Shape" not in {node.op_type for node in proto.graph.node}
    # Sums of at most 60 terms of size 10 in float32: 10 sqrt(60) 2^-24 each, some after one another.
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=2e-5)
