"""What benchmarks/quantized_training.py rounds, where the right answer is known."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.requires("torch")


@pytest.fixture
def training(script):
    """benchmarks/quantized_training.py."""
    return script("quantized_training")


def test_steps_reach_up_to_the_largest_value_of_all_or_of_each_row(training):
    import torch

    x = torch.tensor([[7.0, -3.4, 0.4], [0.7, 0.14, 0.0]])
    torch.testing.assert_close(training.rounded(x, 4, rows=False), torch.tensor([[7.0, -3, 0], [1, 0, 0]]))
    torch.testing.assert_close(training.rounded(x, 4, rows=True), torch.tensor([[7.0, -3, 0], [0.7, 0.1, 0]]))
    unsigned = torch.tensor([15.0, 7.4, 0.4])  # 4 bits without a sign: 15 steps
    torch.testing.assert_close(training.rounded(unsigned, 4, False, signed=False), torch.tensor([15.0, 7, 0]))


@pytest.mark.parametrize("part", ["weights", "activations", "gradients"])
def test_a_layer_rounds_its_part_and_nothing_else(training, part):
    import torch

    layer, x = torch.nn.Linear(2, 1, bias=False), torch.tensor([[1.0, 3.0]], requires_grad=True)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 5.0]]))
    found = training.Linear(layer, part, lambda t: 10 * t)  # stands for rounding: what it touches is ten times as much
    output = found(x)
    output.sum().backward()
    assert output.item() == (17.0 if part == "gradients" else 170.0)
    gain = {"weights": (1, 10), "activations": (10, 1), "gradients": (10, 10)}[part]
    torch.testing.assert_close(layer.weight.grad, gain[0] * torch.tensor([[1.0, 3.0]]))
    torch.testing.assert_close(x.grad, gain[1] * torch.tensor([[2.0, 5.0]]))


def test_moments_of_matrices_are_rounded_and_vectors_stay(training):
    import torch

    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    before = {name: {k: v.clone() for k, v in optimizer.state[p].items()} for name, p in layer.named_parameters()}
    training.round_moments(optimizer, "exp_avg", lambda t: 10 * t)
    after = {name: optimizer.state[p] for name, p in layer.named_parameters()}
    torch.testing.assert_close(after["weight"]["exp_avg"], 10 * before["weight"]["exp_avg"])
    torch.testing.assert_close(after["weight"]["exp_avg_sq"], before["weight"]["exp_avg_sq"])
    torch.testing.assert_close(after["bias"]["exp_avg"], before["bias"]["exp_avg"])


def test_all_layers_but_the_last_are_replaced(training):
    network = training.network()
    training.replace_layers(network, "weights", lambda t: t)
    found = [m for m in network.modules() if isinstance(m, training.Linear)]
    assert len(found) == 8  # four of each of two blocks
    assert type(network.linear).__name__ == "Linear"
    assert not isinstance(network.linear, training.Linear)
