"""Rewritten ONNX models compute what they computed, in forms that onnx2tf converts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converters.convert import convert
from edgeqwt.converters.from_onnx import source as onnx_source
from edgeqwt.converters.from_onnx.loadable import loadable
from edgeqwt.converters.from_onnx.rewrites import rewritten
from edgeqwt.converters.from_onnx.source import OnnxRunner
from edgeqwt.converters.from_torch import source as torch_source
from edgeqwt.errors import InputError
from edgeqwt.runtime.runners import xnnpack
from tests.converters.nodes import of_nodes

if TYPE_CHECKING:
    import onnx
    import torch

pytestmark = pytest.mark.requires("torch", "onnxruntime")


def layer(make: Callable[[], Any], forward: Callable[..., torch.Tensor] | None = None) -> torch.nn.Module:
    """A module of one layer, and what is computed with it."""
    import torch

    torch.manual_seed(0)
    inner = make()

    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return forward(self.inner, x) if forward is not None else self.inner(x)

    return One().eval()


def exported(module: torch.nn.Module, shape: tuple[int, ...], folder: Path) -> onnx.ModelProto:
    """As torch writes it."""
    sample = {"x": np.zeros(shape, np.float32)}
    model = torch_source.from_module("layer", module, sample, None)
    torch_source.export(model, sample, folder / "model.onnx", folder / "log")
    return loadable(onnx_source.load(folder / "model.onnx"))


def assigned(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Ranges of the last axis, as detection heads write them."""
    out = inner(x).clone()
    out[..., :2] = out[..., :2] * 8
    out[..., 4:] = out[..., 4:].sigmoid()
    return out


