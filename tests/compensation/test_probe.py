from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.compensation.probe import unfused
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.widths.precision import Precision
from tests.chain import Chain
from tests.compensation.nets import RELU, check_linear_ops, conv, dense, made, plain_net, residual_net


@pytest.mark.parametrize("activation_bits", [8, 16])
@pytest.mark.parametrize("net", [plain_net, residual_net])
def test_probe_is_what_the_integer_kernels_round(net: object, activation_bits: int) -> None:
    case = made(net(), precision=Precision(activation_bits=activation_bits))  # type: ignore[operator]
    check_linear_ops(case.integer, case.samples)


def test_unfused_computes_the_same() -> None:
    case = made(plain_net(), count=3)
    fused = [i for i, op in enumerate(case.floating.ops) if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    wide, before = unfused(case.floating, fused)
    assert set(before) == set(fused)
    assert len(wide.ops) == len(case.floating.ops) + 3
    assert wide.tensors[: len(case.floating.tensors)] == case.floating.tensors
    old, new = xnnpack(case.floating), xnnpack(wide, list(before.values()))
    t = case.floating.outputs[0]
    for sample in case.samples:
        values = new.run(sample)
        # A fused RELU and one of its own are the same comparison on the same float32 sums.
        np.testing.assert_array_equal(values[t], old.run(sample)[t])
        assert min(values[b].min() for b in before.values()) < 0


def test_ops_without_activation_are_their_own_cut() -> None:
    chain = Chain()
    graph = chain.graph(dense(chain, dense(chain, chain.input((1, 6)), 4, 1), 3, 2, "RELU"))
    wide, before = unfused(graph, [0])
    assert before == {0: graph.ops[0].outputs[0]}
    assert len(wide.ops) == 2


def test_ops_that_are_not_asked_for_stay_fused() -> None:
    chain = Chain()
    graph = chain.graph(conv(chain, conv(chain, chain.input((1, 4, 4, 3)), 4, 1), 4, 2))
    wide, _ = unfused(graph, [1])
    assert [op.activation for op in wide.ops] == [RELU["fusedActivationFunction"], "NONE", "NONE"]
    assert wide.outputs == graph.outputs
