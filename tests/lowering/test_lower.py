"""Whole graphs made integer: legal but unusual ones, run in all three runtimes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.runtime.boundary import real
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.widths.precision import Precision, Widths, parse
from tests.chain import CONV, NONE, Chain, noise, samples
from tests.one_op import Lowered, lowered


def run_everywhere(
    graph: Graph, feeds: Sequence[Mapping[int, Array]] | None = None, steps: float = 2.0, **options: Any
) -> Lowered:
    """Lowers a graph, runs it in every runtime, and checks error and equality of bytes."""
    found = lowered(graph, samples(graph) if feeds is None else feeds, **options)
    outs = {name: found.run(factory) for name, factory in RUNNERS.items()}
    for name, out in outs.items():
        assert found.worst(out) <= steps, name
    for ours, theirs in zip(outs["tflm"], outs["reference"], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            # FULLY_CONNECTED may differ by a step.
            allowed = int(any(op.kind == "FULLY_CONNECTED" for op in found.graph.ops))
            assert np.abs(a.astype(int) - b.astype(int)).max(initial=0) <= allowed
    return found


def named(graph: Graph, name: str) -> Tensor:
    """A tensor by its name."""
    return next(t for t in graph.tensors if t.name == name)


def scale_of(graph: Graph, name: str) -> tuple[float, int]:
    """A tensor's scale and zero point."""
    q = named(graph, name).quantization
    assert q is not None
    return float(q.scale[0]), int(q.zero_point[0])


def conv(chain: Chain, x: int, w: int, b: int, name: str = "", **options: object) -> int:
    """A convolution."""
    return chain.op("CONV_2D", x, w, b, name=name, **{**CONV, **options})


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


def transformer_block() -> Graph:
    """Layer norm, attention of two heads, GELU, residuals: as converters write them."""
    chain = Chain()

    def norm(x: int) -> int:
        centered = chain.op("SUB", x, chain.op("MEAN", x, chain.constant([2]), keepDims=True), **NONE)
        variance = chain.op("MEAN", chain.op("MUL", centered, centered, **NONE), chain.constant([2]), keepDims=True)
        root = chain.op("SQRT", chain.op("ADD", variance, chain.constant([1e-5]), **NONE))
        scaled = chain.op("MUL", centered, chain.op("DIV", chain.constant([1.0]), root, **NONE), **NONE)
        return chain.op("ADD", chain.op("MUL", scaled, chain.constant(1 + noise(16, scale=0.2)), **NONE),
                        chain.constant(noise(16, scale=0.2)), **NONE)  # fmt: skip

    def dense(x: int, inputs: int, outputs: int, seed: int) -> int:
        y = chain.op("BATCH_MATMUL", x, chain.constant(noise(inputs, outputs, seed=seed, scale=inputs**-0.5)))
        return chain.op("ADD", y, chain.constant(noise(outputs, seed=seed, scale=0.1)), **NONE)

    def heads(x: int) -> int:
        split = chain.op("RESHAPE", x, chain.constant([1, 6, 2, 8]), newShape=(1, 6, 2, 8))
        return chain.op("TRANSPOSE", split, chain.constant([0, 2, 1, 3]))

    x = chain.input((1, 6, 16))
    y = norm(x)
    q, k, v = (heads(dense(y, 16, 16, seed)) for seed in (1, 2, 3))
    scores = chain.op("BATCH_MATMUL", chain.op("MUL", q, chain.constant(8**-0.5), **NONE), k, adjY=True)
    mixed = chain.op("BATCH_MATMUL", chain.op("SOFTMAX", scores, beta=1.0), v)
    joined = chain.op("TRANSPOSE", mixed, chain.constant([0, 2, 1, 3]))
    joined = chain.op("RESHAPE", joined, chain.constant([1, 6, 16]), newShape=(1, 6, 16))
    x = chain.op("ADD", x, dense(joined, 16, 16, 4), **NONE)
    hidden = chain.op("GELU", dense(norm(x), 16, 32, 5))
    return chain.graph(chain.op("ADD", x, dense(hidden, 32, 16, 6), **NONE))


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


# -- two widths in one graph ---------------------------------------------------------------------

NOT_IN_MICRO16 = frozenset(kind for kind, row in RULES16.items() if not row.tflm)


def worst_sqnr(found: Lowered) -> float:
    """The lowest SQNR of the first output over the runtimes, in dB, against the float graph on the same inputs."""
    exact = np.array([out[0] for out in found.exact()], np.float64)
    q = found.graph.tensors[found.graph.outputs[0]].quantization
    assert q is not None
    errors = [exact - np.array([real(out[0], q) for out in found.run(factory)]) for factory in RUNNERS.values()]
    return min(float(10 * np.log10(np.square(exact).sum() / np.square(e).sum())) for e in errors)


