from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.compensation.rescale import differs, rewrite, squared_error, tied
from edgeqwt.compensation.solve import Options
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Quantization
from edgeqwt.graph.linear import linear_ops, slots
from edgeqwt.graph.opset import activate
from edgeqwt.runtime.boundary import quantized, real
from edgeqwt.runtime.runners import InterpreterError, xnnpack
from edgeqwt.scales.activations import affine
from edgeqwt.scales.ranges import MARGINS
from edgeqwt.widths.precision import Precision, Widths
from tests.chain import NONE, Chain, noise
from tests.compensation.nets import (
    Case,
    check_bias_scales,
    check_linear_ops,
    conv,
    dense,
    dequantized,
    made,
    mean,
    outputs,
    plain_net,
    residual_net,
    sqnr,
    with_scale,
)

WIDE = Precision(activation_bits=16)


def index(graph: Graph, name: str) -> int:
    [found] = [t for t, tensor in enumerate(graph.tensors) if tensor.name == name]
    return found


def producer(graph: Graph, name: str) -> int:
    return graph.producers()[index(graph, name)]


def names(graph: Graph, tensors: frozenset[int]) -> set[str]:
    return {graph.tensors[t].name for t in tensors}


def scaled(graph: Graph, op_index: int, factor: float) -> Quantization:
    """The op's output parameters at another scale."""
    q = graph.tensors[graph.ops[op_index].outputs[0]].quantization
    assert q is not None
    return Quantization.per_tensor(float(q.scale[0]) * factor, int(q.zero_point[0]))


# -- which tensors share a scale ---------------------------------------------------------


def test_group_follows_pooling_and_padding() -> None:
    graph = made(plain_net(), count=3).integer
    assert tied(graph, producer(graph, "conv1")).tensors == {index(graph, "conv1")}
    group = tied(graph, producer(graph, "depthwise"))
    assert names(graph, group.tensors) == {"depthwise", "pool", "pad"}
    assert not group.fixed


def concatenated(other: Callable[[Chain, int], int]) -> Graph:
    """A convolution's output and something else, in one tensor."""
    chain = Chain()
    x = chain.input((1, 4, 4, 3))
    a = conv(chain, x, 4, 1)
    joined = chain.op("CONCATENATION", a, other(chain, x), name="joined", axis=3, **NONE)
    return chain.graph(dense(chain, mean(chain, joined), 3, 9))


def test_scale_shared_with_another_source() -> None:
    graph = made(concatenated(lambda chain, x: conv(chain, x, 4, 2)), count=3).integer
    group = tied(graph, producer(graph, "conv1"))
    assert names(graph, group.tensors) == {"conv1", "conv2", "joined"}
    assert group.fixed == f"the scale is shared with CONV_2D #{producer(graph, 'conv2')} -> 'conv2'"


def test_scale_shared_with_the_models_input() -> None:
    graph = made(concatenated(lambda chain, x: x), count=3).integer
    assert tied(graph, producer(graph, "conv1")).fixed == "the scale belongs to the model's interface"
    assert (
        tied(graph, producer(graph, "conv1"), with_outputs=True).fixed == "the scale belongs to the model's interface"
    )


def test_scale_of_the_models_output() -> None:
    graph = made(plain_net(), count=3).integer
    last = producer(graph, "fc4")
    assert tied(graph, last).fixed == "the scale belongs to the model's interface"
    assert tied(graph, last, with_outputs=True).fixed == ""


@pytest.mark.parametrize("kind", ["CAST", "DIV", "CUSTOM"])
def test_readers_that_depend_on_the_scale(kind: str) -> None:
    graph = made(plain_net(), count=3).integer
    i = producer(graph, "mean")
    graph = graph.with_ops({i: Op(kind, graph.ops[i].inputs, graph.ops[i].outputs)})
    assert tied(graph, producer(graph, "conv3")).fixed == f"{kind} #{i} -> 'mean' depends on it"


def test_a_source_of_unknown_kind() -> None:
    graph = made(residual_net(), count=3).integer
    pool = replace(graph.ops[producer(graph, "sum")], kind="CONCATENATION")
    graph = graph.with_ops({producer(graph, "sum"): pool})
    i = producer(graph, "conv4")
    graph = graph.with_ops({i: Op("CUSTOM", graph.ops[i].inputs, graph.ops[i].outputs)})
    assert tied(graph, producer(graph, "conv3")).fixed == f"the scale is shared with CUSTOM #{i} -> 'conv4'"


def test_tables_depend_on_the_scale_that_they_are_made_for() -> None:
    chain = Chain()
    x = chain.op("EXP", dense(chain, chain.input((1, 6)), 5, 1), name="exp")
    graph = made(chain.graph(dense(chain, x, 3, 2)), count=3).integer
    assert "CAST" in [op.kind for op in graph.ops]
    assert "depends on it" in tied(graph, producer(graph, "fc1")).fixed


