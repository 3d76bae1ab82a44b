"""The linear layer's fit, and graphs that have such layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from qwt.linear_layer import LinearOptions, LinearOutcome, Sums, add_linear_layers
from qwt.linear_op import NO_SUCH_KIND, NOT_INT8

from edgeqwt.compensation.solve import NO_HELP
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.scales.ranges import MinMax
from tests.compensation.nets import (
    Case,
    check_bias_scales,
    check_linear_ops,
    fully_connected,
    made,
    outputs,
    plain_net,
    residual_net,
    sqnr,
    transpose_conv,
)


def extended(case: Case, graph: Graph | None = None, options: LinearOptions | None = None) -> LinearOutcome:
    graph = case.integer if graph is None else graph
    return add_linear_layers(graph, case.floating, iter(case.samples), MinMax(), options)


def test_solution_is_that_of_the_stacked_system() -> None:
    """Weighted ridge regression with a free offset is one least-squares system; its weights are known here."""
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(6, 20, 5)) + 1.5, rng.normal(size=(6, 20, 3)) * np.arange(1, 7)[:, None, None]
    step = 0.5
    sums = Sums.of(x[:2], r[:2], r[:2], step) + Sums.of(x[2:], r[2:], r[2:], step)
    found = sums.solved(0.1)
    weight = 1 / np.sqrt(np.square(r).mean(axis=(1, 2)) + step**2 / 12)
    root = np.sqrt(np.repeat(weight, 20))[:, None]
    flat = x.reshape(-1, 5)
    mean = (weight[:, None, None] * x).sum(axis=(0, 1)) / (20 * weight.sum())
    variance = (root**2 * np.square(flat - mean)).sum() / (20 * weight.sum())
    ridge = np.sqrt(0.1 * variance / 5 * 20 * weight.sum())
    left = np.concatenate([np.hstack([root * flat, root]), np.hstack([ridge * np.eye(5), np.zeros((5, 1))])])
    right = np.concatenate([root * r.reshape(-1, 3), np.zeros((5, 3))])
    solution = np.linalg.lstsq(left, right)[0]
    np.testing.assert_allclose(found.matrix, solution[:5].T, atol=1e-10)
    np.testing.assert_allclose(found.offset, solution[5], atol=1e-10)
    np.testing.assert_allclose([sums.output.low, sums.output.high], [r.min(), r.max()], rtol=1e-6)


def test_inputs_that_do_not_vary_leave_the_offset() -> None:
    x, r = np.full((2, 3, 4), 1.5), np.full((2, 3, 2), 0.25)
    found = Sums.of(x, r, r, 0.1).solved(0.01)
    # Sums in float64 are off by 1e-16 of themselves, the ridge is 1e-10 of them.
    np.testing.assert_allclose(found.matrix, 0, atol=1e-5)
    np.testing.assert_allclose(found.offset, 0.25, atol=1e-4)


def test_what_is_missing_from_the_weights_is_put_beside_them() -> None:
    """Every other weight is set to zero: the layer brings them back."""
    case = made(fully_connected(), count=128)
    s = slots(case.integer.ops[0])
    weight = case.integer.tensors[s.weight]
    assert weight.data is not None
    holed = weight.data.copy()
    holed[:, ::2] = 0
    planted = case.integer.with_tensors({s.weight: replace(weight, data=holed)})
    outcome = extended(case, planted, LinearOptions(ridge=1e-6))
    wanted = outputs(case.floating, case.samples)
    before, plain, after = (sqnr(wanted, outputs(g, case.samples)) for g in (planted, case.integer, outcome.graph))
    # Three roundings to 8 bits in place of one, and 3 * 96 rows to fit on: some 5 dB less than without the holes.
    assert before < 5
    assert after > plain - 8


@pytest.mark.parametrize("make", [plain_net, residual_net])
def test_low_precision_is_helped(make: Callable[[], Graph]) -> None:
    case = made(make(), count=96, bits=3)
    outcome = extended(case)
    assert outcome.samples == 96
    assert len(outcome.changes) >= 3
    fresh = made(make(), count=48, bits=3, seed=9).samples
    wanted = outputs(case.floating, fresh)
    assert sqnr(wanted, outputs(outcome.graph, fresh)) > sqnr(wanted, outputs(case.integer, fresh)) + 1
    check(case, outcome)


def check(case: Case, outcome: LinearOutcome) -> None:
    """What must hold of every graph with layers."""
    old, new = case.integer, outcome.graph
    assert len(new.ops) == len(old.ops) + outcome.cost.ops
    assert new.tensors[: len(old.tensors)] == old.tensors
    for ours, theirs in ((new.inputs, old.inputs), (new.outputs, old.outputs)):
        assert [new.tensors[t] for t in ours] == [old.tensors[t] for t in theirs]
    assert len({t.name for t in new.tensors}) == len(new.tensors)
    constants = [t for t in new.tensors[len(old.tensors) :] if t.data is not None]
    assert outcome.cost.bytes == sum(t.data.nbytes for t in constants if t.data is not None)
    assert outcome.file_bytes == len(flatbuffer.to_bytes(new)) - len(flatbuffer.to_bytes(old)) > outcome.cost.bytes
    assert all(change.error_after > change.error_before for change in outcome.changes)
    check_linear_ops(new, case.samples)
    check_bias_scales(new)
    micro, reference = (
        [next(iter(RUNNERS[name](new).run(feed).values())).astype(int) for feed in _feeds(new, case)]
        for name in ("tflm", "reference")
    )
    for ours, theirs in zip(micro, reference, strict=True):
        assert np.abs(ours - theirs).max() <= 1  # FULLY_CONNECTED may differ by a step


def _feeds(graph: Graph, case: Case) -> list[dict[int, Array]]:
    return [graph_feed(graph, dict(zip(graph.inputs, s.values(), strict=True))) for s in case.samples[:3]]


def test_nothing_is_added_where_nothing_helps() -> None:
    """At 8 bits the layer's own roundings cost more than it repairs."""
    case = made(plain_net(), count=32)
    outcome = extended(case, options=LinearOptions(margin=0.5))
    assert outcome.changes == ()
    assert {skip.reason for skip in outcome.skips} == {NO_HELP}
    assert outcome.graph is case.integer
    assert (outcome.cost.ops, outcome.file_bytes) == (0, 0)


def test_an_op_that_has_no_place_for_a_layer_is_named() -> None:
    case = made(transpose_conv(), count=4)
    outcome = extended(case)
    assert [(skip.kind, skip.reason) for skip in outcome.skips] == [("TRANSPOSE_CONV", NO_SUCH_KIND)]


def test_wide_activations_are_left_alone() -> None:
    case = made(plain_net(), count=8)
    wide = lower(case.floating, case.statistics, MinMax(), Precision(8, 16))
    outcome = extended(case, wide)
    assert {skip.reason for skip in outcome.skips} == {NOT_INT8}
    assert outcome.graph is wide


def test_same_graph_again() -> None:
    case = made(residual_net(), count=24, bits=3)
    once, twice = (flatbuffer.to_bytes(extended(case).graph) for _ in range(2))
    assert once == twice


def test_no_samples() -> None:
    case = made(fully_connected(), count=2)
    with pytest.raises(InputError, match="no calibration samples"):
        add_linear_layers(case.integer, case.floating, [], MinMax())
