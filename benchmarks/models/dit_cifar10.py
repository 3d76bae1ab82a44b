"""A small class-conditional diffusion transformer for CIFAR-10 with adaLN-zero (Peebles and Xie 2023), and a sampler.

    python benchmarks/train.py dit_cifar10
    edgeqwt build benchmarks/models/dit_cifar10.py:create --calibration samples.npz ...

It predicts the velocity (Salimans and Ho 2022) at times of a cosine schedule (Nichol and Dhariwal 2021); the sampler
is DDIM without noise (Song et al. 2021). The time step is an index, whose sinusoidal features lie in a table: a file
looks them up. The weights are looked for in the folder that the environment variable EDGEQWT_TRAINED names, else in
~/.cache/edgeqwt-trained, under a name that changes with the architecture.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

Array = npt.NDArray[Any]
Velocity = Callable[[Array, Array, Array], Array]
"""Images (n, 3, 32, 32) float32, time steps (n,) and classes (n,) to velocities like the images."""

NAME = "dit_cifar10"
CLASSES = 10
SIDE, PATCH, TOKENS = 32, 4, 64
DEPTH, HEADS, WIDTH, INNER = 5, 4, 128, 256
TIMES, FEATURES = 1000, 128
STEPS = 20
"""Of the sampler."""


class Attention(nn.Module):
    """Self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) to the same."""
        query, key, value = (self._heads(part) for part in self.qkv(x).chunk(3, dim=-1))
        weights = (query * self.scale @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.project((weights @ value).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Modulation(nn.Linear):
    """A linear layer that begins at zero, so that a block begins as the identity: the zero of adaLN-zero."""

    def reset_parameters(self) -> None:
        """Sets weights and bias to zero."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class Block(nn.Module):
    """Attention and two linear layers with GELU; the condition shifts and scales norms and gates what is added."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, elementwise_affine=False) for _ in range(2))
        self.attention = Attention(WIDTH, HEADS)
        self.widen, self.narrow = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.modulate = Modulation(WIDTH, 6 * WIDTH)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, TOKENS, WIDTH) and (N, 1, WIDTH) to the former."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(condition).chunk(6, dim=-1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        y = functional.gelu(self.widen(self.norm2(x) * (1 + scale2) + shift2))
        return x + gate2 * self.narrow(y)


class DiT(nn.Module):
    """Patches with learned positions, the blocks, a modulated LayerNorm and patches back to pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.positions = nn.Parameter(torch.empty(1, TOKENS, WIDTH))
        self.times = nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.classes = nn.Embedding(CLASSES, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm, self.modulate = nn.LayerNorm(WIDTH, elementwise_affine=False), Modulation(WIDTH, 2 * WIDTH)
        self.pixels = nn.ConvTranspose2d(WIDTH, 3, PATCH, PATCH)
        self.features: Tensor
        self.register_buffer("features", _features(), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the positions anew."""
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Noisy images (N, 3, 32, 32), time steps (N,) below TIMES and classes (N,) to velocities as the images."""
        condition = functional.silu(self.times(functional.embedding(t, self.features)) + self.classes(y)).unsqueeze(1)
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.modulate(condition).chunk(2, dim=-1)
        x = self.norm(x) * (1 + scale) + shift
        return self.pixels(x.transpose(1, 2).unflatten(2, (SIDE // PATCH, SIDE // PATCH)))


def _features() -> Tensor:
    """The sinusoidal features (TIMES, FEATURES) of the time steps: Vaswani et al. 2017."""
    rates = torch.exp(-math.log(10000) * torch.arange(FEATURES // 2) / (FEATURES // 2))
    angles = torch.arange(TIMES)[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=1)


def schedule(times: Array) -> tuple[Array, Array]:
    """What of the image and of the noise is in a noisy image at time steps: their squares sum to 1."""
    angle = (np.asarray(times, np.float64) + 1) / (TIMES + 1) * (np.pi / 2)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def loss(model: nn.Module, images: Tensor, classes: Tensor, random: torch.Generator) -> Tensor:
    """The mean square error of the velocities that the network predicts at random times; near 1 for their mean."""
    times, noise = torch.randint(0, TIMES, (len(images),), generator=random), torch.empty_like(images)
    noise.normal_(generator=random)
    a, b = (torch.from_numpy(part)[:, None, None, None] for part in schedule(times.numpy()))
    with torch.autocast("cpu", torch.bfloat16):
        found = model(a * images + b * noise, times, classes)
    return functional.mse_loss(found.float(), a * noise - b * images)


def sampler_times(steps: int = STEPS) -> Array:
    """The time steps that the sampler visits, the noisiest first (steps,) int64."""
    return np.linspace(TIMES - 1, 0, steps + 1).round().astype(np.int64)[:-1]


def sample(velocity: Velocity, noise: Array, classes: Array, steps: int = STEPS) -> tuple[Array, list[Array]]:
    """Images that DDIM makes of noise, and the noisy images that the network was asked about, one for each step.

    Args:
        velocity: the network, in whatever runtime.
        noise: (n, 3, 32, 32) float32.
        classes: (n,).
        steps: how many times the network is asked.
    """
    times, x, seen = sampler_times(steps), noise, []
    following = [schedule(t) for t in times[1:]] + [(np.float32(1), np.float32(0))]
    for t, (signal, rest) in zip(times, following, strict=True):
        seen.append(x)
        a, b = schedule(t)
        v = velocity(x, np.full(len(x), t), classes)
        image, eps = np.clip(a * x - b * v, -CLIP, CLIP), b * x + a * v
        x = (signal * image + rest * eps).astype(np.float32)
    return x, seen


CLIP = 3.0
"""Of the image that a step sees behind the noise: normalized pixels lie within 2.7."""


def network() -> nn.Module:
    """The network before training."""
    return DiT()


def weights_file() -> Path:
    """Where the trained weights are kept, outside of the repository."""
    folder = Path(os.environ.get("EDGEQWT_TRAINED", Path.home() / ".cache" / "edgeqwt-trained"))
    return folder / f"{NAME}-{hashlib.sha256(repr(network()).encode()).hexdigest()[:12]}.pt"


def create() -> nn.Module:
    """The trained network, in evaluation mode.

    Raises:
        FileNotFoundError: it has not been trained yet; the message says how to do that.
    """
    path = weights_file()
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; train them with: python benchmarks/train.py {NAME}")
    model = network()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()