def test_readers_that_need_zero_point_0() -> None:
    chain = Chain()
    x = chain.input((1, 4, 6))
    left = chain.op("RESHAPE", x, chain.constant(np.array([1, 4, 6], np.int32)), name="left", newShape=(1, 4, 6))
    keep = {"fusedActivationFunction": "NONE", "keepNumDims": True}
    weights, bias = chain.constant(noise(6, 6)), chain.constant(noise(6))
    right = chain.op("FULLY_CONNECTED", x, weights, bias, name="right", version=5, **keep)
    product = chain.op("BATCH_MATMUL", left, right, name="product", adjX=False, adjY=True)
    graph = made(chain.graph(product), count=3).integer
    assert tied(graph, producer(graph, "right")).fixed.startswith("BATCH_MATMUL")


# -- rewriting -----------------------------------------------------------------------------


def step(graph: Graph, name: str) -> float:
    q = graph.tensors[index(graph, name)].quantization
    assert q is not None
    return float(q.scale[0])


@pytest.mark.parametrize("factor", [0.8, 1.25, 2.0, 7.3])
@pytest.mark.parametrize("name", ["conv1", "depthwise", "conv3"])
def test_rewritten_graph_computes_what_its_scales_say(name: str, factor: float) -> None:
    case = made(plain_net(), count=4)
    i = producer(case.integer, name)
    q = scaled(case.integer, i, factor)
    graph = rewrite(case.integer, tied(case.integer, i).tensors, q)
    assert graph is not None
    assert step(graph, name) == pytest.approx(factor * step(case.integer, name), rel=1e-6)
    check_linear_ops(graph, case.samples)
    check_bias_scales(graph)
    assert len(flatbuffer.to_bytes(graph)) == len(flatbuffer.to_bytes(case.integer))
    xnnpack(graph)


def test_a_wider_scale_changes_the_output_by_little() -> None:
    """At 1.25 times the scale, the layer's rounding error grows by a quarter: the output hardly notices."""
    case = made(plain_net(), count=8)
    i = producer(case.integer, "conv3")
    graph = rewrite(case.integer, tied(case.integer, i).tensors, scaled(case.integer, i, 1.25))
    assert graph is not None
    before, after = outputs(case.integer, case.samples), outputs(graph, case.samples)
    # The mean over 16 positions averages the rounding errors away: one step of the output is left.
    assert np.abs(before - after).max() <= 1.01 * step(graph, "fc4")


def test_zero_point_moves_along() -> None:
    """Padding writes the zero point; readers subtract it."""
    case = made(plain_net(), count=4)
    i = producer(case.integer, "depthwise")
    graph = rewrite(case.integer, tied(case.integer, i).tensors, affine(-1.0, 9.0))
    assert graph is not None
    check_linear_ops(graph, case.samples)
    wanted = outputs(case.floating, case.samples)
    assert sqnr(wanted, outputs(graph, case.samples)) > 20


def test_constants_of_the_group_are_rewritten() -> None:
    chain = Chain()
    x = conv(chain, chain.input((1, 4, 4, 3)), 4, 1)
    x = chain.op("MAXIMUM", x, chain.constant(np.full((1, 1, 1, 4), 0.5, np.float32)), name="max")
    case = made(chain.graph(dense(chain, mean(chain, x), 3, 2)), count=4)
    i = producer(case.integer, "conv1")
    group = tied(case.integer, i)
    graph = rewrite(case.integer, group.tensors, scaled(case.integer, i, 0.5))
    assert graph is not None
    [constant] = [t for t in group.tensors if graph.tensors[t].is_constant]
    data, q = graph.tensors[constant].data, graph.tensors[constant].quantization
    assert data is not None
    assert q is not None
    np.testing.assert_allclose(real(data, q), 0.5, atol=float(q.scale[0]))
    assert rewrite(case.integer, group.tensors, affine(0.0, 0.25)) is None  # it would clip the constant


@pytest.mark.parametrize(("name", "factor"), [("fc4", 1e-6), ("conv1", 1e6)])
def test_multipliers_that_kernels_refuse(name: str, factor: float) -> None:
    """Of the op itself, which has no readers, and of its reader."""
    graph = made(plain_net(), count=3).integer
    i = producer(graph, name)
    group = tied(graph, i, with_outputs=True)
    assert rewrite(graph, group.tensors, scaled(graph, i, factor)) is None
    moved = graph.with_tensors(
        {t: replace(graph.tensors[t], quantization=scaled(graph, i, factor)) for t in group.tensors}
    )
    with pytest.raises(InterpreterError):
        xnnpack(moved)


