"""Two widths in one graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.runtime.boundary import real
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.widths.precision import Precision, Widths, parse
from tests.chain import NONE, Chain, noise, samples
from tests.lowering.lowerings import conv, named, run_everywhere, scale_of, transformer_block
from tests.one_op import Lowered, lowered

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
    y = chain.op("MUL", x, chain.constant(np.float32(2)), name="y", **NONE)
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
