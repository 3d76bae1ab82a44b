"""Inputs for the networks, and what makes random networks behave like trained ones."""

from __future__ import annotations

import io
import os
import tokenize
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.zoo.networks import Network

Array = npt.NDArray[Any]
ROOT = Path(__file__).resolve().parents[2]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 16


def samples(network: Network, count: int) -> list[dict[str, Array]]:
    """Photographs or text, cut to the network's size."""
    if network.vocabulary:
        return _texts(network, count)
    (name, (_, channels, height, width)), *_ = network.inputs.items()
    return [{name: image} for image in _images(count, channels, height, width)]


def _images(count: int, channels: int, height: int, width: int) -> list[Array]:
    from PIL import Image

    folder = Path(os.environ.get("EDGEQWT_SHARED", ROOT.parent / "shared")) / "data" / "photos"
    files = sorted(folder.glob("*.jpg"))[:count]
    found = []
    for i in range(count):
        if i < len(files):
            with Image.open(files[i]) as opened:
                pixels = np.asarray(opened.convert("RGB").resize((width, height)), np.float32) / 255
        else:
            pixels = _texture(i, height, width)
        scaled = ((pixels - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]
        found.append(np.ascontiguousarray(scaled[:, :1] if channels == 1 else scaled))
    return found


def _texture(seed: int, height: int, width: int) -> Array:
    """Noise whose amplitude falls with frequency, as that of photographs does; (height, width, 3) in 0..1."""
    rng = np.random.default_rng(seed)
    fy, fx = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** 1.2
    planes = [np.fft.ifft2(amplitude * np.exp(2j * np.pi * rng.random((height, width)))).real for _ in range(3)]
    values: Array = np.stack([0.5 + 0.2 * plane / plane.std() for plane in planes], axis=2)
    return values.clip(0, 1).astype(np.float32)


def _texts(network: Network, count: int) -> list[dict[str, Array]]:
    """Words of this very repository's sources, numbered by hash; sentences of different lengths."""
    source = (ROOT / "edgeqwt" / "graph" / "graph.py").read_text("utf-8")
    words = [token.string for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.string.strip()]
    length = network.inputs["input_ids"][1]
    ids = [3 + sum(map(ord, word)) % (network.vocabulary - 3) for word in words]
    found = []
    for i in range(count):
        used = length - i % (length // 2)
        start = 97 * i % (len(ids) - length)
        row = np.zeros((1, length), np.int64)
        row[0, :used] = ids[start : start + used]
        mask = (np.arange(length) < used)[None].astype(np.int64)
        given = {"input_ids": row, "attention_mask": mask}
        found.append({name: given[name] for name in network.inputs})
    return found


def smooth(network: Network) -> None:
    """Blurs the filters of convolutions, as those of trained networks are smooth.

    Random filters are white: they pass what differs from pixel to pixel better than the smooth maps of a photograph,
    so that a random network magnifies noise as no trained one does. Each filter keeps its norm.
    """
    for module in network.module.modules():
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
            with torch.no_grad():
                weight = module.weight
                norms = weight.flatten(1).norm(dim=1).clamp(min=1e-12)
                blurred = _blurred(_blurred(weight, 2), 3)
                weight.copy_(blurred * (norms / blurred.flatten(1).norm(dim=1).clamp(min=1e-12))[:, None, None, None])


def _blurred(values: torch.Tensor, axis: int) -> torch.Tensor:
    """Convolved with (1, 2, 1) / 4 along an axis, zeros beyond its ends."""
    if values.shape[axis] == 1:
        return values
    zeros = torch.zeros_like(values.narrow(axis, 0, 1))
    before = torch.cat([zeros, values.narrow(axis, 0, values.shape[axis] - 1)], axis)
    after = torch.cat([values.narrow(axis, 1, values.shape[axis] - 1), zeros], axis)
    return (before + 2 * values + after) / 4


def settle(network: Network, data: list[dict[str, Array]], bias: float) -> None:
    """Batch norms get the statistics of realistic activations, and weights and biases of their own.

    Args:
        network: changed in place.
        data: samples to take the statistics of.
        bias: mean of the norms' biases. Around 0, an activation cuts half of what varies, and random networks become
            chaotic; well above 0 most of it passes, as in trained ones.
    """
    norms = [m for m in network.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            # The plain average of what is seen: a share of the statistics that the norms begin with, variance 1, would
            # shrink activations from layer to layer until outputs vary by no more than rounding does.
            norm.momentum = None
            norm.reset_running_stats()
            if norm.affine:
                norm.weight.uniform_(0.6, 1.4)
                norm.bias.normal_(bias, 0.2)
            norm.train()
        for i in range(0, max(len(data) - 1, 1), BATCH):  # one sample alone has no variance
            network.module(*_batch(data[i : i + BATCH]))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def standardized(network: Network, data: list[dict[str, Array]]) -> nn.Module:
    """The network with outputs of mean 0 and deviation 1 over the samples, by the layers that write its classes.

    The outputs of random networks hardly vary between samples otherwise, and nothing could be said of them. What such a
    layer writes at several positions has mean 0 and deviation 1 in their mean: a network that pools after its
    activation varies as much as it is large.
    """
    with torch.no_grad():
        for layer in network.module.modules():  # some networks begin with classes of zeros
            if isinstance(layer, nn.Linear) and not layer.weight.any():
                layer.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
        parts = [_first(network.module(*_batch(data[i : i + BATCH]))) for i in range(0, len(data), BATCH)]
    values = torch.cat(parts)
    if values.ndim != 2:
        return network.module
    written = _heads(network, values.shape[1], data)
    for head, seen in written.items():
        mean, deviation = seen.mean(0), seen.std(0).clamp(min=1e-6)
        with torch.no_grad():
            bias = torch.zeros_like(mean) if head.bias is None else head.bias
            head.weight /= deviation.reshape(-1, *[1] * (head.weight.ndim - 1))
            head.bias = nn.Parameter((bias - mean) / deviation)
    if written:
        return network.module
    return _Standardized(network.module, values.mean(0), values.std(0).clamp(min=1e-6)).eval()


def _heads(network: Network, classes: int, data: list[dict[str, Array]]) -> dict[nn.Linear | nn.Conv2d, torch.Tensor]:
    """The linear layers that have an output per class, each with what it writes for each sample, (samples, classes)."""
    seen: dict[nn.Linear | nn.Conv2d, list[torch.Tensor]] = {}

    def keep(layer: nn.Linear | nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        values = output if isinstance(layer, nn.Linear) else output.movedim(1, -1)
        seen.setdefault(layer, []).append(values.reshape(len(values), -1, classes).mean(1))

    hooks = []
    for layer in network.module.modules():
        wide = isinstance(layer, nn.Linear) and layer.out_features == classes
        if wide or (isinstance(layer, nn.Conv2d) and layer.out_channels == classes):
            hooks.append(layer.register_forward_hook(keep))
    with torch.no_grad():
        for i in range(0, len(data), BATCH):
            network.module(*_batch(data[i : i + BATCH]))
    for hook in hooks:
        hook.remove()
    return {layer: torch.cat(parts) for layer, parts in seen.items()}


def noise_gain_db(module: nn.Module, data: list[dict[str, Array]]) -> float | None:
    """By how many dB the network magnifies noise at its input, beside what varies between samples; None of integers.

    The noise is white and a thousandth of the input's deviation. 0 dB: noise and what varies pass alike.
    """
    given = _batch(data[:BATCH])
    if not given[0].is_floating_point():
        return None
    noise = torch.randn(given[0].shape, generator=torch.Generator().manual_seed(0)) * given[0].std() / 1000
    with torch.no_grad():
        before, after = (_first(module(x, *given[1:])) for x in (given[0], given[0] + noise))
    gain = _beside(after - before, before) / _beside(noise, given[0])
    return round(float(10 * gain.log10()), 1)


def _beside(noise: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return noise.double().square().sum() / (values - values.mean(0)).double().square().sum()


def _first(found: torch.Tensor | tuple[torch.Tensor, ...] | list[torch.Tensor]) -> torch.Tensor:
    return found[0] if isinstance(found, tuple | list) else found


class _Standardized(nn.Module):
    def __init__(self, module: nn.Module, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", mean)
        self.register_buffer("factor", 1 / deviation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (_first(self.module(x)) - self.mean) * self.factor


def _batch(data: list[dict[str, Array]]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.concatenate([sample[name] for sample in data])) for name in data[0]]