def test_a_readers_bias_that_would_not_fit() -> None:
    graph = made(plain_net(), count=3).integer
    i, bias = producer(graph, "conv1"), slots(graph.ops[producer(graph, "depthwise")]).bias
    graph = graph.with_tensors({bias: replace(graph.tensors[bias], data=np.full(8, -(2**30), np.int32))})
    group = tied(graph, i).tensors
    assert rewrite(graph, group, scaled(graph, i, 0.4)) is None
    assert rewrite(graph, group, scaled(graph, i, 0.6)) is not None


def test_ratios_of_other_readers_are_kept() -> None:
    """ADD aborts where an input's scale is 2^18 times the output's, SOFTMAX where its input's vanishes."""
    graph = made(residual_net(), count=3).integer
    i = producer(graph, "conv3")
    sum_ = scaled(graph, producer(graph, "sum"), 1e-6)
    tiny = with_scale(graph, index(graph, "sum"), sum_)
    assert rewrite(tiny, tied(tiny, i).tensors, scaled(graph, i, 1.5)) is None
    chain = Chain()
    softmax = chain.op("SOFTMAX", dense(chain, chain.input((1, 6)), 5, 1), name="softmax", beta=1.0)
    graph = made(chain.graph(softmax), count=3).integer
    assert rewrite(graph, frozenset([index(graph, "fc1")]), Quantization.per_tensor(2.0**-26, 0)) is None
    assert rewrite(graph, frozenset([index(graph, "fc1")]), Quantization.per_tensor(2.0**-5, 0)) is not None


def test_a_bias_that_is_shared_cannot_follow() -> None:
    graph = made(residual_net(), count=3).integer
    a, b = producer(graph, "conv2"), producer(graph, "conv4")
    op = graph.ops[b]
    graph = graph.with_ops({b: replace(op, inputs=(*op.inputs[:2], slots(graph.ops[a]).bias))})
    assert rewrite(graph, tied(graph, producer(graph, "conv1")).tensors, scaled(graph, 0, 1.5)) is None


def test_readers_without_a_bias_need_none() -> None:
    chain = Chain()
    x = conv(chain, chain.input((1, 4, 4, 3)), 4, 1)
    case = made(chain.graph(dense(chain, mean(chain, x), 3, 2)), count=4)
    i = producer(case.integer, "fc2")
    without = case.integer.with_ops({i: replace(case.integer.ops[i], inputs=case.integer.ops[i].inputs[:2])})
    graph = rewrite(without, tied(without, i, with_outputs=True).tensors, scaled(without, i, 1.5))
    assert graph is not None
    check_linear_ops(graph, case.samples)


# -- choosing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "zero_point", "expected"),
    [(1.0, 0, False), (1.01, 0, False), (0.99, 2, False), (1.03, 0, True), (0.97, 0, True), (1.0, 3, True)],
)
def test_differs(scale: float, zero_point: int, expected: bool) -> None:
    assert differs(Quantization.per_tensor(0.1 * scale, zero_point), Quantization.per_tensor(0.1, 0)) is expected


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6"])
def test_squared_error_is_that_of_the_stored_output(activation: str) -> None:
    rng = np.random.default_rng(0)
    y = (4 * rng.standard_normal((3, 50))).astype(np.float32)
    output = y + (0.1 * rng.standard_normal(y.shape)).astype(np.float32)
    q = Quantization.per_tensor(0.03, -20)
    stored = real(quantized(activate(output, activation), q, "int8"), q).astype(np.float64)
    wanted = np.square(stored - activate(y, activation)).sum()
    # Both round to the nearest integer, one in float32: a value beside a tie may go either way.
    assert squared_error(output, y, activation, q) == pytest.approx(wanted, rel=1e-3)


def clipping(case: Case, name: str, fraction: float = 0.5) -> Graph:
    """The integer graph with an output range of part of what it was."""
    i = producer(case.integer, name)
    graph = rewrite(case.integer, tied(case.integer, i, with_outputs=True).tensors, scaled(case.integer, i, fraction))
    assert graph is not None
    return graph


@pytest.mark.parametrize("name", ["conv1", "depthwise", "conv3"])
def test_a_clipping_scale_is_found_and_repaired(name: str) -> None:
    """The output's range ends at a third of the largest value that calibration saw."""
    case = made(plain_net(), count=40)
    broken = clipping(case, name, 1 / 3)
    wanted = outputs(case.floating, case.samples)
    good, bad = (sqnr(wanted, outputs(g, case.samples)) for g in (case.integer, broken))
    assert bad < good - 6
    outcome = case.compensated(graph=broken)
    repaired = sqnr(wanted, outputs(outcome.graph, case.samples))
    assert repaired > good - 1
    assert repaired > bad + 6
    [change] = [c for c in outcome.changes if c.name == name]
    assert change.scale is not None
    # MSE ranges clip a little of what min-max ranges hold, and have a margin around that.
    assert 1.5 < change.scale[1] / change.scale[0] <= 3.01 * MARGINS[-1]
    check_linear_ops(outcome.graph, case.samples)
    check_bias_scales(outcome.graph)
    assert len(flatbuffer.to_bytes(outcome.graph)) == len(flatbuffer.to_bytes(broken))


