from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.compensation import fold as folding
from edgeqwt.compensation.fold import (
    BIAS_OVERFLOW,
    MULTIPLIER,
    NO_BIAS,
    PER_TENSOR,
    SHARED_BIAS,
    SHARED_WEIGHTS,
    SIGN,
    Headroom,
    fold,
    headroom,
    slots,
)
from edgeqwt.compensation.solve import Correction
from edgeqwt.errors import EdgeqwtError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op, Quantization
from edgeqwt.graph.linear import linear_ops
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.opset16 import rule_at
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.widths.precision import Precision
from tests.chain import CONV, Chain, noise
from tests.compensation.nets import (
    KINDS,
    Inputs,
    check_bias_scales,
    check_linear_ops,
    conv,
    conv_2d,
    dense,
    dequantized,
    made,
    probed,
    run,
    stored,
    with_scale,
)

LINES: dict[str, tuple[Array, Array]] = {
    "gain": (np.linspace(0.3, 3.5, 8), np.zeros(8)),
    "offset": (np.ones(8), np.linspace(-1.0, 1.0, 8)),
    "both": (np.linspace(0.3, 3.5, 8), np.linspace(1.0, -1.0, 8)),
    "signs": (np.array([-1.0, 1, -1, 1, -1, -1, 1, -1]), np.zeros(8)),
    "everything": (np.array([-2.0, 0.5, 1, -0.9, 3.9, -0.26, 1.01, 1]), np.linspace(-0.7, 0.9, 8)),
}


def line(gain: Array, offset: Array) -> Correction:
    return Correction(np.asarray(gain, np.float64), np.asarray(offset, np.float64), {})


def feeds(graph: Graph, samples: Sequence[Inputs]) -> list[Array]:
    """The integer inputs of each sample's only linear op."""
    t = slots(graph.ops[0]).data
    return [values[t] for values in run(graph, samples, [t])]


@pytest.mark.parametrize(("name", "bits"), [*((name, 8) for name in LINES), ("everything", 16)])
@pytest.mark.parametrize("kind", KINDS)
def test_folded_op_computes_the_line(kind: str, name: str, bits: int) -> None:
    """In LiteRT's reference kernels: their bound, and the bias's own rounding.

    The bias step is s_x * s_w', a few hundredths of the output's step here; up to 0.1 with the largest gain.
    """
    case = made(KINDS[kind](), count=6, precision=Precision(activation_bits=bits))
    gain, offset = LINES[name]
    folded, done = fold(case.integer, 0, line(gain, offset))
    np.testing.assert_array_equal(done.gain, gain)
    np.testing.assert_array_equal(done.offset, offset)
    assert not done.refused
    out, op = folded.outputs[0], case.integer.ops[0]
    q = folded.tensors[out].quantization
    assert q is not None
    for x, values in zip(feeds(case.integer, case.samples), run(folded, case.samples), strict=True):
        exact = stored(gain * probed(case.integer, 0, x) + offset, op.activation, q, folded.tensors[out].dtype)
        assert np.abs(values[out] - exact).max() <= rule_at(op.kind, bits).bound + 0.1
    check_linear_ops(folded, case.samples)
    check_bias_scales(folded)
    xnnpack(folded).run({folded.inputs[0]: feeds(case.integer, case.samples)[0]})


@pytest.mark.parametrize("kind", KINDS)
def test_folding_adds_nothing_to_the_file(kind: str) -> None:
    graph = made(KINDS[kind](), count=3).integer
    folded, _ = fold(graph, 0, line(*LINES["everything"]))
    assert [(op.kind, op.inputs, op.outputs, op.options) for op in folded.ops] == [
        (op.kind, op.inputs, op.outputs, op.options) for op in graph.ops
    ]
    old, new = (flatbuffer.to_bytes(g) for g in (graph, folded))
    assert len(old) == len(new)
    assert old != new


def test_sign_flip_is_exact() -> None:
    """Gain -1 on every channel negates each accumulator, so the integers mirror about the zero point."""
    case = made(conv_2d(), count=4)
    graph = with_scale(case.integer, case.integer.outputs[0], Quantization.per_tensor(0.05, 0))
    folded, _ = fold(graph, 0, line(-np.ones(8), np.zeros(8)))
    s = slots(graph.ops[0])
    for t in (s.weight, s.bias):
        np.testing.assert_array_equal(dequantized(folded, t), -dequantized(graph, t))
    before, after = (run(g, case.samples) for g in (graph, folded))
    for a, b in zip(before, after, strict=True):
        # Exact halves are the only values that could round elsewhere; they do not occur. -128 has no mirror.
        np.testing.assert_array_equal(np.maximum(b[folded.outputs[0]], -127), -np.maximum(a[graph.outputs[0]], -127))


