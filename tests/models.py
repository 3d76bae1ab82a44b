"""PyTorch models that tests convert: one real, the others as small as what they show. Weights are seeded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.models import resnet20_cifar10

MEAN, STD = resnet20_cifar10.MEAN, resnet20_cifar10.STD
resnet20 = resnet20_cifar10.create
"""ResNet-20 for CIFAR-10 with its trained weights; they lie in the folder of the fixture `shared`."""


def seeded[M: nn.Module](make: Callable[[], M], seed: int = 0) -> M:
    """A model in evaluation mode whose weights, and batch norm statistics, depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make().eval()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, std=0.1)
                nn.init.normal_(layer.running_mean, std=0.1)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


class SmallCnn(nn.Module):
    """Images (1, 3, 16, 16) to 10 logits: ordinary, strided, depthwise and pointwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = torch.relu(self.pointwise(torch.relu(self.depthwise(x))))
        return self.head(x.mean((2, 3)))


class TokenClassifier(nn.Module):
    """Token ids (1, 12), below 50, to 4 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.hidden = nn.Linear(16, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.embedding(ids))).mean(1))


class TwoInputs(nn.Module):
    """An image (1, 4, 8, 8) and a gain per channel (1, 6) to a map and its mean, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3)
        self.gain = nn.Linear(6, 6)

    def forward(self, image: Tensor, gains: Tensor) -> dict[str, Tensor]:
        x = self.conv(image) * torch.sigmoid(self.gain(gains))[:, :, None, None]
        return {"map": x, "mean": x.mean((2, 3))}


class Residual(nn.Module):
    """x + conv(x) on (1, 8, 8, 8), where NCHW and NHWC look alike.

    onnx2tf 2.6.9 adds the input as NHWC to the convolution's output as NCHW: a conversion that is wrong.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Branching(nn.Module):
    """(1, 4) to (1, 3): takes a branch by the values of its input, which no export keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.sum() > 0 else -2 * self.linear(x)


class Recurrent(nn.Module):
    """(1, 5, 8) to (1, 4): the last output of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])
