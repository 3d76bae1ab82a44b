"""A small CNN for scikit-learn's handwritten digits (1797 real scans of 8 x 8 pixels, inside the package)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array = npt.NDArray[np.float32]

CLASSES = 10


class DigitsNet(nn.Module):
    """Convolution, depthwise-separable convolution, pooling, linear: 8 x 8 gray images to 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(32, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 10) for images (batch, 1, 8, 8) in [0, 1]."""
        features: torch.Tensor = self.features(image)
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


def data() -> tuple[tuple[Array, npt.NDArray[np.int64]], tuple[Array, npt.NDArray[np.int64]]]:
    """(images, labels) to train on and, from other scans, to test on; images (n, 1, 8, 8) in [0, 1]."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1200], order[1200:]
    return (images[train], labels[train]), (images[test], labels[test])


def create(epochs: int = 12) -> nn.Module:
    """The network, trained from scratch in a few seconds; the same one every time."""
    torch.manual_seed(0)
    network = DigitsNet()
    (images, labels), _ = data()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    return network.eval()


def calibration() -> dict[str, Array]:
    """256 training images, by input name."""
    (images, _), _ = data()
    return {"image": images[:256]}


def evaluation() -> dict[str, Array | npt.NDArray[np.int64]]:
    """All test images and their labels."""
    _, (images, labels) = data()
    return {"image": images, "labels": labels}