def kinds(graph: Graph) -> Counter[str]:
    """How many ops of each kind a graph has."""
    return Counter(op.kind for op in graph.ops)


def four() -> Graph:
    """A residual block: a -> b -> c -> a + c."""
    chain = Chain()

    def layer(x: int, name: str, seed: int) -> int:
        weights = chain.constant(noise(8, 3, 3, 8, seed=seed, scale=0.15), f"w{seed}")
        return conv(
            chain, x, weights, chain.constant(noise(8, seed=seed + 9) / 5), name, fusedActivationFunction="RELU"
        )

    a = layer(chain.input((1, 6, 6, 8), "image"), "a", 1)
    c = layer(layer(a, "b", 2), "c", 3)
    return chain.graph(chain.op("ADD", a, c, name="sum", **NONE))


def test_sixteen_bits_everywhere_need_no_copies() -> None:
    graph = four()
    found = run_everywhere(graph, precision=parse("w8a16"), steps=60)  # weights err by 2^-8, so outputs by 2^-9 or so
    assert kinds(found.graph) == {"CONV_2D": 3, "ADD": 1}
    assert {found.graph.tensors[t].dtype for t in (*found.graph.inputs, *found.graph.outputs)} == {"int16"}
    assert {found.graph.tensors[op.inputs[2]].dtype for op in found.graph.ops if op.kind == "CONV_2D"} == {"int64"}


def test_narrow_layer_between_wide_ones() -> None:
    graph = four()
    found = lowered(graph, samples(graph), precision=Precision(activation_bits=16, layers={"b": Widths(8, 8)}))
    # a -> int8 for b; b -> int16 for c, which is CAST and ADD as its zero point is not 0.
    assert kinds(found.graph) == {"CONV_2D": 3, "ADD": 2, "QUANTIZE": 1, "CAST": 1}
    assert named(found.graph, "b").dtype == "int8"
    # Two roundings to int8 (about 45 dB each after ReLU) halve what one leaves.
    assert worst_sqnr(found) > 38
    assert worst_sqnr(lowered(graph, samples(graph), precision=parse("w8a16"))) > worst_sqnr(found) + 6


def test_wide_layers_between_narrow_ones() -> None:
    graph = four()
    precision = Precision(layers={"b": Widths(8, 16), "c": Widths(8, 16)})
    found = lowered(graph, samples(graph), precision=precision)
    assert kinds(found.graph) == {"CONV_2D": 3, "ADD": 2, "QUANTIZE": 1, "CAST": 1}
    assert [named(found.graph, name).dtype for name in ("image", "a", "b", "c", "sum")] == [
        "int8", "int8", "int16", "int16", "int8"
    ]  # fmt: skip
    assert worst_sqnr(found) > worst_sqnr(lowered(graph, samples(graph)))


def test_a_copy_is_shared_by_its_readers() -> None:
    chain = Chain()
    x = chain.input((1, 6, 6, 8))
    y = chain.op("MUL", x, chain.constant(noise(8)), name="y", **NONE)
    outs = [chain.op("ADD", y, chain.constant(noise(8, seed=seed)), name=f"out{seed}", **NONE) for seed in range(3)]
    graph = chain.graph(*outs)
    wide = {f"out{seed}": Widths(8, 16) for seed in range(2)}
    found = run_everywhere(graph, precision=Precision(layers=wide), steps=3)
    # y is widened once for two readers; their outputs are narrowed for the interface.
    assert kinds(found.graph) == {"MUL": 1, "CAST": 1, "ADD": 4, "QUANTIZE": 2}


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_a_wider_copy_is_exact(low: float) -> None:
    chain = Chain()
    x = chain.input((1, 300))
    y = chain.op("MUL", x, chain.constant(np.float32(1)), name="y", **NONE)
    graph = chain.graph(chain.op("RESHAPE", y, chain.constant([300, 1]), newShape=(300, 1), name="z"))
    feeds = [{x: np.random.default_rng(0).uniform(low, 1, (1, 300)).astype(np.float32)}]
    found = lowered(
        graph, feeds, precision=Precision(activation_bits=16, layers={"y": Widths(8, 8), "z": Widths(8, 16)})
    )
    y_q, z_q = named(found.graph, "y").quantization, named(found.graph, "z").quantization
    assert y_q is not None
    assert z_q is not None
    for factory in RUNNERS.values():
        tap = next(t for t, tensor in enumerate(found.graph.tensors) if tensor.name == "y")
        values = factory(found.graph, [tap]).run(found.inputs[0])
        expected, got = real(values[tap], y_q), real(values[found.graph.outputs[0]], z_q)
        # z's scale is its group's, so that the ADD rounds once.
        assert np.abs(expected.reshape(-1) - got.reshape(-1)).max() <= 0.51 * float(z_q.scale[0]) + 1e-7
    lone = lowered(chain.graph(chain.op("MUL", y, y, name="square", **NONE)), feeds,
                   precision=Precision(activation_bits=16, layers={"y": Widths(8, 8)}))  # fmt: skip
    tensors = lone.graph.tensors
    copy = next(t for t, tensor in enumerate(tensors) if tensor.name == "y/int16")
    tap = next(t for t, tensor in enumerate(tensors) if tensor.name == "y")
    q, wide_q = tensors[tap].quantization, tensors[copy].quantization
    assert q is not None
    assert wide_q is not None
    for factory in RUNNERS.values():
        values = factory(lone.graph, [tap, copy]).run(lone.inputs[0])
        np.testing.assert_allclose(real(values[tap], q), real(values[copy], wide_q), rtol=1e-6)


