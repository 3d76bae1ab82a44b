"""Learned rounding on a small network, judged in LiteRT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.autograd.simulate import fake_quantized
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.reconstruct.learned_rounding import Reconstruction
from edgeqwt.reconstruct.reconstruct import NO_GAIN, reconstruct
from edgeqwt.rounding.methods import Gptq
from edgeqwt.rounding.reround import reround
from edgeqwt.verify.comparator import Comparator
from tests.reconstruct.nets import FOUR, inputs, lowered, residual

pytestmark = pytest.mark.requires("torch")

QUICK = Reconstruction(iterations=20, finish=20, batch=16, threads=1)


@pytest.fixture(scope="module")
def case() -> tuple[Graph, Graph]:
    graph = residual()
    return graph, lowered(graph, inputs(graph, 48))


def judged(graph: Graph, *integers: Graph) -> list[float]:
    """Squared error over squared signal at the logits, on samples that nothing has seen."""
    (logits,) = (op.inputs[0] for op in graph.ops if op.kind == "SOFTMAX")
    with Comparator(graph, inputs(graph, 64, seed=9), [logits]) as comparator:
        return [comparator.noise(integer) for integer in integers]


def test_progressive_rounding_beats_gptq_on_new_samples(case: tuple[Graph, Graph]) -> None:
    graph, start = case
    samples = inputs(graph, 48)
    gptq = reround(start, graph, samples, Gptq(scales=8, refine=True), FOUR)
    calls: list[tuple[int, int | None, str]] = []
    found = reconstruct(
        start, graph, samples, QUICK, FOUR, lambda done, total, layer="": calls.append((done, total, layer))
    )
    (block,) = found.blocks
    assert block.kept
    assert block.after < block.before
    assert calls == [*((k, 4, "") for k in range(1, 5)), (4, 4, "logits")]
    plain, second_order, learned = judged(graph, start, gptq, found.graph)
    assert learned < 0.8 * second_order < plain


@pytest.mark.parametrize("scope", ["layer", "block", "network"])
@pytest.mark.parametrize("rounding", ["progressive", "straight", "soft"])
def test_every_scope_and_rounding_helps_and_keeps_its_word(
    case: tuple[Graph, Graph], scope: str, rounding: str
) -> None:
    graph, start = case
    rule = replace(QUICK, scope=scope, rounding=rounding, iterations=60, rate=5e-3 if rounding != "soft" else 0.1)
    found = reconstruct(start, graph, inputs(graph, 48), rule, FOUR)
    assert {len(b.ops) for b in found.blocks} <= {"layer": {1}, "block": {1, 2}, "network": {4}}[scope]
    for block in found.blocks:
        assert block.kept == (block.after < block.before)
        assert block.reason == ("" if block.kept else NO_GAIN)
    assert any(block.kept for block in found.blocks)
    before, after = judged(graph, start, found.graph)
    assert after < before


def test_only_weights_scales_and_biases_change_within_their_width(case: tuple[Graph, Graph]) -> None:
    graph, start = case
    found = reconstruct(start, graph, inputs(graph, 24), QUICK, FOUR).graph
    free = {t for op in start.ops if is_linear(op) for t in (op.inputs[1], op.inputs[2])}
    for t, (old, new) in enumerate(zip(start.tensors, found.tensors, strict=True)):
        if t not in free:
            assert new is old
    for op in found.ops:
        if is_linear(op):
            s = slots(op)
            x, weight, bias = (found.tensors[t] for t in (s.data, s.weight, s.bias))
            assert weight.data is not None
            assert np.abs(weight.data).max() <= 7
            assert x.quantization is not None
            assert weight.quantization is not None
            assert bias.quantization is not None
            np.testing.assert_array_equal(
                bias.quantization.scale, np.float32(x.quantization.scale[0]) * weight.quantization.scale
            )


def test_same_bytes_again_and_torch_s_own_randomness_and_threads_are_left_alone(case: tuple[Graph, Graph]) -> None:
    import torch

    graph, start = case
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    once, twice = (flatbuffer.to_bytes(reconstruct(start, graph, inputs(graph, 16), QUICK, FOUR).graph) for _ in "12")
    assert once == twice
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    "change", [{"fisher": True}, {"fisher": True, "rank": 4}, {"drop": 0.5}, {"scale_rate": 0.0, "bias_rate": 0.0}]
)
def test_options_that_change_what_is_learned(case: tuple[Graph, Graph], change: dict[str, float]) -> None:
    graph, start = case
    rule = replace(QUICK, scope="block", **change)  # type: ignore[arg-type]
    found = reconstruct(start, graph, inputs(graph, 32), rule, FOUR)
    plain = reconstruct(start, graph, inputs(graph, 32), replace(QUICK, scope="block"), FOUR)
    assert flatbuffer.to_bytes(found.graph) != flatbuffer.to_bytes(plain.graph)
    assert any(block.kept for block in found.blocks)


def test_what_does_not_help_is_not_kept(case: tuple[Graph, Graph]) -> None:
    graph, start = case
    wild = replace(QUICK, rounding="straight", scope="network", rate=1.0, scale_rate=1.0, bias_rate=1.0)
    found = reconstruct(start, graph, inputs(graph, 16), wild, FOUR)
    assert [(b.kept, b.reason) for b in found.blocks] == [(False, NO_GAIN)]
    assert found.graph is start


def test_shared_weights_are_left_alone(case: tuple[Graph, Graph]) -> None:
    graph, start = case
    third = next(op for op in start.ops if start.tensors[op.outputs[0]].name == "third")
    second = next(i for i, op in enumerate(start.ops) if start.tensors[op.outputs[0]].name == "second")
    inputs_ = (start.ops[second].inputs[0], third.inputs[1], start.ops[second].inputs[2])
    shared = start.with_ops({second: replace(start.ops[second], inputs=inputs_)}).pruned()
    from edgeqwt.reconstruct.variables import learnable

    assert len(learnable(shared, graph, fake_quantized(shared, graph))) == 2


def test_no_samples(case: tuple[Graph, Graph]) -> None:
    graph, start = case
    with pytest.raises(InputError, match="no calibration samples"):
        reconstruct(start, graph, [], QUICK, FOUR)
