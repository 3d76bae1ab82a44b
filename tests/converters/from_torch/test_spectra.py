"""Transforms spelled out for export give what torch's own give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgeqwt.converters.from_onnx import source as onnx_source  # noqa: E402
from edgeqwt.converters.from_onnx.source import OnnxRunner  # noqa: E402
from edgeqwt.converters.from_torch import source as torch_source  # noqa: E402
from edgeqwt.converters.from_torch.forms import spelled_out  # noqa: E402

fft = torch.fft
IMAGE, ROWS = (2, 6, 7, 3), (2, 9)
TURNS = torch.polar(torch.ones(3), torch.arange(3.0))


def filtered(x: Any) -> Any:
    """Frequencies of an image weighted, as in networks that mix globally."""
    weights = torch.arange(6 * 4 * 3 * 2).reshape(6, 4, 3, 2).sin()
    spectrum = fft.rfft2(x, dim=(1, 2), norm="ortho") * torch.view_as_complex(weights)
    return fft.irfft2(spectrum, s=(6, 7), dim=(1, 2), norm="ortho")


def turned(x: Any) -> Any:
    """Pairs turned by angles, as in rotary embeddings."""
    pairs = torch.view_as_complex(x.reshape(2, 6, 7, 3, 1).expand(2, 6, 7, 3, 2).contiguous())
    return torch.view_as_real(pairs * TURNS).flatten(-2)


CASES: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "tokens and channels": (lambda x: fft.fftn(x, dim=(1, 2)).real, IMAGE),
    "one after the other": (lambda x: fft.fft(fft.fft(x, dim=-1), dim=-2).real, IMAGE),
    "shorter": (lambda x: fft.fft(x, n=5).imag, ROWS),
    "longer": (lambda x: fft.fft(x, n=12, dim=0, norm="ortho").imag, ROWS),
    "magnitudes": (lambda x: fft.rfft(x).abs() + torch.abs(fft.rfft(x, norm="forward")), ROWS),
    "all axes": (lambda x: torch.view_as_real(fft.fftn(x)), ROWS),
    "and back": (lambda x: fft.ifft2(fft.fft2(x) * 2 + x).real, IMAGE),
    "an odd number": (lambda x: fft.irfft(fft.rfft(x), n=9), ROWS),
    "an even number": (lambda x: fft.irfft(fft.rfft(x), norm="forward"), ROWS),
    "shifted": (lambda x: fft.fftshift(fft.fft(x), dim=-1).imag, ROWS),
    "filtered": (filtered, IMAGE),
    "turned": (turned, IMAGE),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_torch(name: str, tmp_path: Path) -> None:
    function, shape = CASES[name]

    class One(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return function(x)

    sample = {"x": np.random.default_rng(2).normal(size=shape).astype(np.float32)}
    wanted = function(torch.from_numpy(sample["x"])).numpy()
    model = torch_source.from_module("module", One().eval(), sample, None)
    notes = torch_source.export(model, sample, tmp_path / "one.onnx", tmp_path / "log")
    assert notes == ()  # the exporter that names nodes after modules did it
    proto = onnx_source.load(tmp_path / "one.onnx")
    assert not {"DFT", "STFT"} & {node.op_type for node in proto.graph.node}
    (value,) = OnnxRunner(proto).run(sample).values()
    # Sums of at most 252 terms of size 1 in float32: sqrt(252) 2^-24 each, and as much for the second axis.
    np.testing.assert_allclose(value, wanted, rtol=0, atol=2e-5)


WINDOW = torch.hann_window(16)


def masked(x: Any) -> Any:
    """A signal whose spectrum is weighted, as enhancers of speech have it."""
    spectrum = torch.stft(x, 16, 4, window=WINDOW, return_complex=True)
    return torch.istft(spectrum * spectrum.abs().sigmoid(), 16, 4, window=WINDOW)


FRAMED: dict[str, Callable[[Any], Any]] = {
    "magnitudes": lambda x: torch.stft(x, 16, 4, window=WINDOW, return_complex=True).abs(),
    "a method": lambda x: x.stft(16, 4, window=WINDOW, center=False, return_complex=True).real,
    "masked": masked,
    "with a length": lambda x: torch.istft(torch.complex(*spread(x)), 8, 2, window=torch.hann_window(8), length=20),
    "a short window, normalized": lambda x: torch.istft(
        torch.polar(*spread(x)), 8, 2, 6, torch.ones(6), normalized=True
    ),
    "one signal": lambda x: torch.istft(
        torch.complex(*(part[0] for part in spread(x))), 8, window=torch.ones(8), center=False
    ),
}


def spread(x: Any) -> tuple[Any, Any]:
    """Bins and frames of values that are no spectrum of a signal."""
    wide = x.reshape(2, 1, 40).expand(2, 5, 40)[..., :12]
    return wide * torch.arange(1.0, 6).reshape(5, 1), wide.flip(-1)


@pytest.mark.parametrize("name", FRAMED)
def test_spectra_of_frames_are_those_of_torch(name: str, tmp_path: Path) -> None:
    class One(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return FRAMED[name](x)

    sample = {"x": np.random.default_rng(2).normal(size=(2, 40)).astype(np.float32)}
    wanted = FRAMED[name](torch.from_numpy(sample["x"])).numpy()
    model = torch_source.from_module("module", One().eval(), sample, None)
    assert torch_source.export(model, sample, tmp_path / "one.onnx", tmp_path / "log") == ()
    (value,) = OnnxRunner(onnx_source.load(tmp_path / "one.onnx")).run(sample).values()
    # Sums of at most 80 terms of size 20 in float32
    np.testing.assert_allclose(value, wanted, rtol=0, atol=2e-4)


def test_what_has_no_form_runs_as_it_is() -> None:
    x = torch.arange(8.0)
    with spelled_out():
        found = fft.hfft(x)
    torch.testing.assert_close(found, fft.hfft(x), rtol=0, atol=0)