def test_a_symmetric_tensor_is_widened_by_one_cast() -> None:
    chain = Chain()
    x, y = chain.input((1, 4, 6)), chain.input((1, 6, 5))
    product = chain.op("BATCH_MATMUL", x, y, adjX=False, adjY=False, name="product")
    scaled = chain.op("MUL", y, chain.constant(noise(5)), name="scaled", **NONE)
    found = run_everywhere(chain.graph(product, scaled), precision=Precision(layers={"scaled": Widths(8, 16)}), steps=3)
    assert kinds(found.graph) == {"BATCH_MATMUL": 1, "CAST": 1, "MUL": 1, "QUANTIZE": 1}


def test_a_wide_softmax_at_a_narrow_interface_has_the_usual_scale() -> None:
    chain = Chain()
    x = chain.input((2, 5))
    graph = chain.graph(chain.op("SOFTMAX", x, beta=1.0, name="classes"))
    found = run_everywhere(graph, precision=Precision(layers={"classes": Widths(8, 16)}))
    out = found.graph.tensors[found.graph.outputs[0]]
    assert (out.dtype, float(out.quantization.scale[0]), int(out.quantization.zero_point[0])) == ("int8", 1 / 256, -128)  # type: ignore[union-attr]
    assert scale_of(found.graph, "classes") == (1 / 32768, 0)


def test_fixed_scales_meet_at_sixteen_bits() -> None:
    chain = Chain()
    x = chain.input((2, 5))
    y, z = chain.op("TANH", x), chain.op("MUL", x, chain.constant(20.0), name="wide", **NONE)
    graph = chain.graph(chain.op("CONCATENATION", y, z, axis=1, name="both"))
    found = lowered(graph, samples(graph), precision=parse("w8a16"))
    assert kinds(found.graph) == {"TANH": 1, "MUL": 1, "QUANTIZE": 1, "CONCATENATION": 1}
    assert worst_sqnr(found) > 80  # 16 bits, ranges with twice the room


def test_an_input_beyond_what_wide_kernels_take_makes_the_op_narrow() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("LOGISTIC", chain.input((2, 50))))
    values = noise(2, 50)
    feeds = [{0: (1e6 * (values + np.sign(values))).astype(np.float32)}]  # nothing near zero, where int8 is too coarse
    # One step of the int8 output is 128 of its copy's: 255 / 256 stands for 1.
    found = run_everywhere(graph, feeds, precision=parse("w8a16"), steps=128)
    assert kinds(found.graph)["QUANTIZE"] == 1
    assert found.graph.tensors[found.graph.outputs[0]].dtype == "int16"


def test_transformer_block_at_sixteen_bits() -> None:
    graph = transformer_block()
    feeds = samples(graph, 32)
    narrow = lowered(graph, feeds, missing={"GELU"})
    micro = lowered(graph, feeds, missing={"GELU"}, missing16=NOT_IN_MICRO16, precision=parse("w8a16"))
    everywhere = worst_sqnr(narrow), worst_sqnr(micro)
    assert everywhere[1] > everywhere[0] + 6
    wide = lowered(graph, feeds, precision=parse("w8a16"))
    kept = [op.kind for op in wide.graph.ops if op.kind in ("QUANTIZE", "CAST")]
    assert kept == []  # LiteRT has all of it at 16 bits
    exact = np.array([out[0] for out in wide.exact()])
    q = wide.graph.tensors[wide.graph.outputs[0]].quantization
    assert q is not None
    for runtime in ("reference", "xnnpack"):
        got = np.array([real(out[0], q) for out in wide.run(RUNNERS[runtime])])
        # What is left is RSQRT, interpolated.
        assert 10 * np.log10(np.square(exact).sum() / np.square(exact - got).sum()) > 50
