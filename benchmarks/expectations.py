"""A softmax whose shares weigh coordinates or distances: 8 bits and regions of 16, beside the float network's error.

Two small networks, trained here for a minute: a key point as the expected position on a heat map (soft-argmax; Sun et
al. 2018, "Integral human pose regression"), and the sides of a box as expected distances in 16 bins ("Generalized focal
loss", Li et al. 2020, as recent YOLO heads have it).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from common import Array, Requirement, finish, outputs, show
from torch import Tensor, nn

import edgeqwt
from edgeqwt.output import progress_display
from edgeqwt.passes.technique import without
from edgeqwt.recipe.recipe import load

SIZE, BINS, CALIBRATION, FRESH, BATCH = 32, 16, 128, 1000, 32
LEAST_GAIN = 3.0  # dB


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """With a batch norm and ReLU."""
    layers = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    return nn.Sequential(*layers)


class KeyPoint(nn.Module):
    """Images (n, 1, 32, 32) to x and y from 0 to 1, shape (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(1, 16), convolution(16, 32, 2), convolution(32, 32), nn.Conv2d(32, 1, 1))
        self.register_buffer("along", torch.linspace(0, 1, SIZE // 2))

    def forward(self, x: Tensor) -> Tensor:
        """The mean position."""
        shares = self.body(x).flatten(2).softmax(-1).view(-1, SIZE // 2, SIZE // 2)
        return torch.stack([(shares.sum(1) * self.along).sum(-1), (shares.sum(2) * self.along).sum(-1)], -1)


class Box(nn.Module):
    """The same images to a box's distances from the middle, left, top, right and bottom, shape (n, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(1, 16, 2), convolution(16, 32, 2), convolution(32, 32, 2))
        self.bins, self.mean = nn.Linear(32 * 16, 4 * BINS), nn.Conv2d(BINS, 1, 1, bias=False)
        self.mean.weight.data[:] = torch.arange(float(BINS)).view(1, BINS, 1, 1)
        self.mean.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """The mean distance of each side."""
        scores = self.bins(self.body(x).flatten(1)).view(-1, 4, BINS, 1)
        return self.mean(scores.transpose(1, 2).softmax(1)).view(-1, 4)


def spots(count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images of a spot in noise, and where it lies."""
    where, along = torch.rand(count, 2, generator=draw) * 0.8 + 0.1, torch.linspace(0, 1, SIZE)
    x, y = (torch.square(along[None] - where[:, k : k + 1]) for k in (0, 1))
    images = torch.exp(-(x[:, None, :] + y[:, :, None]) / 0.01)
    return (images + 0.2 * torch.randn(images.shape, generator=draw))[:, None], where


def boxes(count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images of a bright box around the middle in noise, and how far its sides are."""
    sides, along = torch.rand(count, 4, generator=draw) * 12 + 2, torch.arange(SIZE) - (SIZE - 1) / 2
    inside = [(-sides[:, k : k + 1] < along) & (along < sides[:, k + 2 : k + 3]) for k in (0, 1)]
    images = (inside[0][:, None, :] & inside[1][:, :, None]).float()
    return (images + 0.2 * torch.randn(images.shape, generator=draw))[:, None], sides


Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Draw]] = {
    "key point (soft-argmax)": (KeyPoint, spots),
    "box sides (16 bins)": (Box, boxes),
}


def trained(kind: Callable[[], nn.Module], drawn: Draw, steps: int) -> nn.Module:
    """The network after some steps of Adam on the mean distance."""
    torch.manual_seed(0)
    model, draw = kind(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 2e-3)
    for _ in range(steps):
        images, wanted = drawn(BATCH, draw)
        loss = (model(images) - wanted).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def figures(found: Array, floating: Array, truth: Array) -> tuple[float, float]:
    """SQNR of what varies, and the mean distance from the truth."""
    varying = np.square(floating - floating.mean(axis=0)).sum()
    db = 10 * np.log10(varying / np.square(found - floating).sum())
    return float(db), float(np.abs(found - truth).mean())


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="expectations", description=__doc__)
    parser.add_argument("--steps", type=int, default=600, help="of training")
    asked = parser.parse_args()
    fast = load("fast")
    fast = replace(fast, quality=replace(fast.quality, accept=True), ceiling=False)
    table, required = [], []
    for name, (kind, drawn) in NETWORKS.items():
        model, draw = trained(kind, drawn, asked.steps), torch.Generator().manual_seed(1)
        calibration, (fresh, truth) = drawn(CALIBRATION, draw)[0].numpy(), drawn(FRESH, draw)
        with torch.inference_mode():
            floating = model(fresh).numpy().astype(np.float64)
        found = {"float": (np.inf, float(np.abs(floating - truth.numpy()).mean()))}
        for what, names in (("8 bits", ("regions16", "regions16_review")), ("with `regions16`", ())):
            recipe = replace(fast, techniques=without(fast.techniques, *names))
            result = edgeqwt.build(model, calibration=calibration, recipe=recipe, display=progress_display())
            values = outputs(result.graph, fresh.permute(0, 2, 3, 1).numpy()[:, None]).reshape(floating.shape)
            found[what] = figures(values, floating, truth.numpy())
        table += [(name, what, f"{db:.1f}", f"{error:.4f}") for what, (db, error) in found.items()]
        gain = found["with `regions16`"][0] - found["8 bits"][0]
        required.append(Requirement(name, f">= {LEAST_GAIN} dB", f"{gain:+.1f}", gain >= LEAST_GAIN))
    heads = ("network", "file", "dB of what varies", "mean error")
    show(f"`fast`, w8a8, {CALIBRATION} calibration images, {FRESH} fresh ones", heads, table)
    finish(required)


if __name__ == "__main__":
    main()
