"""Fake quantization and its gradients by hand, and a simulated integer network against LiteRT's integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.boundary import feed_as, real
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.scales.ranges import MinMax

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")

from edgeqwt.autograd.evaluate import Program, as_tensor  # noqa: E402
from edgeqwt.autograd.simulate import fake_quantize, fake_quantized, quantizing  # noqa: E402


def test_values_are_rounded_and_clipped_and_gradients_pass_inside_the_range() -> None:
    # Steps of 0.5 from -1 (integer -4 at zero point -2) to 2.5 (integer 3).
    x = torch.tensor([-3.0, -1.2, -0.1, 0.3, 2.6, 2.8], requires_grad=True)
    y = fake_quantize(x, 0.5, -2, -4, 3)
    assert y.tolist() == [-1.0, -1.0, 0.0, 0.5, 2.5, 2.5]
    y.backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 0.0]


def test_the_scale_s_gradient_is_that_of_lsq() -> None:
    scale = torch.tensor(0.5, requires_grad=True)
    x = torch.tensor([0.3, 1.1, 9.0, -9.0])
    fake_quantize(x, scale, 0, -8, 7).backward(torch.tensor([1.0, 1.0, 10.0, 100.0]))
    # Inside round(x / s) - x / s: 1 - 0.6 and 2 - 2.2; outside the ends 7 and -8.
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(0.4 - 0.2 + 10 * 7 - 100 * 8)


def test_samples_side_by_side_are_as_one_after_the_other() -> None:
    x = torch.linspace(-2, 2, 24).reshape(4, 6).requires_grad_()
    scale = torch.tensor(0.3, requires_grad=True)
    together = torch.func.vmap(lambda v: fake_quantize(v, scale, 1, -4, 3))(x)
    apart = fake_quantize(x, scale, 1, -4, 3)
    assert torch.equal(together, apart)
    gradients = [torch.autograd.grad((y * y).sum(), (x, scale), retain_graph=True) for y in (together, apart)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_a_twin_has_the_integer_graph_s_constants_and_a_bias_where_only_that_has_one() -> None:
    rng = np.random.default_rng(0)
    tensors = (
        Tensor("x", (2, 3), "float32"),
        Tensor("w", (4, 3), "float32", rng.normal(size=(4, 3)).astype(np.float32)),
        Tensor("y", (2, 4), "float32"),
    )
    options = {"fusedActivationFunction": "NONE"}
    op = Op("FULLY_CONNECTED", (0, 1), (2,), options, extra={"optionsType": "FullyConnectedOptions"})
    graph = Graph(tensors, (op,), (0,), (2,))
    samples = [{0: rng.normal(size=(2, 3)).astype(np.float32)} for _ in range(4)]
    integer = lower(graph, observe(graph, samples, threads=1)[0], MinMax(), Precision(4))
    bias = integer.ops[0].inputs[2]
    integer = integer.with_tensors({bias: replace(integer.tensors[bias], data=np.array([5, 0, -7, 90], np.int32))})
    pair = fake_quantized(integer, graph)
    (changed,) = pair.graph.ops
    for slot in (1, 2):
        wanted = integer.tensors[integer.ops[0].inputs[slot]]
        assert wanted.data is not None
        assert wanted.quantization is not None
        np.testing.assert_array_equal(
            pair.graph.tensors[changed.inputs[slot]].data, real(wanted.data, wanted.quantization)
        )
    assert (set(pair.steps), pair.partners) == ({0, 2}, {0: 0})


def test_a_simulated_network_gives_litert_s_integers(
    mlperf_tiny: Path, cifar10: Mapping[str, npt.NDArray[Any]]
) -> None:
    graph = prepare(flatbuffer.read(mlperf_tiny / "image_classification_float32.tflite")).graph
    samples = [{graph.inputs[0]: image[None].astype(np.float32)} for image in cifar10["calibration_images"][:24]]
    integer = lower(graph, observe(graph, samples)[0], MinMax(), Precision(8))
    pair = fake_quantized(integer, graph)
    taps = [t for op in graph.ops for t in op.outputs]
    names = {integer.tensors[t].name: t for op in integer.ops for t in op.outputs}
    theirs = [names[graph.tensors[t].name] for t in taps]
    runner, hook = xnnpack(integer, theirs), quantizing(pair.steps)
    images = as_tensor(np.stack([s[graph.inputs[0]] for s in samples[:8]]))
    found = Program(pair.graph, taps).many({graph.inputs[0]: hook(graph.inputs[0], images)}, hook=hook)
    runs = [runner.run(feed_as(integer, graph, sample)) for sample in samples[:8]]
    for t, u in zip(taps, theirs, strict=True):
        s = pair.steps[t]
        steps = found[t].numpy() / s.scale + s.zero_point - np.stack([run[u] for run in runs])
        # A tie that float32 rounds otherwise is one step at its layer (measured: no more than 1 in 300 in the
        # first layers), and moves later layers by as little as any change of one step in an input does.
        assert np.abs(steps).mean() < 0.1
        assert np.abs(steps).max() < 4.5