def test_identity_changes_no_byte() -> None:
    graph = made(conv_2d(), count=3).integer
    folded, _ = fold(graph, 0, line(np.ones(8), np.zeros(8)))
    assert flatbuffer.to_bytes(folded) == flatbuffer.to_bytes(graph)


def test_informative_ranges_are_renewed() -> None:
    graph = made(conv_2d(), count=3).integer
    t = slots(graph.ops[0]).weight
    graph = graph.with_tensors({t: replace(graph.tensors[t], extra={"min": noise(8), "max": noise(8)})})
    folded, _ = fold(graph, 0, line(np.full(8, 2.0), np.zeros(8)))
    q = folded.tensors[t].quantization
    assert q is not None
    np.testing.assert_allclose(folded.tensors[t].extra["max"], 127 * q.scale, rtol=1e-6)
    assert len(flatbuffer.to_bytes(folded)) == len(flatbuffer.to_bytes(graph))


# -- guards ------------------------------------------------------------------------------


def two_convs() -> Graph:
    """Two convolutions with weights of one shape, one after the other."""
    chain = Chain()
    x = conv(chain, chain.input((1, 5, 5, 6)), 6, 1)
    return chain.graph(conv(chain, x, 6, 2))


def with_input(graph: Graph, i: int, slot: int, tensor: int) -> Graph:
    """The graph with another tensor in one input slot of an op."""
    op = graph.ops[i]
    inputs = tuple(tensor if k == slot else t for k, t in enumerate(op.inputs))
    return graph.with_ops({i: replace(op, inputs=inputs)}).pruned()


def loads(graph: Graph) -> bool:
    try:
        xnnpack(graph)
    except EdgeqwtError:
        return False
    return True


def test_nothing_shared() -> None:
    assert headroom(made(two_convs(), count=3).integer, 0) == Headroom(True, True)


def test_shared_weights_leave_room_for_an_offset() -> None:
    case = made(two_convs(), count=6)
    graph = with_input(case.integer, 1, 1, case.integer.ops[0].inputs[1])
    # The second op's bias must have the scale that its new weights imply.
    w, x = (graph.tensors[t].quantization for t in (slots(graph.ops[1]).weight, slots(graph.ops[1]).data))
    assert w is not None
    assert x is not None
    graph = with_scale(graph, slots(graph.ops[1]).bias, Quantization.per_channel(w.scale * x.scale, 0))
    for i in (0, 1):
        assert headroom(graph, i) == Headroom(False, True, (SHARED_WEIGHTS,))
    folded, _ = fold(graph, 0, line(np.ones(6), np.linspace(-0.5, 0.5, 6)))
    check_linear_ops(folded, case.samples)
    assert loads(folded)


def test_shared_bias_leaves_no_room() -> None:
    graph = made(two_convs(), count=3).integer
    graph = with_input(graph, 1, 2, graph.ops[0].inputs[2])
    for i in (0, 1):
        assert headroom(graph, i) == Headroom(False, False, (SHARED_BIAS,))


def test_shared_bias_buffer_stays_shared() -> None:
    """Writers store equal biases once; an offset would need a second buffer, a gain does not."""
    graph = made(two_convs(), count=3).integer
    first, second = (slots(op).bias for op in graph.ops)
    shared = graph.tensors[first].data
    graph = graph.with_tensors({second: replace(graph.tensors[second], data=shared)})
    assert headroom(graph, 0) == Headroom(True, False, (SHARED_BIAS,))
    folded, done = fold(graph, 0, line(np.array([2.0, -2, 1, 0.5, 1, 1]), np.zeros(6)))
    assert done.refused == {SIGN: 1}
    assert folded.tensors[first].data is folded.tensors[second].data
    assert len(flatbuffer.to_bytes(folded)) == len(flatbuffer.to_bytes(graph))
    assert loads(folded)


