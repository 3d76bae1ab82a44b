"""Trains networks of benchmarks/models, on CIFAR-10 or on text, and keeps their weights outside of the repository."""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import language
import numpy as np
import torch
from common import cifar10, normalized, shared
from models import (
    decoder,
    dit_cifar10,
    dscnn_cifar10,
    hybrid_cifar10,
    linear_attention_cifar10,
    mobilenetv2_cifar10,
    vit_cifar10,
)
from torch import Tensor, nn


@dataclass(frozen=True)
class Settings:
    """How a network is trained; the defaults are those of the convolutional networks.

    Attributes:
        epochs: passes over the training images.
        rate: the highest learning rate of the one-cycle schedule.
        rise: the part of the schedule before that highest rate.
        shift: random crops move an image by up to so many pixels.
        adam: AdamW, without decay of biases and norms, in place of stochastic gradient descent.
        loss: of a network that does not classify: of the model, images, labels and a source of randomness.
    """

    epochs: int
    batch: int = 128
    rate: float = 0.2
    rise: float = 0.25
    momentum: float = 0.9
    decay: float = 2e-4
    shift: int = 3
    seed: int = 0
    adam: bool = False
    loss: Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor] | None = None


def transformer(epochs: int) -> Settings:
    """How the networks with transformer blocks are trained."""
    return Settings(epochs, batch=32, rate=1e-3, rise=0.1, decay=0.05, adam=True)


SETTINGS = {
    mobilenetv2_cifar10: Settings(8),
    dscnn_cifar10: Settings(14),
    vit_cifar10: transformer(12),
    hybrid_cifar10: transformer(6),
    linear_attention_cifar10: transformer(3),
    dit_cifar10: Settings(4, batch=64, rate=1.5e-3, rise=0.1, decay=0.01, shift=0, adam=True, loss=dit_cifar10.loss),
}
"""About 20 minutes for each but the vision transformer, which takes 40; two side by side on 2 cores."""
NETWORKS = {module.NAME: module for module in SETTINGS}
DECODER_STEPS = 1400
"""Of the language model; 12 minutes on a core of its own."""


def main() -> None:
    """Trains the networks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=sorted((*NETWORKS, decoder.NAME)), help="all of them by default")
    parser.add_argument("--epochs", type=int, help="passes over the training images, in place of the network's own")
    arguments = parser.parse_args()
    # One thread sums in one order, so that a seed gives one set of weights; train networks side by side instead.
    torch.set_num_threads(1)
    for name in arguments.names or (*NETWORKS, decoder.NAME):
        start = time.perf_counter()
        if name == decoder.NAME:
            torch.manual_seed(0)
            model = language.train(decoder.network(), DECODER_STEPS)
            save(model, decoder.weights_file())
            print(f"{name}: {language.validation_loss(model):.3f} nats a byte, {time.perf_counter() - start:.0f} s")
            print(f"{decoder.weights_file()}")
            continue
        module = NETWORKS[name]
        settings = SETTINGS[module]
        settings = replace(settings, epochs=arguments.epochs or settings.epochs)
        model = train(module.network(), *training_data(), settings)
        save(model, module.weights_file())
        print(f"{name}: {told(model, *test_data(), settings)}, {time.perf_counter() - start:.0f} s")
        print(f"{module.weights_file()}")


def training_data() -> tuple[Tensor, Tensor]:
    """The training images (n, 3, 32, 32), normalized, and their labels (n,)."""
    from PIL import Image

    with np.load(shared() / "data" / "cifar10_train_jpeg.npz") as archive:
        jpeg, offsets, labels = archive["jpeg"].tobytes(), archive["offsets"], archive["labels"]
    images = np.stack([np.asarray(Image.open(io.BytesIO(jpeg[a:b])).convert("RGB")) for a, b in pairwise(offsets)])
    return torch.from_numpy(normalized(images)), torch.from_numpy(labels.astype(np.int64))


def test_data() -> tuple[Tensor, Tensor]:
    """As training_data, of the test images."""
    data = cifar10()
    return torch.from_numpy(normalized(data["test_images"])), torch.from_numpy(data["test_labels"])


def train(model: nn.Module, images: Tensor, labels: Tensor, settings: Settings) -> nn.Module:
    """The trained network, in evaluation mode; the learning rate goes through one cycle."""
    torch.manual_seed(settings.seed)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model = model.to(memory_format=torch.channels_last).train()
    random = torch.Generator().manual_seed(settings.seed)
    steps = len(images) // settings.batch
    optimizer = chosen_optimizer(model, settings)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.epochs * steps, pct_start=settings.rise, cycle_momentum=False
    )
    for epoch in range(settings.epochs):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=random)
        for step in range(steps):
            chosen = order[step * settings.batch : (step + 1) * settings.batch]
            x = augmented(images[chosen], settings.shift, random).contiguous(memory_format=torch.channels_last)
            loss = settings.loss(model, x, labels[chosen], random) if settings.loss else cross(model, x, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{settings.epochs}: loss {total / steps:.3f}, {seconds:.0f} s", flush=True)
    return model.to(memory_format=torch.contiguous_format).eval()


def chosen_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that the settings ask for, over all of the network's parameters."""
    if not settings.adam:
        return torch.optim.SGD(
            model.parameters(), settings.rate, settings.momentum, weight_decay=settings.decay, nesterov=True
        )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, settings.rate, weight_decay=settings.decay)


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


def cross(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The loss of a network that classifies."""
    return nn.functional.cross_entropy(model(images), labels)


def told(model: nn.Module, images: Tensor, labels: Tensor, settings: Settings) -> str:
    """How good the network is on test images."""
    if settings.loss is None:
        return f"{top1(model, images, labels):.4f} of the test images"
    with torch.no_grad():
        random = torch.Generator().manual_seed(settings.seed)
        parts = zip(images.split(250), labels.long().split(250), strict=True)
        found = torch.stack([settings.loss(model, *part, random) for part in parts])
    return f"loss {float(found.mean()):.4f} on the test images"


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