def woven(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Every second element."""
    out = inner(x).clone()
    out[..., ::2] = out[..., 1::2].tanh()
    return out


def framed(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A range along two axes."""
    import torch

    out = torch.zeros(1, 6, 10)
    out[:, 1:-1, 2:-2] = inner(x)
    return out


def added(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Sums at positions that depend on data."""
    import torch

    y = inner(x)
    return torch.zeros(1, 4, 5).scatter_add(2, (y.abs() * 2).long() % 5, y)


def marked(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A one at a position of each row that depends on data, as VQ-VAEs choose a codebook's row."""
    import torch

    y = inner(x)
    return torch.zeros(1, 4, 6).scatter_(2, y.argmin(2, keepdim=True), 1) + y


def spectrum(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Of overlapping frames."""
    import torch

    parts = torch.stft(inner(x), 16, 8, window=torch.hann_window(16), center=False, return_complex=True)
    return torch.view_as_real(parts)


def torch_einsum(x: torch.Tensor) -> torch.Tensor:
    """Of one tensor: a sum, and axes in another order."""
    import torch

    return torch.einsum("abc->cb", x)


def bilinear(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Forms of two vectors, with a letter that is kept by all, one that is summed in one tensor, and four tensors."""
    import torch

    forms = torch.einsum("bti,oij,btj->tbo", x, inner.weight, x.relu())
    return forms + torch.einsum("bti,oi,ok,oij->bo", x, inner.weight[:, 0], inner.weight[:, 1], inner.weight)


def outer(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Each value with each: over one axis, and over axes that leave no other free."""
    some = inner(x).reshape(1, 1, 2, 36)
    all_axes = x.reshape(6, 1, 12, 1) - x.reshape(1, 12, 1, 6)
    return (some[..., None, 0, :] * some[..., 0, :, None]).sum() + all_axes


def shuffled(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Halves of the channels, one of them changed, and woven together, as in ShuffleNet; and a part of others."""
    import torch

    half = x.shape[1] // 2
    mixed = torch.cat((x[:, :half], inner(x[:, half:])), 1)
    mixed = mixed.reshape(1, 2, half, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
    first, second = mixed.chunk(2, 1)
    return first * second + mixed[:, 1 : half + 1]


def halved_again(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Halves, and halves of what was computed from them, as in YOLO's blocks: sizes that are computed one by one."""
    import torch

    for _ in range(3):
        first, second = x.chunk(2, 1)
        x = torch.cat((first, inner(second)), 1)
    return x


def convolved(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A convolution in groups whose weights depend on the image."""
    import torch

    weights = inner(x.mean((1, 2, 3))[:, None]).reshape(6, 2, 3, 2)
    bias = torch.linspace(-1, 1, 6)
    return torch.nn.functional.conv2d(x, weights, bias, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)


def limited(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Integers clamped to 0..1, to one side, and used as an index."""
    import torch

    whole = (8 * x).to(torch.int64)
    picked = inner(whole.clamp(0, 5))
    return picked * whole.clamp(0, 1)[..., None] + whole.clamp(min=2)[..., None]


@cache
def cases() -> dict[str, tuple[Any, ...]]:
    """Name -> module, input shape, kinds that must go, and a kind that must be there."""
    from torch import nn

    line, volume = (1, 4, 12), (1, 3, 4, 6, 6)
    token = (1, 4, 6)
    return {
        "groups": (layer(lambda: nn.Conv1d(4, 8, 3, 2, 2, 2, groups=2)), line, "", "Conv"),
        "slopes": (layer(lambda: nn.PReLU(4)), line, "", "PRelu"),
        "computed weights": (layer(lambda: nn.Linear(1, 72), convolved), (1, 4, 7, 6), "Conv", "MatMul"),
        "gaps": (
            layer(lambda: nn.MaxPool2d((3, 2), (2, 1), (1, 1), (2, 3), ceil_mode=True)),
            volume[1:],
            "MaxPool",
            "Max",
        ),
        "gaps along a line": (layer(lambda: nn.MaxPool1d(3, 1, 1, 2)), line, "MaxPool", "Max"),
        "as large with gaps": (
            layer(
                lambda: nn.Sequential(
                    nn.Conv1d(4, 4, 3, dilation=2, padding="same"), nn.Conv1d(4, 4, 4, dilation=2, padding="same")
                )
            ),
            line,
            "",
            "Conv",
        ),
        "norm": (layer(lambda: nn.InstanceNorm1d(4, affine=True)), line, "InstanceNormalization", "Sqrt"),
        "group norm": (
            layer(lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Conv1d(4, 4, 3))),
            line,
            "InstanceNormalization",
            "Conv",
        ),
        "elu": (layer(lambda: nn.ELU(0.5)), line, "", "Elu"),
        "sum": (layer(nn.Identity, lambda _, x: torch_einsum(x)), line, "Einsum", "ReduceSum"),
        "bilinear": (layer(lambda: nn.Bilinear(12, 12, 3), bilinear), line, "Einsum", "MatMul"),
        "turned": (layer(nn.Identity, lambda _, x: x.flip((1, 2))), line, "Slice", "Gather"),
        "sorted": (layer(nn.Identity, lambda _, x: x.sort(-1)[0]), line, "", "TopK"),
        "range": (layer(lambda: nn.Linear(6, 6), assigned), token, "ScatterND", "Concat"),
        "woven": (layer(lambda: nn.Linear(6, 6), woven), token, "ScatterND", "Gather"),
        "frame": (layer(lambda: nn.Linear(6, 6), framed), token, "ScatterND", "Concat"),
        "added": (layer(lambda: nn.Linear(6, 6), added), token, "ScatterElements", "OneHot"),
        "marked": (layer(lambda: nn.Linear(6, 6), marked), token, "ScatterElements", "OneHot"),
        "spectrum": (layer(nn.Identity, spectrum), (1, 64), "STFT", "Conv"),
        "each with each": (layer(nn.Identity, outer), (1, 2, 36), "", "Expand"),
        "halves": (layer(lambda: nn.Conv2d(3, 3, 1), shuffled), (1, 6, 4, 4), "", "Split"),
        "halves of halves": (layer(lambda: nn.Conv2d(3, 3, 1), halved_again), (1, 6, 4, 4), "Slice", "Split"),
        "limits": (layer(lambda: nn.Embedding(6, 4), limited), line, "Clip", "Max"),
        "volume": (layer(lambda: nn.Conv3d(3, 4, 3, (2, 1, 2), (1, 0, 1), dilation=(1, 2, 1))), volume, "", "Conv"),
        "depthwise": (layer(lambda: nn.Conv3d(3, 6, (3, 1, 3), padding=1, groups=3)), volume, "", "Gather"),
        "grown": (
            layer(lambda: nn.ConvTranspose3d(3, 2, 3, 2, 1, output_padding=1)),
            volume,
            "",
            "ConvTranspose",
        ),
        "volumes": (
            layer(
                lambda: nn.Sequential(
                    nn.Conv3d(3, 4, 3, padding=1),
                    nn.BatchNorm3d(4),
                    nn.ReLU(),
                    nn.MaxPool3d(2, 2, (1, 0, 0)),
                    nn.AvgPool3d((2, 1, 3), (1, 1, 3)),
                    nn.Conv3d(4, 5, 1),
                    nn.AdaptiveAvgPool3d(1),
                    nn.Flatten(),
                )
            ),
            volume,
            "GlobalAveragePool",
            "ReduceMean",
        ),
    }


NAMES = """
groups, slopes, computed weights, gaps, gaps along a line, as large with gaps, norm, group norm, elu, sum, bilinear,
turned, sorted, range, woven, frame, added, marked, spectrum,
each with each, halves, halves of halves, limits, volume, depthwise, grown, volumes
"""


@pytest.mark.parametrize("name", NAMES.strip().replace("\n", " ").split(", "))
def test_the_same_is_computed(name: str, tmp_path: Path) -> None:
    module, shape, gone, there = cases()[name]
    model = exported(module, shape, tmp_path)
    new = rewritten(model)
    kinds = {node.op_type for node in new.graph.node}
    assert gone not in kinds
    assert there in kinds
    for node in new.graph.node:  # no convolution or pool over a volume is left
        assert len({a.name: a.ints for a in node.attribute}.get("kernel_shape", ())) != 3
    sample = {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    (before,), (after,) = OnnxRunner(model).run(sample).values(), OnnxRunner(new).run(sample).values()
    assert after.shape == before.shape
    # Sums of some hundred terms in another order, in float32.
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * max(1.0, float(np.abs(before).max())))


def test_what_needs_no_rewriting_comes_back_as_it_is(tmp_path: Path) -> None:
    from torch import nn

    model = exported(layer(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))), (1, 3, 8, 8), tmp_path)
    assert rewritten(model) is model


@pytest.mark.requires("onnx2tf")
def test_onnx2tf_converts_the_forms(tmp_path: Path) -> None:
    """A grouped Conv1d, slopes over a line, volumes (one with as many channels as places), an assignment to a range."""
    from torch import nn

    def forward(inner: Any, x: torch.Tensor) -> torch.Tensor:
        y = inner[1](inner[0](x))
        z = inner[3](inner[2](y.reshape(1, 2, 4, 4, 4)))
        out = z.flatten(2).clone()
        out[:, :, :3] = out[:, :, :3].tanh()
        return out

    def make() -> Any:
        volumes = nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 3, 3, padding=1)
        return nn.ModuleList([nn.Conv1d(4, 8, 3, padding=1, groups=2), nn.PReLU(8), *volumes])

    module = layer(make, forward)
    samples = from_arrays({"x": np.random.default_rng(0).normal(size=(2, 4, 16)).astype(np.float32)})
    found, sample = convert(module, samples, tmp_path), samples.first()
    wanted = next(iter(found.run_source(sample).values()))
    values = xnnpack(found.graph).run(found.graph_inputs(sample))
    got = found.outputs[0].to_source(values[found.outputs[0].tensor])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.requires("onnx2tf")
def test_moves_of_blocks_that_are_no_space_to_depth_do_not_stop_onnx2tf(tmp_path: Path) -> None:
    """Blocks to an axis of their own, as MobileViTv2 has them; a size of -1; a move that two read."""
    import onnx
    from onnx import helper, numpy_helper

    blocks, node = (1, 4, 3, 2, 3, 2), helper.make_node
    sizes = {"blocks": blocks, "own": (1, 4, -1, 9), "depth": (1, -1, 3, 3), "whole": (1, 16, 3, 3)}
    nodes, moved = [], (0, 1, 3, 5, 2, 4)
    for k, size in enumerate(("own", "depth", "whole")):  # one behind the other: onnx2tf sees neighbours alone
        nodes += [node("Tanh", [f"d{k - 1}" if k else "x"], [f"a{k}"]), node("Reshape", [f"a{k}", "blocks"], [f"b{k}"])]
        nodes.append(node("Transpose", [f"b{k}"], [f"c{k}"], perm=moved))
        nodes.append(node("Reshape", [f"c{k}", size], [f"d{k}"]))
    nodes.append(node("Exp", ["c2"], ["read again"]))
    info = {name: helper.make_tensor_value_info(name, 1, shape) for name, shape in {
        "x": (1, 4, 6, 6), "d2": (1, 16, 3, 3),
        "read again": tuple(blocks[axis] for axis in moved)}.items()}  # fmt: skip
    held = [numpy_helper.from_array(np.array(size, np.int64), name) for name, size in sizes.items()]
    onnx.save(of_nodes(nodes, list(info.values()), held), tmp_path / "m.onnx")
    samples = from_arrays({"x": np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)})
    found, sample = convert(tmp_path / "m.onnx", samples, tmp_path / "work", converter="onnx2tf"), samples.first()
    values = xnnpack(found.graph).run(found.graph_inputs(sample))
    for output, wanted in zip(found.outputs, found.run_source(sample).values(), strict=True):
        np.testing.assert_allclose(output.to_source(values[output.tensor]), wanted, rtol=1e-6, atol=1e-6)


def test_one_tensor_as_two_outputs_is_told() -> None:
    from onnx import helper

    ends = [helper.make_tensor_value_info(name, 1, (1, 3)) for name in ("x", "first", "second")]
    nodes = [helper.make_node("Relu", ["x"], ["first"]), helper.make_node("Identity", ["first"], ["second"])]
    model = helper.make_model(helper.make_graph(nodes, "twice", ends[:1], ends[1:]))
    with pytest.raises(InputError, match="outputs 'first' and 'second' are one tensor"):
        rewritten(model)


def test_of_limits_in_the_wrong_order_the_upper_one_holds() -> None:
    """As ONNX's Clip has it."""
    from onnx import helper, numpy_helper

    ends = [helper.make_tensor_value_info(name, 7, (4,)) for name in "xy"]
    held = [numpy_helper.from_array(np.array(n), name) for name, n in (("low", 5), ("high", 2))]
    model = rewritten(of_nodes([helper.make_node("Clip", ["x", "low", "high"], ["y"])], ends, held))
    assert "Clip" not in [node.op_type for node in model.graph.node]
    assert OnnxRunner(model).run({"x": np.array([0, 3, 7, -1])})["y"].tolist() == [2, 2, 2, 2]


@pytest.mark.requires("onnx2tf")
def test_limits_close_to_0_are_not_taken_for_it(tmp_path: Path) -> None:
    """As before logarithms: onnx2tf makes a RELU of a limit of 1e-10, and the logarithm of 0 is infinite."""
    import torch

    def logarithms(inner: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        power = inner(x).relu()
        return (
            power.clamp(min=1e-7).log() + torch.maximum(power, torch.tensor(1e-9)).log() + power.clamp(1e-8, 1).sqrt()
        )

    samples = from_arrays({"x": np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)})
    found = convert(layer(lambda: torch.nn.Linear(6, 8), logarithms), samples, tmp_path, converter="onnx2tf")
    assert [op.kind for op in found.graph.ops].count("MAXIMUM") == 3
    for sample in samples:
        wanted = next(iter(found.run_source(sample).values()))
        assert wanted.min() < -10  # some values are limited
        values = xnnpack(found.graph).run(found.graph_inputs(sample))
        np.testing.assert_allclose(values[found.outputs[0].tensor], wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", ["Slice", "ReverseSequence"])
def test_what_lies_in_front_is_turned(kind: str) -> None:
    """A mask whose padding stays behind, and the first values of a signal, which mirror it before its beginning."""
    from onnx import helper, numpy_helper

    lengths = {"lengths": [3, 3]} if kind != "Slice" else {"start": [2], "end": [-(2**63)], "axis": [1], "step": [-1]}
    where = {"batch_axis": 0, "time_axis": 1} if kind != "Slice" else {}
    nodes = [helper.make_node("Greater", ["x", "zero"], ["mask"]), helper.make_node(kind, ["mask", *lengths], ["m"])]
    nodes = [*nodes, helper.make_node("Where", ["m", "seven", "zero"], ["y"])]
    nodes[1].attribute.extend(helper.make_attribute(key, value) for key, value in where.items())
    held = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in lengths.items()]
    held += [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("zero", 0), ("seven", 7))]
    ends = [helper.make_tensor_value_info("x", 1, (2, 5)), helper.make_tensor_value_info("y", 1, (2, None))]
    model = of_nodes(nodes, ends, held)
    new, sample = rewritten(model), {"x": np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)}
    assert "Gather" in {node.op_type for node in new.graph.node}
    assert np.array_equal(OnnxRunner(model).run(sample)["y"], OnnxRunner(new).run(sample)["y"])
    if kind != "Slice":  # of other lengths it stays
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([3, 4]), "lengths"))
        assert rewritten(model) is model
