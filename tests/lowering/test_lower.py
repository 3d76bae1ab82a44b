"""Whole graphs made integer: legal but unusual ones, run in all three runtimes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.runtime.boundary import real
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.widths.precision import Precision, Widths
from tests.chain import NONE, Chain, noise, samples
from tests.lowering.lowerings import conv, named, run_everywhere, scale_of, transformer_block
from tests.one_op import lowered

# -- tensors with several uses -----------------------------------------------------------


def test_activations_keep_their_names_and_order() -> None:
    chain = Chain()
    x = chain.input((1, 4, 4, 3), name="image")
    y = conv(chain, x, chain.constant(noise(5, 3, 3, 3)), chain.constant(noise(5)), name="features")
    graph = chain.graph(chain.op("LOGISTIC", y, name="answer"))
    # Half a step of the features (range about 40) moves the sigmoid by 0.5 * 40 / 255 / 4: five steps of 1/256.
    integer = run_everywhere(graph, steps=6).graph
    names = {t.name for t in integer.tensors}
    assert {"image", "features", "answer"} <= names
    assert [integer.tensors[t].name for t in integer.inputs + integer.outputs] == ["image", "answer"]
    assert [op.kind for op in integer.ops] == ["CONV_2D", "LOGISTIC"]


def test_weights_and_bias_shared_by_two_ops() -> None:
    chain = Chain()
    x, w, b = chain.input((1, 4, 4, 3)), chain.constant(noise(3, 3, 3, 3, scale=0.3)), chain.constant(noise(3))
    graph = chain.graph(conv(chain, conv(chain, x, w, b), w, b))
    integer = run_everywhere(graph).graph
    first, second = integer.ops
    assert first.inputs[1] == second.inputs[1]  # one scale, one tensor
    assert first.inputs[2] != second.inputs[2]  # a bias has its input's scale


def test_bias_shared_at_one_scale_is_one_tensor() -> None:
    chain = Chain()
    x, w, b = chain.input((1, 4, 4, 3)), chain.constant(noise(3, 3, 3, 3)), chain.constant(noise(3))
    left, right = conv(chain, x, w, b), conv(chain, x, w, b)
    integer = run_everywhere(chain.graph(chain.op("ADD", left, right, **NONE))).graph
    assert integer.ops[0].inputs == integer.ops[1].inputs


def test_a_constant_used_at_two_scales() -> None:
    chain = Chain()
    x, c = chain.input((2, 4)), chain.constant(noise(4))
    high = chain.op("MAXIMUM", x, c)
    wide = chain.op("MAXIMUM", chain.op("MUL", x, chain.constant(10.0), **NONE), c)
    run_everywhere(chain.graph(high, wide))


def test_output_that_other_ops_read_too() -> None:
    chain = Chain()
    y = chain.op("TANH", chain.input((2, 4)))
    run_everywhere(chain.graph(y, chain.op("ABS", y)))


def test_output_that_is_the_input() -> None:
    chain = Chain()
    x = chain.input((2, 4))
    run_everywhere(chain.graph(x, chain.op("ABS", x)))


def test_constant_as_output() -> None:
    chain = Chain()
    c = chain.constant(noise(3, 4), name="anchors")
    graph = chain.graph(chain.op("ABS", chain.input((2, 4))), c)
    integer = run_everywhere(graph).graph
    assert named(integer, "anchors").dtype == "int8"


def test_same_tensor_twice() -> None:
    chain = Chain()
    x = chain.input((1, 3, 4))
    y = chain.op("CONCATENATION", x, x, axis=2)
    run_everywhere(chain.graph(chain.op("BATCH_MATMUL", y, y, adjX=False, adjY=True)))


# -- values that leave no room ---------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-6, 1e6])
def test_constant_activations(value: float) -> None:
    chain = Chain()
    x = chain.input((2, 4))
    y = chain.op("MUL", x, chain.constant(2.0), **NONE)
    graph = chain.graph(chain.op("ADD", y, chain.constant(noise(4)), **NONE))
    run_everywhere(graph, [{x: np.full((2, 4), value, np.float32)}])


def test_dead_and_huge_channels() -> None:
    chain = Chain()
    weights, bias = noise(6, 3, 3, 3), noise(6)
    weights[1], bias[1] = 0, 0  # dead
    weights[2], bias[2] = 0, 50  # constant
    weights[3] *= 1e-20  # vanishing
    bias[4] = 1e7  # dwarfs its weights
    graph = chain.graph(conv(chain, chain.input((1, 4, 4, 3)), chain.constant(weights), chain.constant(bias)))
    run_everywhere(graph)


def test_all_weights_zero() -> None:
    chain = Chain()
    w, b = chain.constant(np.zeros((4, 3, 3, 3))), chain.constant(np.zeros(4))
    run_everywhere(chain.graph(chain.op("TANH", conv(chain, chain.input((1, 4, 4, 3)), w, b))))


@pytest.mark.parametrize("kind", ["CONV_2D", "ADD", "SUB", "SQUARED_DIFFERENCE", "HARD_SWISH"])
def test_an_output_that_is_dead_on_the_samples_loads_everywhere(kind: str) -> None:
    chain = Chain()
    x = chain.input((1, 4, 4, 3))
    if kind == "CONV_2D":
        # The large bias keeps the activation at zero, the large weights ask for a multiplier far above 256.
        w, b = chain.constant(noise(3, 1, 1, 3, scale=1e6)), chain.constant(np.full(3, -1e9))
        y = conv(chain, x, w, b, fusedActivationFunction="RELU")
    elif kind == "HARD_SWISH":
        y = chain.op(kind, x)
    else:
        y = chain.op(kind, x, x, **({} if kind == "SQUARED_DIFFERENCE" else NONE))
    feeds = [{x: np.full((1, 4, 4, 3), -1e6 if kind == "HARD_SWISH" else v, np.float32)} for v in (1e6, -1e6)]
    if kind == "ADD":
        graph = chain.graph(chain.op("ADD", y, chain.op("MUL", x, chain.constant(-2.0), **NONE), **NONE))
    else:
        graph = chain.graph(y)
    found = lowered(graph, feeds)
    for factory in RUNNERS.values():
        found.run(factory)


def test_multipliers_stay_below_xnnpacks_limit() -> None:
    chain = Chain()
    x = chain.input((1, 1, 1, 2))
    w, b = chain.constant([[[[100.0, -100.0]]], [[[1.0, 1.0]]]]), chain.constant([0.0, 0.0])
    graph = chain.graph(conv(chain, x, w, b))
    # Both channels are tiny on the samples although weights and inputs are large.
    feeds = [{x: np.array([[[[v, v]]]], np.float32)} for v in (1e-3, -1e-3)] + [{x: np.zeros((1, 1, 1, 2), np.float32)}]
    found = run_everywhere(graph, feeds)
    op = found.graph.ops[0]
    x_scale, w_scale, y_scale = (
        float(q.scale.max()) if (q := found.graph.tensors[t].quantization) is not None else 0.0
        for t in (op.inputs[0], op.inputs[1], op.outputs[0])
    )
    assert x_scale * w_scale / y_scale <= 255.0


def test_vanishing_softmax_input() -> None:
    chain = Chain()
    x = chain.input((2, 5))
    graph = chain.graph(chain.op("SOFTMAX", x, beta=1.0))
    run_everywhere(graph, [{x: 1e-12 * noise(2, 5)}])


# -- fixed scales meeting others -----------------------------------------------------------


def test_softmax_meets_concatenation() -> None:
    chain = Chain()
    x = chain.input((2, 5))
    y = chain.op("MUL", x, chain.constant(20.0), name="wide", **NONE)
    graph = chain.graph(chain.op("CONCATENATION", chain.op("SOFTMAX", x, beta=1.0), y, axis=1, name="both"))
    integer = run_everywhere(graph).graph
    assert [op.kind for op in integer.ops] == ["MUL", "SOFTMAX", "QUANTIZE", "CONCATENATION"]
    assert scale_of(integer, "softmax1") == (1 / 256, -128)
    assert scale_of(integer, "wide") == scale_of(integer, "both")


def test_two_fixed_scales_meet() -> None:
    chain = Chain()
    x = chain.input((2, 5))
    y, z = chain.op("TANH", x), chain.op("LOGISTIC", x)
    integer = run_everywhere(chain.graph(chain.op("CONCATENATION", y, z, axis=1))).graph
    assert [op.kind for op in integer.ops].count("QUANTIZE") == 2


def test_equal_fixed_scales_need_no_quantize() -> None:
    chain = Chain()
    x = chain.input((2, 5))
    y, z = chain.op("SOFTMAX", x, beta=1.0), chain.op("LOGISTIC", x)
    z = chain.op("RESHAPE", z, chain.constant([5, 2]), newShape=(5, 2))
    z = chain.op("TRANSPOSE", z, chain.constant([1, 0]))
    integer = run_everywhere(chain.graph(chain.op("CONCATENATION", y, z, axis=1, name="both"))).graph
    assert "QUANTIZE" not in {op.kind for op in integer.ops}
    assert scale_of(integer, "both") == (1 / 256, -128)


def test_fixed_scale_is_carried_on_whatever_the_order_of_tensors() -> None:
    # The concatenation's output has a lower tensor index than its inputs.
    q = ("out", "x", "a", "b", "joined")
    shapes = ((1, 8), (1, 4), (1, 4), (1, 4), (1, 8))
    tensors = tuple(Tensor(name, shape, "float32") for name, shape in zip(q, shapes, strict=True))
    ops = (
        Op("LOGISTIC", (1,), (2,)),
        Op("LOGISTIC", (2,), (3,)),
        Op("CONCATENATION", (2, 3), (0,), {"axis": 1}, extra={"optionsType": "ConcatenationOptions"}),
        Op("MUL", (0, 0), (4,), NONE),
    )
    graph = Graph(tensors, ops, (1,), (4,))
    assert scale_of(run_everywhere(graph).graph, "out") == (1 / 256, -128)


def test_attention() -> None:
    chain = Chain()
    q, k, v = (chain.input((2, 6, 8)) for _ in range(3))
    scores = chain.op("SOFTMAX", chain.op("BATCH_MATMUL", q, k, adjX=False, adjY=True), beta=1.0)
    graph = chain.graph(chain.op("BATCH_MATMUL", scores, v, adjX=False, adjY=False))
    integer = run_everywhere(graph, steps=6).graph
    assert scale_of(integer, "x1")[1] == scale_of(integer, "x2")[1] == 0  # XNNPACK ignores zero points there
    assert "QUANTIZE" not in {op.kind for op in integer.ops}


def test_transformer_block() -> None:
    graph = transformer_block()
    found = lowered(graph, samples(graph, 32), missing={"GELU"})
    exact = np.array([out[0] for out in found.exact()])
    q = found.graph.tensors[found.graph.outputs[0]].quantization
    assert q is not None
    for factory in RUNNERS.values():
        got = np.array([real(out[0], q) for out in found.run(factory)])
        # One rounding of the output leaves about 50 dB; some 30 roundings come before it: 10 log10(30) = 15 dB less.
        assert 10 * np.log10(np.square(exact).sum() / np.square(exact - got).sum()) > 30


def test_softmax_on_the_right_side_of_a_product() -> None:
    chain = Chain()
    x, y = chain.input((2, 6, 8)), chain.input((2, 8, 6))
    weights = chain.op("SOFTMAX", y, beta=1.0)
    integer = run_everywhere(chain.graph(chain.op("BATCH_MATMUL", x, weights, adjX=False, adjY=False))).graph
    assert [op.kind for op in integer.ops] == ["SOFTMAX", "QUANTIZE", "BATCH_MATMUL"]


def test_comparison_of_two_fixed_scales() -> None:
    chain = Chain()
    x = chain.input((2, 64))
    y, z = chain.op("TANH", x), chain.op("LOGISTIC", x)
    found = lowered(chain.graph(chain.op("GREATER", y, z, dtype="bool")), samples(chain.graph(y)))
    exact = [out[0] for out in found.exact()]
    for factory in RUNNERS.values():
        got = [out[0] for out in found.run(factory)]
        # tanh(x) > logistic(x) at a threshold that only values within two steps of it may miss.
        assert np.mean(np.array(got) != np.array(exact)) < 0.03


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("kind", ["GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "EQUAL", "NOT_EQUAL"])
def test_comparisons_are_exact_at_any_scale(kind: str, scale: float) -> None:
    chain = Chain()
    x, c = chain.input((200,)), chain.constant(np.float32(0.7 * scale))
    graph = chain.graph(chain.op(kind, x, c, dtype="bool"), chain.op(kind, c, x, dtype="bool"))
    run_everywhere(graph, [{x: scale * noise(200)}], steps=0)


def test_constants_beyond_the_range_compare_right() -> None:
    chain = Chain()
    x = chain.input((50,))
    outs = [chain.op(kind, x, chain.constant(np.float32(c)), dtype="bool")
            for kind in ("GREATER_EQUAL", "LESS_EQUAL", "EQUAL") for c in (-1e9, 1e9)]  # fmt: skip
    run_everywhere(chain.graph(*outs), steps=0)


# -- widths, targets, determinism -------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_use_the_bits_they_are_given(bits: int) -> None:
    chain = Chain()
    w, b = chain.constant(noise(8, 3, 3, 4)), chain.constant(noise(8))
    graph = chain.graph(conv(chain, chain.input((1, 5, 5, 4)), w, b))
    integer = lowered(graph, samples(graph), precision=Precision(bits)).graph
    data = integer.tensors[integer.ops[0].inputs[1]].data
    assert data is not None
    limit = 2 ** (bits - 1) - 1
    assert data.dtype == np.int8
    assert (data.min(), data.max()) == (-limit, limit)


@pytest.mark.parametrize("activation_bits", [8, 16])
def test_layers_use_the_bits_they_are_given(activation_bits: int) -> None:
    chain = Chain()
    x, name = chain.input((1, 5, 5, 4)), "second"
    y = conv(chain, x, chain.constant(noise(4, 3, 3, 4)), chain.constant(noise(4)), name="first")
    graph = chain.graph(conv(chain, y, chain.constant(noise(4, 3, 3, 4, seed=1)), chain.constant(noise(4)), name=name))
    precision = Precision(8, activation_bits, layers={name: Widths(4, activation_bits)})
    integer = lowered(graph, samples(graph), precision=precision).graph
    largest = [np.abs(integer.tensors[op.inputs[1]].data).max() for op in integer.ops]  # type: ignore[arg-type]
    assert largest == [127, 7]


def test_same_input_same_bytes() -> None:
    chain = Chain()
    w, b = chain.constant(noise(8, 3, 3, 4)), chain.constant(noise(8))
    graph = chain.graph(chain.op("EXP", conv(chain, chain.input((1, 5, 5, 4)), w, b)))
    first, second = (flatbuffer.to_bytes(lowered(graph, samples(graph)).graph) for _ in range(2))
    assert first == second


def test_quantized_islands_in_a_float_graph_pass_through() -> None:
    q = Quantization.per_tensor(0.05, 3)
    tensors = (
        Tensor("x", (2, 6), "float32"),
        Tensor("a", (2, 6), "int8", None, q),
        Tensor("b", (3, 4), "int8", None, q),
        Tensor("y", (3, 4), "float32"),
    )
    ops = (
        Op("QUANTIZE", (0,), (1,)),
        Op("RESHAPE", (1,), (2,), {"newShape": (3, 4)}),
        Op("DEQUANTIZE", (2,), (3,), version=2),
    )
    graph = Graph(tensors, ops, (0,), (3,))
    # The region's step is about three of the output's.
    integer = run_everywhere(graph, steps=4).graph
    assert [op.kind for op in integer.ops] == ["QUANTIZE", "RESHAPE", "QUANTIZE"]


def test_attention_that_is_alike_over_many_keys() -> None:
    # 600 equal scores: the 8-bit reference kernels end their process, and 1/600 is less than half a step of 1/256.
    chain = Chain()
    scores, values = chain.input((1, 1, 600)), chain.input((1, 600, 4))
    weights = chain.op("SOFTMAX", scores, name="weights", beta=1.0)
    graph = chain.graph(chain.op("BATCH_MATMUL", weights, values, name="sums"))
    feeds = [{scores: noise(1, 1, 600, seed=i, scale=0.01), values: noise(1, 600, 4, seed=i) + i} for i in range(3)]
    integer = run_everywhere(graph, feeds).graph
    assert [op.kind for op in integer.ops if op.kind == "SOFTMAX"] == ["SOFTMAX"]
    assert scale_of(integer, "weights") == (1 / 32768, 0)