def test_shared_weight_buffer_takes_gains_but_no_signs() -> None:
    case = made(two_convs(), count=6)
    first, second = (slots(op).weight for op in case.integer.ops)
    graph = case.integer.with_tensors(
        {second: replace(case.integer.tensors[second], data=case.integer.tensors[first].data)}
    )
    assert headroom(graph, 1) == Headroom(True, True)
    folded, done = fold(graph, 1, line(np.array([2.0, -2, 1, 0.5, -1, 1]), np.zeros(6)))
    assert done.refused == {SIGN: 2}
    np.testing.assert_array_equal(done.gain, [2, 1, 1, 0.5, 1, 1])
    assert folded.tensors[first].data is folded.tensors[second].data
    assert len(flatbuffer.to_bytes(folded)) == len(flatbuffer.to_bytes(graph))
    check_linear_ops(folded, case.samples)
    assert loads(folded)


def test_a_buffer_shared_with_another_subgraph_counts() -> None:
    graph = made(conv_2d(), count=3).integer
    other = replace(graph, tensors=(graph.tensors[slots(graph.ops[0]).weight],), ops=(), inputs=(), outputs=())
    _, done = fold(replace(graph, others=(other,)), 0, line(-np.ones(8), np.zeros(8)))
    assert done.refused == {SIGN: 8}


def per_tensor(graph: Graph, i: int) -> Graph:
    """The graph with one scale for all weights of an op, as some tools and older files have."""
    s = slots(graph.ops[i])
    x = graph.tensors[s.data].quantization
    assert x is not None
    real_weights, real_bias = dequantized(graph, s.weight), dequantized(graph, s.bias)
    scale = np.abs(real_weights).max() / 127
    bias_scale = float(np.float32(scale) * x.scale[0])
    weight = replace(
        graph.tensors[s.weight],
        data=np.rint(real_weights / scale).astype(np.int8),
        quantization=Quantization.per_tensor(scale, 0),
    )
    bias = replace(
        graph.tensors[s.bias],
        data=np.rint(real_bias / bias_scale).astype(np.int32),
        quantization=Quantization.per_tensor(bias_scale, 0),
    )
    return graph.with_tensors({s.weight: weight, s.bias: bias})


@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_per_tensor_weights_take_the_offset_alone(kind: str) -> None:
    case = made(KINDS[kind](), count=6)
    graph = per_tensor(case.integer, 0)
    assert headroom(graph, 0) == Headroom(False, True, (PER_TENSOR,))
    offset = np.linspace(-0.5, 0.5, 8)
    folded, _ = fold(graph, 0, line(np.ones(8), offset))
    q = folded.tensors[folded.outputs[0]].quantization
    assert q is not None
    for x, values in zip(feeds(graph, case.samples), run(folded, case.samples), strict=True):
        exact = stored(probed(graph, 0, x) + offset, "NONE", q)
        assert np.abs(values[folded.outputs[0]] - exact).max() <= 1
    assert len(flatbuffer.to_bytes(folded)) == len(flatbuffer.to_bytes(graph))
    assert loads(folded)


def test_one_output_channel_is_both_per_tensor_and_per_channel() -> None:
    chain = Chain()
    case = made(chain.graph(dense(chain, chain.input((3, 24)), 1, 1)), count=6)
    assert headroom(case.integer, 0) == Headroom(True, True)
    folded, _ = fold(case.integer, 0, line(np.full(1, -2.0), np.full(1, 0.3)))
    check_linear_ops(folded, case.samples)
    check_bias_scales(folded)
    assert len(flatbuffer.to_bytes(folded)) == len(flatbuffer.to_bytes(case.integer))


@pytest.mark.parametrize(("kind", "absent"), [("dense", ()), ("dense", (-1,)), ("transpose", ())])
def test_without_a_bias_there_is_room_for_a_gain(kind: str, absent: tuple[int, ...]) -> None:
    case = made(KINDS[kind](), count=6)
    op = case.integer.ops[0]
    graph = case.integer.with_ops({0: replace(op, inputs=(*op.inputs[:-1], *absent))}).pruned()
    assert headroom(graph, 0) == Headroom(True, False, (NO_BIAS,))
    gain = LINES["signs"][0] * 1.5
    folded, done = fold(graph, 0, line(gain, np.zeros(8)))
    np.testing.assert_array_equal(done.gain, gain)
    check_linear_ops(folded, case.samples)
    assert len(flatbuffer.to_bytes(folded)) == len(flatbuffer.to_bytes(graph))
    assert loads(folded)


