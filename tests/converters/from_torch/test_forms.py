"""Functions in the forms that can be exported give what torch's own give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402, N812 (its usual name)

from edgeqwt.converters.from_onnx import source as onnx_source  # noqa: E402
from edgeqwt.converters.from_onnx.loadable import loadable  # noqa: E402
from edgeqwt.converters.from_onnx.source import OnnxRunner  # noqa: E402
from edgeqwt.converters.from_torch import source as torch_source  # noqa: E402
from edgeqwt.converters.from_torch.forms import spelled_out  # noqa: E402

IMAGE, LINE, ROWS = (1, 3, 12, 10), (1, 3, 12), (2, 9)

CASES: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "mean of uneven windows": (lambda x: F.adaptive_avg_pool2d(x, 7), IMAGE),
    "mean of alike windows": (lambda x: F.adaptive_avg_pool2d(x, (11, 9)), IMAGE),
    "mean of more windows than pixels": (lambda x: F.adaptive_avg_pool2d(x, 16), IMAGE),
    "mean of one axis": (lambda x: F.adaptive_avg_pool2d(x, (5, None)), IMAGE),
    "mean along a line": (lambda x: F.adaptive_avg_pool1d(x, 5), LINE),
    "mean of a volume": (lambda x: F.adaptive_avg_pool3d(x, (2, 3, 3)), (1, 2, 5, 6, 7)),
    "largest of uneven windows": (lambda x: F.adaptive_max_pool2d(x, 7), IMAGE),
    "largest of alike windows": (lambda x: F.adaptive_max_pool2d(x, (11, 9)), IMAGE),
    "largest along a line": (lambda x: F.adaptive_max_pool1d(x, 5), LINE),
    "pool beyond the end": (lambda x: F.avg_pool2d(x, 5, 2, ceil_mode=True), IMAGE),
    "pool with padding beyond the end": (lambda x: F.avg_pool2d(x, 4, 3, 1, True), IMAGE),
    "pool with a divisor": (lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=4), IMAGE),
    "pool with a divisor beyond the end": (lambda x: F.avg_pool2d(x, 4, 3, 1, True, True, 5), IMAGE),
    "pool that does not count padding": (lambda x: F.avg_pool2d(x, 4, 3, 1, True, False), IMAGE),
    "distance of rows that are nearly equal": (
        lambda x: torch.cat([F.pairwise_distance(x, x + 1e-6, 2 - i) for i in range(2)]) * 1e4,
        (2, 9),
    ),
    "pool over channels": (torch.nn.MaxPool3d((1, 3, 3), (2, 1, 2)), (1, 4, 12, 10)),
    "means over channels": (lambda x: F.avg_pool3d(x, (3, 2, 2), 1), IMAGE),
    "means of adaptive windows over channels": (torch.nn.AdaptiveAvgPool3d((2, 5, 1)), IMAGE),
    "pools of a map without a batch": (lambda x: F.max_pool2d(F.avg_pool2d(x, 3, 1, ceil_mode=True), 2), (3, 12, 10)),
    "adaptive pools of a map without a batch": (
        lambda x: torch.cat([F.adaptive_avg_pool2d(x, 5), F.adaptive_max_pool2d(x, 5)], 0),
        (3, 12, 10),
    ),
    "pools of rows": (
        lambda x: torch.cat([F.max_pool1d(x, 2), F.avg_pool1d(x, 2), F.adaptive_avg_pool1d(x, 4)], -1),
        ROWS,
    ),
    "largest of rows": (lambda x: torch.cat([F.adaptive_max_pool1d(x, 4), F.adaptive_max_pool1d(x, 3)], -1), ROWS),
    "pixels of a map without a batch": (
        lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2).relu(), 4),
        (4, 12, 10),
    ),
    "unpooled": (lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2) + x, IMAGE),
    "unpooled to an odd size": (
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 3, 3, return_indices=True), 3, output_size=x.shape) + x,
        (1, 3, 11, 10),
    ),
    "indices of pools": (lambda x: F.max_pool2d(x, (2, 2), return_indices=True)[1].float(), (1, 3, 5, 7)),
    "transposed": (lambda x: x @ x.mT, (1, 3, 4)),
    "area": (lambda x: F.interpolate(x, size=(5, 5), mode="area"), IMAGE),
    "antialiased": (lambda x: F.interpolate(x, size=(5, 4), mode="bilinear", antialias=True), IMAGE),
    "response norm": (lambda x: F.local_response_norm(x, 4, 0.1), (1, 7, 4, 4)),
    "softplus": (lambda x: F.softplus(x * 4, 2.0, 5.0), ROWS),
    "median": (lambda x: x.median(-1)[0], ROWS),
    "median of all": (lambda x: torch.median(x), ROWS),
    "angle": (lambda x: torch.atan2(x[:, :4], x[:, 4:8]), ROWS),
    "hypotenuse": (lambda x: torch.hypot(x[:, :4], x[:, 4:8]), ROWS),
    "larger": (lambda x: torch.fmax(x[:, :4], x[:, 4:8]) - x[:, :4].fmin(x[:, 4:8]), ROWS),
    "signs": (lambda x: torch.copysign(x[:, :4], x[:, 4:8]), ROWS),
    "whole quotients": (lambda x: (8 * x) // 3 + (8 * x).long().floor_divide(3), ROWS),
    "ranked": (lambda x: torch.cat(x.kthvalue(2, -1, True), -1), ROWS),
    "running extremes": (lambda x: torch.cat([*x.cummax(-1), *torch.cummin(x, 0)], -1), ROWS),
    "covariance": (lambda x: torch.cat([torch.cov(x), torch.corrcoef(x)], -1), ROWS),
    "windows": (lambda x: x.unfold(-1, 4, 2) * torch.arange(4) + x.unfold(dimension=-1, size=4, step=2), ROWS),
    "windows of an image": (lambda x: x.unfold(-2, 5, 3).unfold(-2, 3, 2).sum(-1), IMAGE),
    "moved axes": (lambda x: x.movedim(-1, 1) + x.movedim((0, -1), (-2, -3)).sum(), IMAGE),
    "joined": (
        lambda x: torch.hstack([x, 2 * x]).sum() + torch.vstack([x, x]).sum() + torch.dstack([x, -2 * x]),
        ROWS,
    ),
    "joined vectors": (lambda x: torch.column_stack([torch.hstack([x[0], x[1]]), torch.hstack([x[1], x[0]])]), ROWS),
    "divided": (lambda x: torch.cat([*x.tensor_split(3, -1)[::-1], *torch.tensor_split(x, (2, -1), 1)[1:]], -1), ROWS),
    "searched": (
        lambda x: torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]), x.contiguous(), side="right").float(),
        ROWS,
    ),
    "added": (lambda x: x.index_add(1, torch.tensor([0, 2, 0]), x[:, :3], alpha=2), ROWS),
    "sine over itself": (lambda x: torch.sinc(x * (x > 0)), ROWS),
    "finite": (lambda x: torch.nan_to_num(x), ROWS),
    "quotients of integers": (lambda x: (10 * x).int() // 3, ROWS),
    "quotients rounded down": (lambda x: torch.div((10 * x).int(), 3, rounding_mode="floor"), ROWS),
    "quotients of floats": (lambda x: x // 0.3 + torch.div(10 * x, 3, rounding_mode="floor"), ROWS),
    "rests with a sign": (lambda x: torch.fmod((10 * x).int(), 3) + (5 * x).fmod(0.7), ROWS),
    "running product": (lambda x: x.cumprod(-1), ROWS),
    "arcs": (lambda x: torch.cat([torch.asin(x.clamp(-1, 1)), x.clamp(-1, 1).acos()], -1), ROWS),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_torch(name: str, tmp_path: Path) -> None:
    function, shape = CASES[name]

    class One(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return function(x)

    sample = {"x": np.random.default_rng(2).normal(size=shape).astype(np.float32)}
    x = torch.from_numpy(sample["x"])
    wanted = function(x).numpy()
    with spelled_out():
        found = function(x).numpy()
    # float32, sums of at most 25 terms; near +-1 the arc's slope is steep.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)
    model = torch_source.from_module("module", One().eval(), sample, None)
    notes = torch_source.export(model, sample, tmp_path / "one.onnx", tmp_path / "log")
    assert notes == ()  # the exporter that names nodes after modules did it
    (value,) = OnnxRunner(loadable(onnx_source.load(tmp_path / "one.onnx"))).run(sample).values()
    np.testing.assert_allclose(value, wanted, rtol=0, atol=2e-5)


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch, on how it computes them
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "batch_first": True}], ids=str
)
def test_lstm_with_projections(options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = torch.nn.LSTM(5, 6, proj_size=3, **options).eval()
    sample = {"input": np.random.default_rng(3).normal(size=(4, 2, 5)).astype(np.float32)}
    wanted = layer(torch.from_numpy(sample["input"]))
    wanted = [wanted[0], *wanted[1]]
    with spelled_out():
        found = layer(torch.from_numpy(sample["input"]))
    for one, other in zip([found[0], *found[1]], wanted, strict=True):
        # float32, sums of at most 6 terms, 4 steps
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    model = torch_source.from_module("module", layer, sample, None)
    torch_source.export(model, sample, tmp_path / "one.onnx", tmp_path / "log")
    values = OnnxRunner(loadable(onnx_source.load(tmp_path / "one.onnx"))).run(sample)
    for value, other in zip(values.values(), wanted, strict=True):
        np.testing.assert_allclose(value, other.detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("padding", [None, 2, -1])
@pytest.mark.parametrize("how", ["mean", "sum", "max"])
def test_bags_of_one_size(how: str, padding: int | None) -> None:
    bag = torch.nn.EmbeddingBag(7, 5, mode=how, padding_idx=padding).eval()
    torch.nn.init.normal_(bag.weight)  # padding has a row, too
    x = torch.cat([torch.arange(12).reshape(2, 6) % 7, torch.full((1, 6), (padding or 0) % 7)])
    with spelled_out():
        found = bag(x)
    torch.testing.assert_close(found, bag(x), rtol=0, atol=1e-6)


def test_what_the_exporter_knows_stays_as_it_is() -> None:
    calls = []

    class Watching(torch.overrides.TorchFunctionMode):  # type: ignore[misc, name-defined]
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls.append(func)
            return func(*args, **(kwargs or {}))

    with Watching(), spelled_out():
        F.adaptive_avg_pool2d(torch.zeros(IMAGE), 2)
    assert F.adaptive_avg_pool2d in calls


class Remembering(torch.nn.Module):
    """Doubles what comes while nothing is remembered, as streaming modules do with what came before."""

    def __init__(self, past: int) -> None:
        super().__init__()
        self.register_buffer("past", torch.zeros(past, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not len(self.past):
            x = 2 * x
        return x + 1


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("past", [0, 3])
def test_a_scripted_not_of_a_number_is_exported(tmp_path: Path, past: int) -> None:
    sample = {"x": np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)}
    model = torch_source.from_module("net", torch.jit.script(Remembering(past).eval()), sample)
    assert torch_source.export(model, sample, tmp_path / "net.onnx", tmp_path / "log") == ()  # no other took over
    found = OnnxRunner(onnx_source.load(tmp_path / "net.onnx")).run(sample)
    np.testing.assert_array_equal(*found.values(), (1 if past else 2) * sample["x"] + 1)
