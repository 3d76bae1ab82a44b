"""Degradations of one thing rounded, against the same in numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Quantization
from edgeqwt.graph.linear import slots
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.lowering.lower import lower
from edgeqwt.mixed.degradation import degradations, with_rounded_activation, with_rounded_weights
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Precision
from tests.chain import NONE, Chain, noise, samples
from tests.mixed.builds import network


def test_an_error_is_relative_to_the_signal() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    graph = chain.graph(chain.op("MUL", x, chain.constant(np.float32(2.0)), **NONE))
    other = graph.with_tensors({1: replace(graph.tensors[1], data=np.array(2.2, np.float32))})
    inputs = samples(graph)
    same, wrong = degradations(graph, [lambda: graph, lambda: other], inputs)
    assert same == 0.0
    values = np.concatenate([sample[x] for sample in inputs])
    varies = len(values) * values.var(axis=0, ddof=1).sum() / np.square(values).sum()
    assert wrong == pytest.approx(0.01 / varies, rel=1e-5)  # (0.2 / 2)^2, in float32
    (alone,) = degradations(graph, [lambda: other], inputs[:1])
    assert alone == pytest.approx(0.01, rel=1e-5)  # of one sample nothing varies


def test_softmax_does_not_hide_errors() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    logits = chain.op("MUL", x, chain.constant(noise(4)), name="logits", **NONE)
    graph = chain.graph(chain.op("SOFTMAX", logits, beta=1.0))
    assert decision_tensors(graph) == (logits,)


@pytest.mark.parametrize("which", ["input", "middle", "output"])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_rounded_activation_is_what_its_readers_get(which: str, dtype: str) -> None:
    chain = Chain()
    x = chain.input((1, 64))
    middle = chain.op("MUL", x, chain.constant(np.float32(0.5)), **NONE)
    output = chain.op("MUL", middle, chain.constant(np.float32(2.0)), **NONE)
    graph = chain.graph(output)
    tensor = {"input": x, "middle": middle, "output": output}[which]
    step = 0.05
    data = samples(graph, 8)
    variant = with_rounded_activation(graph, tensor, Quantization.per_tensor(step, 0), dtype)
    (found,) = degradations(graph, [lambda: variant], data)
    values = np.concatenate([d[x] for d in data]) * (0.5 if which == "middle" else 1.0)
    rounded = np.clip(np.round(values / step), *((-128, 127) if dtype == "int8" else (-32768, 32767))) * step
    varying = len(values) * values.var(axis=0, ddof=1).sum()
    # Ties aside, the kernels round as numpy does; values are in float32.
    assert found == pytest.approx(np.square(values - rounded).sum() / varying, rel=1e-3)


def test_weights_are_those_of_the_integer_graph() -> None:
    graph = network()
    data = samples(graph, 4)
    statistics, _ = observe(graph, data)
    integer = lower(graph, statistics, MinMax(), Precision(4))
    op = graph.ops[0]
    variant = with_rounded_weights(graph, slots(op).weight, integer)
    before, after = (g.tensors[slots(op).weight].data for g in (graph, variant))
    assert before is not None
    assert after is not None
    step = np.abs(before).max(axis=(1, 2, 3), keepdims=True) / 7
    assert np.abs(before - after).max() > 0
    # Half a step, and float32's rounding of it.
    assert (np.abs(before - after) <= 0.5001 * step).all()
    assert sum(a.data is not b.data for a, b in zip(graph.tensors, variant.tensors, strict=True)) == 1


def test_no_samples() -> None:
    with pytest.raises(InputError, match="no samples"):
        degradations(network(), [], [])