def test_bias_beyond_int32_is_refused() -> None:
    """Channel 0's offset needs 2^32 bias steps, channel 1's an eighth of that."""
    case = made(conv_2d(), count=6)
    step = case.integer.tensors[slots(case.integer.ops[0]).bias].quantization
    assert step is not None
    offset = np.zeros(8)
    offset[0], offset[1] = 2.0**32 * step.scale[0], 2.0**29 * step.scale[1]
    folded, done = fold(case.integer, 0, line(np.ones(8), offset))
    assert done.refused == {BIAS_OVERFLOW: 1}
    assert done.offset[0] == 0
    assert done.offset[1] == offset[1]
    assert loads(folded)


def steep(graph: Graph, multiplier: float) -> Graph:
    """The graph with an output scale that makes the first op's largest multiplier so large."""
    s = slots(graph.ops[0])
    x, w = (graph.tensors[t].quantization for t in (s.data, s.weight))
    assert x is not None
    assert w is not None
    return with_scale(graph, s.output, Quantization.per_tensor(float(x.scale[0] * w.scale.max()) / multiplier, 0))


def test_multipliers_stay_below_256() -> None:
    graph = steep(made(conv_2d(), count=6).integer, 100)
    w = graph.tensors[slots(graph.ops[0]).weight].quantization
    assert w is not None
    expected = 100 * w.scale / w.scale.max() * 3.9 > 255
    assert 0 < expected.sum() < 8
    folded, done = fold(graph, 0, line(np.full(8, 3.9), np.zeros(8)))
    assert done.refused == {MULTIPLIER: int(expected.sum())}
    np.testing.assert_array_equal(done.gain == 1, expected)
    assert loads(folded)


def test_multipliers_beside_16_bit_activations_stay_below_128() -> None:
    graph = steep(made(conv_2d(), count=6, precision=Precision(activation_bits=16)).integer, 50)
    w = graph.tensors[slots(graph.ops[0]).weight].quantization
    assert w is not None
    expected = 50 * w.scale / w.scale.max() * 3.9 > 127
    assert 0 < expected.sum() < 8
    _, done = fold(graph, 0, line(np.full(8, 3.9), np.zeros(8)))
    assert done.refused == {MULTIPLIER: int(expected.sum())}


def test_without_that_guard_xnnpack_refuses_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = replace(RULES["CONV_2D"], largest_ratio=np.inf)
    monkeypatch.setattr(folding, "rule_at", lambda kind, bits: unlimited)
    folded, _ = fold(steep(made(conv_2d(), count=6).integer, 100), 0, line(np.full(8, 3.9), np.zeros(8)))
    assert not loads(folded)


@pytest.mark.parametrize(("dtype", "lowest"), [("int8", -128), ("int4", -8)])
def test_lowest_integer_cannot_change_sign(dtype: str, lowest: int) -> None:
    graph = made(conv_2d(), count=3, bits=int(dtype[3:])).integer
    t = slots(graph.ops[0]).weight
    weights = graph.tensors[t].data
    assert weights is not None
    changed = weights.copy()
    changed[0, 0, 0, 0] = lowest
    graph = graph.with_tensors({t: replace(graph.tensors[t], data=changed, dtype=dtype)})
    folded, done = fold(graph, 0, line(np.array([1.0, -1.0, *[2.0] * 6]), np.zeros(8)))
    assert done.refused == {SIGN: 1}
    np.testing.assert_array_equal(folded.tensors[t].data, changed)
    assert loads(folded)


def test_refusals_add_to_those_of_the_fit() -> None:
    graph = steep(made(conv_2d(), count=3).integer, 200)
    given = Correction(np.full(8, 3.9), np.zeros(8), {"before": 2, MULTIPLIER: 1})
    _, done = fold(graph, 0, given)
    assert done.refused["before"] == 2
    assert done.refused[MULTIPLIER] > 1
    assert given.refused == {"before": 2, MULTIPLIER: 1}


def test_slots_of_every_linear_kind() -> None:
    for kind, make in KINDS.items():
        graph = made(make(), count=2).integer
        [i] = linear_ops(graph)
        s = slots(graph.ops[i])
        assert graph.tensors[s.weight].dtype == "int8", kind
        assert graph.tensors[s.bias].dtype == "int32", kind
        assert s.data in graph.inputs, kind
    assert slots(Op("CONV_2D", (4, 5), (6,), dict(CONV))).bias == -1
