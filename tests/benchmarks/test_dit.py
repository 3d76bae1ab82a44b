"""The diffusion transformer's sampler and what benchmarks/dit.py counts, where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.requires("torch")


@pytest.fixture
def model(script):
    """benchmarks/models/dit_cifar10.py."""
    return script("models.dit_cifar10")


@pytest.fixture
def dit(script):
    """benchmarks/dit.py."""
    return script("dit")


def test_the_sampler_finds_an_image_whose_velocity_is_known(model):
    random = np.random.default_rng(0)
    image = np.clip(random.standard_normal((2, 3, 32, 32)), -2, 2).astype(np.float32)
    noise = random.standard_normal(image.shape).astype(np.float32)

    def velocity(x, t, y):
        a, b = model.schedule(t[0])
        return (a * x - image) / b  # what is in the noisy image beside this one is taken for noise

    found, seen = model.sample(velocity, noise, np.array([0, 1]))
    # Each of 20 steps rounds to float32, and the last ones divide by b near 0.05.
    np.testing.assert_allclose(found, image, atol=1e-3)
    assert len(seen) == model.STEPS == len(model.sampler_times())
    assert seen[0] is noise


def test_a_new_network_says_what_its_last_layer_says_of_the_patches(model):
    import torch

    torch.manual_seed(0)
    network = model.network().eval()
    x, y = torch.randn(3, 3, 32, 32), torch.tensor([1, 2, 3])
    with torch.no_grad():
        first, second = (network(x, torch.tensor([t] * 3), y) for t in (0, 999))
    # adaLN-zero: blocks begin as the identity, and no modulation depends on the time.
    torch.testing.assert_close(first, second)
    assert first.shape == x.shape


def test_signal_and_noise_have_a_variance_of_one(model):
    a, b = model.schedule(np.arange(model.TIMES))
    np.testing.assert_allclose(a**2 + b**2, 1, atol=1e-6)
    assert (np.diff(a) < 0).all()


def test_the_distance_of_gaussians_is_that_of_their_formula(dit):
    random = np.random.default_rng(0)
    first = random.standard_normal((200_000, 2)) * [1, 2] + [0, 1]
    second = random.standard_normal((200_000, 2)) * [3, 2] + [0, -1]
    # Diagonal covariances: (3 - 1)² + 0 + 2² of the means; estimates err by about 3 / sqrt(200000) each.
    assert dit.frechet(first, second) == pytest.approx(8.0, abs=0.1)
    assert dit.frechet(first, first) == pytest.approx(0.0, abs=1e-6)


def test_what_does_not_vary_is_no_signal(dit):
    wanted = np.array([[9.0, 1.0], [9.0, -1.0]])
    assert dit.varying_db(wanted + 0.1, wanted) == pytest.approx(10 * np.log10(2 / 0.04))
