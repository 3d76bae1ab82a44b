"""Trains a network of benchmarks/models on CIFAR-10 and keeps its weights outside of the repository."""

from __future__ import annotations

import argparse
import io
import os
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from common import cifar10, normalized, shared
from models import dscnn_cifar10, mobilenetv2_cifar10
from torch import Tensor, nn

EPOCHS = {mobilenetv2_cifar10: 8, dscnn_cifar10: 14}
"""Passes over the training images: about 20 minutes each, both side by side on 2 busy cores."""
NETWORKS = {module.NAME: module for module in EPOCHS}


@dataclass(frozen=True)
class Settings:
    """How a network is trained; the defaults are those of the benchmarks.

    Attributes:
        epochs: passes over the training images.
        rate: the highest learning rate of the one-cycle schedule.
        shift: random crops move an image by up to so many pixels.
    """

    epochs: int
    batch: int = 128
    rate: float = 0.2
    momentum: float = 0.9
    decay: float = 2e-4
    shift: int = 3
    seed: int = 0


def main() -> None:
    """Trains the networks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=sorted(NETWORKS), help="all of them by default")
    parser.add_argument("--epochs", type=int, help="passes over the training images, in place of the network's own")
    arguments = parser.parse_args()
    # One thread sums in one order, so that a seed gives one set of weights; train networks side by side instead.
    torch.set_num_threads(1)
    data = cifar10()
    test = torch.from_numpy(normalized(data["test_images"])), torch.from_numpy(data["test_labels"])
    for name in arguments.names or NETWORKS:
        module, start = NETWORKS[name], time.perf_counter()
        model = train(module.network(), *training_data(), Settings(epochs=arguments.epochs or EPOCHS[module]))
        save(model, module.weights_file())
        print(f"{name}: {top1(model, *test):.4f} of the test images, {time.perf_counter() - start:.0f} s")
        print(f"{module.weights_file()}")


def training_data() -> tuple[Tensor, Tensor]:
    """The training images (n, 3, 32, 32), normalized, and their labels (n,)."""
    from PIL import Image

    with np.load(shared() / "data" / "cifar10_train_jpeg.npz") as archive:
        jpeg, offsets, labels = archive["jpeg"].tobytes(), archive["offsets"], archive["labels"]
    images = np.stack([np.asarray(Image.open(io.BytesIO(jpeg[a:b])).convert("RGB")) for a, b in pairwise(offsets)])
    return torch.from_numpy(normalized(images)), torch.from_numpy(labels.astype(np.int64))


def train(model: nn.Module, images: Tensor, labels: Tensor, settings: Settings) -> nn.Module:
    """The trained network, in evaluation mode; stochastic gradient descent with one cycle of the learning rate."""
    torch.manual_seed(settings.seed)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model = model.to(memory_format=torch.channels_last).train()
    random = torch.Generator().manual_seed(settings.seed)
    steps = len(images) // settings.batch
    optimizer = torch.optim.SGD(
        model.parameters(), settings.rate, settings.momentum, weight_decay=settings.decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.epochs * steps, pct_start=0.25, cycle_momentum=False
    )
    for epoch in range(settings.epochs):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=random)
        for step in range(steps):
            chosen = order[step * settings.batch : (step + 1) * settings.batch]
            x = augmented(images[chosen], settings.shift, random).contiguous(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(model(x), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{settings.epochs}: loss {total / steps:.3f}, {seconds:.0f} s", flush=True)
    return model.to(memory_format=torch.contiguous_format).eval()


def augmented(images: Tensor, shift: int, random: torch.Generator) -> Tensor:
    """Each image (n, 3, h, w) mirrored or not, and moved by up to `shift` pixels; what enters is mid-grey."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (shift,) * 4)
    rows, columns = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=random)
    mirrored = torch.randint(0, 2, (count, 1), generator=random).bool()
    across = torch.arange(width).expand(count, width)
    across = torch.where(mirrored, across.flip(1), across) + columns
    down = torch.arange(height) + rows
    # Indices broadcast to (n, h, w), with the channels last.
    found = padded.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], down[:, :, None], across[:, None, :]]
    return found.permute(0, 3, 1, 2)


def top1(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose class is right."""
    with torch.no_grad():
        found = torch.cat([model(part).argmax(1) for part in images.split(250)])
    return float((found == labels).double().mean())


def save(model: nn.Module, path: Path) -> None:
    """Writes the weights, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    torch.save(model.state_dict(), unfinished)
    unfinished.replace(path)


if __name__ == "__main__":
    main()
