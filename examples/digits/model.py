"""A small CNN for scikit-learn's handwritten digits (1797 real scans of 8 x 8 pixels, inside the package)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

CLASSES = 10
TRAINING = 1200  # scans; the others test
CALIBRATION = 256
EPOCHS, BATCH = 20, 64


class DigitsNet(nn.Module):
    """2626 parameters in the style of MobileNet: (1, 1, 8, 8) gray images in [0, 1] to (1, 10) logits."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_activated(nn.Conv2d(1, width, 3, padding=1, bias=False)),
            *_separable(width, 2 * width, stride=2),
            *_separable(2 * width, 2 * width),
            *_separable(2 * width, 2 * width),
        )
        self.classifier = nn.Linear(2 * width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (n, 10) of images (n, 1, height, width)."""
        logits: Tensor = self.classifier(self.features(image).mean(dim=(2, 3)))
        return logits


def _activated(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()


def _separable(channels_in: int, channels: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """Each channel on its own over 3 x 3 pixels, then all channels at each pixel."""
    return (
        *_activated(nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False)),
        *_activated(nn.Conv2d(channels_in, channels, 1, bias=False)),
    )


def data() -> tuple[tuple[Array, Labels], tuple[Array, Labels]]:
    """(images, labels) to train on and, from other scans, to test on; images (n, 1, 8, 8) in [0, 1]."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:TRAINING], order[TRAINING:]
    return (images[train], labels[train]), (images[test], labels[test])


def create(epochs: int = EPOCHS) -> nn.Module:
    """The network, trained from scratch in some seconds on one thread; the same one every time."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the network is too small to share
    network = DigitsNet()
    (images, labels), _ = data()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(network.parameters())
    steps = epochs * math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def calibration() -> Iterator[dict[str, Array]]:
    """Training images, one at a time, by input name."""
    (images, _), _ = data()
    for image in images[:CALIBRATION]:
        yield {"image": image[None]}


def evaluation() -> Iterator[dict[str, Array | Labels]]:
    """All test images with their labels, one at a time."""
    _, (images, labels) = data()
    for image, label in zip(images, labels, strict=True):
        yield {"image": image[None], "labels": label[None]}
