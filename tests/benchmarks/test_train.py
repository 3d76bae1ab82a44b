"""What training does to its images, and that a seed gives one set of weights."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.requires("torch")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def train(script):
    """benchmarks/train.py."""
    return script("train")


def test_augmented_images_are_mirrored_or_moved_ones(train):
    import torch
    from torch.nn.functional import pad

    shift, size = 2, 6
    images = torch.randn(40, 3, size, size, generator=torch.Generator().manual_seed(1))
    found = train.augmented(images, shift, torch.Generator().manual_seed(2))
    mirrored = 0
    for image, made in zip(pad(images, (shift,) * 4), found, strict=True):
        crops = [image[:, a : a + size, b : b + size] for a in range(2 * shift + 1) for b in range(2 * shift + 1)]
        straight = any(torch.equal(made, crop) for crop in crops)
        assert straight or any(torch.equal(made, crop.flip(2)) for crop in crops)
        mirrored += not straight
    # 40 fair coins: within 20 +- 12 but for one time in 10 000.
    assert 8 <= mirrored <= 32
    assert not torch.equal(found, images)


def test_a_seed_gives_one_set_of_weights_and_training_lowers_the_loss(train):
    import torch
    from torch import nn

    random = torch.Generator().manual_seed(3)
    labels = torch.arange(64) % 2
    # Bright and dark images: any classifier that learns at all tells them apart.
    images = torch.randn(64, 3, 8, 8, generator=random) + 2 * labels.float()[:, None, None, None] - 1
    settings = train.Settings(epochs=6, batch=16, rate=0.05)
    convolution = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    first, second = (train.train(copy.deepcopy(model), images, labels, settings) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert train.top1(first, images, labels) > 0.9


@pytest.mark.parametrize("name", ["mobilenetv2_cifar10", "dscnn_cifar10"])
def test_an_untrained_network_names_the_command_that_trains_it(name, tmp_path):
    code = f"from models.{name} import create; create()"
    environment = {"EDGEQWT_TRAINED": str(tmp_path), "PATH": "", "PYTHONPATH": str(BENCHMARKS)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode != 0
    assert f"python benchmarks/train.py {name}" in ended.stderr