def test_a_clipping_scale_of_an_int16_file_is_found_and_repaired() -> None:
    """At 16 bits ranges have twice the room that calibration asks for; here it is a sixth of that."""
    case = made(plain_net(), count=40, precision=WIDE)
    broken = clipping(case, "depthwise", 1 / 6)
    wanted = outputs(case.floating, case.samples)
    good, bad = (sqnr(wanted, outputs(g, case.samples)) for g in (case.integer, broken))
    assert bad < good - 6
    outcome = case.compensated(graph=broken)
    assert sqnr(wanted, outputs(outcome.graph, case.samples)) > good - 1
    [change] = [c for c in outcome.changes if c.scale is not None]
    assert change.name == "depthwise"
    group = {t.dtype for i in tied(broken, change.op).tensors if (t := outcome.graph.tensors[i])}
    assert group == {"int16"}
    check_linear_ops(outcome.graph, case.samples)
    check_bias_scales(outcome.graph)


def test_constants_of_an_int16_group_follow() -> None:
    values = noise(1, 4, 4, 2)
    graph = made(concatenated(lambda chain, x: chain.constant(values, "fixed")), count=3, precision=WIDE).integer
    i = producer(graph, "conv1")
    moved = rewrite(graph, tied(graph, i).tensors, scaled(graph, i, 1.5))
    assert moved is not None
    constant = moved.tensors[index(moved, "fixed")]
    assert constant.dtype == "int16"
    # Rounded at the old scale and again at the new one: 0.5 / 1.5 + 0.5 steps.
    np.testing.assert_allclose(dequantized(moved, index(moved, "fixed")), values, atol=0.84 * step(moved, "fixed"))


@pytest.mark.parametrize(("scale", "accepted"), [(3.9, True), (4.1, False)])
def test_a_scale_that_an_int16_kernel_is_wrong_at_is_refused(scale: float, accepted: bool) -> None:
    chain = Chain()
    gate = chain.op("LOGISTIC", dense(chain, chain.input((1, 6)), 5, 1), name="gate")
    graph = made(chain.graph(gate), count=3, precision=WIDE).integer
    found = rewrite(graph, frozenset([index(graph, "fc1")]), Quantization.per_tensor(scale, 0))
    assert (found is not None) is accepted


def test_copies_at_another_width_depend_on_the_scale() -> None:
    case = made(residual_net(), count=3, precision=Precision(layers={"conv2": Widths(8, 16)}))
    graph = case.integer
    assert "CAST" in tied(graph, producer(graph, "conv1")).fixed
    # A narrower copy is made by QUANTIZE, which takes any scale.
    group = tied(graph, producer(graph, "conv2"))
    assert not group.fixed
    moved = rewrite(graph, group.tensors, scaled(graph, producer(graph, "conv2"), 1.2))
    assert moved is not None
    check_linear_ops(moved, case.samples)


def test_a_scale_that_does_not_help_is_refused() -> None:
    """Statistics of other data, a fifth of this data's size: the range that they suggest would clip."""
    case = made(plain_net(), count=24)
    small = [{t: v / 5 for t, v in sample.items()} for sample in case.samples]
    statistics, _ = observe(case.floating, small)
    outcome = replace(case, statistics=statistics).compensated()
    assert [change.scale for change in outcome.changes] == [None] * 4


def test_without_that_option_scales_stay() -> None:
    case = made(plain_net(), count=24)
    outcome = case.compensated(Options(rewrite_scales=False), clipping(case, "conv3"))
    assert all(change.scale is None for change in outcome.changes)


def test_outputs_are_rewritten_on_request_only() -> None:
    case = made(plain_net(), count=40)
    broken = clipping(case, "fc4")
    wanted = outputs(case.floating, case.samples)
    kept = case.compensated(graph=broken).graph
    assert step(kept, "fc4") == step(broken, "fc4")
    outcome = case.compensated(Options(rewrite_outputs=True), broken)
    assert step(outcome.graph, "fc4") > 1.5 * step(broken, "fc4")
    assert sqnr(wanted, outputs(outcome.graph, case.samples)) > sqnr(wanted, outputs(kept, case.samples)) + 3


def test_a_good_scale_is_left_alone() -> None:
    case = made(plain_net(), count=24)
    again = case.compensated(graph=case.compensated().graph)
    assert [change.scale for change in again.changes] == [None] * len(linear_ops(case.integer))
