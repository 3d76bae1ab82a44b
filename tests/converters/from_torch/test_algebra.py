"""Inverses of small matrices are arithmetic, of weights constants; what takes steps by values is refused by line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgeqwt.calibration.sources import open_samples  # noqa: E402
from edgeqwt.converters.convert import convert  # noqa: E402
from edgeqwt.converters.converter import NoConverterError  # noqa: E402
from edgeqwt.converters.from_onnx import source as onnx_source  # noqa: E402
from edgeqwt.converters.from_onnx.loadable import loadable  # noqa: E402
from edgeqwt.converters.from_onnx.source import OnnxRunner  # noqa: E402
from edgeqwt.converters.from_torch import source as torch_source  # noqa: E402


class Of(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A function of a matrix, and of a weight."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.weight = function, torch.nn.Parameter(torch.randn(6, 6))

    def forward(self, x: Any) -> Any:
        return self.function(x, self.weight)


def _matrices(size: int) -> dict[str, Any]:
    """Of condition numbers below 10."""
    noise = np.random.default_rng(size).normal(size=(2, size, size)) / size
    return {"x": (noise + 2 * np.eye(size)).astype(np.float32)}


FORMS: dict[str, tuple[Callable[..., Any], int]] = {
    "inverse of 2": (lambda x, _: x.inverse(), 2),
    "inverse of 3": (lambda x, _: torch.linalg.inv(x), 3),
    "inverse of 4": (lambda x, _: torch.inverse(x), 4),
    "determinant": (lambda x, _: torch.linalg.det(x) + x.det() + torch.logdet(x), 3),
    "sign and size": (lambda x, _: torch.slogdet(-x)[0] * torch.linalg.slogdet(-x)[1], 3),
    "sign and size by their names": (lambda x, _: torch.slogdet(x).sign * torch.linalg.slogdet(A=x).logabsdet, 3),
    "columns": (lambda x, _: torch.linalg.solve(x, x[..., :2] + 1), 4),
    "one column": (lambda x, _: torch.linalg.solve(x, x[..., 0] + 1), 3),
    "by name": (lambda x, _: torch.linalg.solve(B=x[..., 0] + 1, A=x)[..., None] + torch.linalg.inv(A=x), 3),
    "of a weight": (lambda x, w: x @ torch.inverse(w) + torch.linalg.svdvals(w), 6),
}


@pytest.mark.parametrize("name", FORMS)
def test_values_are_those_of_torch(name: str, tmp_path: Path) -> None:
    function, size = FORMS[name]
    module, sample = Of(function).eval(), _matrices(size)
    wanted = module(torch.from_numpy(sample["x"])).detach().numpy()
    model = torch_source.from_module("module", module, sample)
    assert torch_source.export(model, sample, tmp_path / "one.onnx", tmp_path / "log") == ()
    (value,) = OnnxRunner(loadable(onnx_source.load(tmp_path / "one.onnx"))).run(sample).values()
    # products of up to 4 entries below 4, divided by a determinant above 1; the weight's condition number is about 30
    np.testing.assert_allclose(value, wanted, rtol=0, atol=2e-4)


REFUSED: dict[str, tuple[Callable[..., Any], int, str]] = {
    "svd": (lambda x, _: torch.svd(x)[0], 3, r"torch\.svd of \(1, 3, 3\) \(.*test_algebra\.py:\d+\)"),
    "qr": (lambda x, _: torch.linalg.qr(x)[0], 3, r"torch\.linalg\.qr of \(1, 3, 3\)"),
    "eigenvalues": (lambda x, _: torch.linalg.eigvalsh(x), 3, r"torch\.linalg\.eigvalsh of"),
    "larger ones": (lambda x, _: torch.linalg.solve(x, x), 6, r"solve of \(1, 6, 6\) and \(1, 6, 6\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_decompositions_are_refused_by_their_line(name: str, tmp_path: Path) -> None:
    """No converter is tried in vain: what is said is what the reader can act on."""
    function, size, said = REFUSED[name]
    samples = open_samples({"x": _matrices(size)["x"]})
    with pytest.raises(NoConverterError, match=said) as caught:
        convert(Of(function).eval(), samples, tmp_path)
    assert "Return what it is given as an output" in caught.value.hint
