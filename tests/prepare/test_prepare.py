"""Rewrites change how a function is written, never the function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Signature, Tensor
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.runners import xnnpack
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise, samples
from tests.one_op_specs import SPECS, case

# A handful of float32 roundings (2^-24 each), some of them of intermediate results larger than the output.
TOLERANCE = 16 * 2.0**-24


def kinds(graph: Graph) -> list[str]:
    """The graph's ops."""
    return [op.kind for op in graph.ops]


def assert_same_function(before: Graph, after: Graph, feeds: list[dict[int, Array]] | None = None) -> None:
    """Runs both graphs in LiteRT on the same samples."""
    assert [before.tensors[t].name for t in before.inputs] == [after.tensors[t].name for t in after.inputs]
    assert [before.tensors[t].name for t in before.outputs] == [after.tensors[t].name for t in after.outputs]
    old, new = xnnpack(before), xnnpack(after)
    for feed in feeds or samples(before):
        expected = old.run(feed)
        got = new.run(dict(zip(after.inputs, (feed[t] for t in before.inputs), strict=True)))
        for a, b in zip(before.outputs, after.outputs, strict=True):
            assert expected[a].shape == got[b].shape
            if expected[a].dtype != np.float32:
                np.testing.assert_array_equal(expected[a], got[b])
                continue
            scale = float(np.abs(expected[a]).max(initial=0)) + 1e-30
            assert float(np.abs(expected[a] - got[b]).max(initial=0)) <= TOLERANCE * scale


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.shape is None])
def test_every_op_keeps_its_function(name: str) -> None:
    graph = case(name).graph
    prepared = prepare(graph)
    assert_same_function(graph, prepared.graph, [dict(s) for s in case(name).samples])
    again = prepare(prepared.graph)
    assert again.changes == ()
    assert again.graph is prepared.graph


def test_a_graph_in_canonical_form_comes_back_as_it_is() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("CONV_2D", chain.input((1, 4, 4, 3)), chain.constant(noise(5, 3, 3, 3)),
                                 chain.constant(noise(5)), **CONV))  # fmt: skip
    assert prepare(graph).graph is graph
    assert prepare(graph).changes == ()


def test_convolution_without_bias_gets_zeros() -> None:
    chain = Chain()
    x, w = chain.input((1, 4, 4, 3)), chain.constant(noise(5, 3, 3, 3))
    bare = chain.graph(chain.op("CONV_2D", x, w, shape=(1, 4, 4, 5), **CONV))
    prepared = prepare(bare)
    assert prepared.changes == ("Convolutions without a bias got one of zeros: 'conv_2d0'.",)
    chain = Chain()
    x, w, b = chain.input((1, 4, 4, 3)), chain.constant(noise(5, 3, 3, 3)), chain.constant(np.zeros(5))
    with_bias = chain.graph(chain.op("CONV_2D", x, w, b, **CONV))
    assert_same_function(with_bias, prepared.graph)


@pytest.mark.parametrize("activation", ["RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize("host", ["CONV_2D", "FULLY_CONNECTED", "ADD", "MAX_POOL_2D", "TRANSPOSE_CONV"])
def test_activations_are_fused(activation: str, host: str) -> None:
    chain = Chain()
    x = chain.input((2, 6) if host == "FULLY_CONNECTED" else (1, 4, 4, 6))
    if host == "CONV_2D":
        y = chain.op(host, x, chain.constant(noise(5, 3, 3, 6)), chain.constant(noise(5)), **CONV)
    elif host == "FULLY_CONNECTED":
        y = chain.op(host, x, chain.constant(noise(5, 6)), chain.constant(noise(5)), **NONE)
    elif host == "TRANSPOSE_CONV":
        shape, w = chain.constant([1, 8, 8, 5]), chain.constant(noise(5, 2, 2, 6))
        y = chain.op(host, shape, w, x, padding="SAME", strideH=2, strideW=2)
    elif host == "MAX_POOL_2D":
        window: dict[str, Any] = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": "VALID"}
        y = chain.op(host, x, **window, **NONE)
    else:
        y = chain.op(host, x, chain.constant(noise(6)), **NONE)
    graph = chain.graph(chain.op(activation, y))
    prepared = prepare(graph).graph
    assert kinds(prepared) == [host]
    assert prepared.ops[0].activation == activation
    assert_same_function(graph, prepared)


def test_a_pool_over_the_whole_map_becomes_a_mean() -> None:
    found = {name: kinds(prepare(case(f"AVERAGE_POOL_2D/{name}").graph).graph) for name in ("global", "valid", "relu")}
    assert found == {"global": ["MEAN"], "valid": ["AVERAGE_POOL_2D"], "relu": ["AVERAGE_POOL_2D"]}


def test_an_activation_stays_where_others_read_its_input() -> None:
    chain = Chain()
    y = chain.op("ADD", chain.input((1, 6)), chain.constant(noise(6)), **NONE)
    graph = chain.graph(chain.op("RELU", y), chain.op("TANH", y))
    assert kinds(prepare(graph).graph) == ["ADD", "RELU", "TANH"]
    output_too = chain.graph(y, chain.op("RELU", y))
    assert "RELU" in kinds(prepare(output_too).graph)


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"])
def test_batch_norm_goes_into_weights(kind: str) -> None:
    chain = Chain()
    x = chain.input((2, 6) if kind == "FULLY_CONNECTED" else (1, 4, 4, 6))
    if kind == "CONV_2D":
        y = chain.op(kind, x, chain.constant(noise(6, 3, 3, 6)), chain.constant(noise(6)), **CONV)
    elif kind == "DEPTHWISE_CONV_2D":
        y = chain.op(kind, x, chain.constant(noise(1, 3, 3, 6)), chain.constant(noise(6)), **DEPTHWISE)
    elif kind == "FULLY_CONNECTED":
        y = chain.op(kind, x, chain.constant(noise(6, 6)), version=6, **NONE)
    else:
        shape, w = chain.constant([1, 8, 8, 6]), chain.constant(noise(6, 2, 2, 6))
        y = chain.op(kind, shape, w, x, padding="SAME", strideH=2, strideW=2)
    y = chain.op("MUL", y, chain.constant(noise(6, seed=2)), **NONE)
    y = chain.op("SUB", y, chain.constant(noise(6, seed=3)), **NONE)
    y = chain.op("ADD", chain.constant(noise(1, seed=4)), y, fusedActivationFunction="RELU")
    graph = chain.graph(y)
    prepared = prepare(graph)
    assert kinds(prepared.graph) == [kind]
    assert prepared.graph.ops[0].activation == "RELU"
    assert_same_function(graph, prepared.graph)


@pytest.mark.parametrize(
    ("activation", "factors", "stays", "becomes"),
    [
        ("RELU", [20.0], "NONE", "RELU"),
        ("RELU", [0.0, 1.0, 2.0, 3.0], "RELU6", "RELU6"),
        ("RELU", [1.0, -1.0, 2.0, 3.0], "NONE", None),
        ("RELU6", [0.5], "NONE", None),
    ],
)
def test_factors_behind_an_activation_go_into_weights_where_it_lets_them(
    activation: str, factors: list[float], stays: str, becomes: str | None
) -> None:
    chain = Chain()
    options = {**CONV, "fusedActivationFunction": activation}
    weights, bias = chain.constant(noise(4, 3, 3, 3)), chain.constant(noise(4))
    y = chain.op("CONV_2D", chain.input((1, 4, 4, 3)), weights, bias, **options)
    y = chain.op("MUL", y, chain.constant(np.float32(factors)), fusedActivationFunction=stays)
    graph = chain.graph(y)
    prepared = prepare(graph).graph
    assert kinds(prepared) == (["CONV_2D"] if becomes else ["CONV_2D", "MUL"])
    assert prepared.ops[0].activation == (becomes or activation)
    assert_same_function(graph, prepared)


def test_what_is_not_one_constant_per_channel_stays() -> None:
    chain = Chain()
    y = chain.op("CONV_2D", chain.input((1, 4, 4, 3)), chain.constant(noise(4, 3, 3, 3)),
                 chain.constant(noise(4)), **CONV)  # fmt: skip
    per_row = chain.op("MUL", y, chain.constant(noise(1, 4, 1, 1)), **NONE)
    assert kinds(prepare(chain.graph(per_row)).graph) == ["CONV_2D", "MUL"]
    flipped = chain.op("SUB", chain.constant(noise(4)), y, **NONE)
    assert kinds(prepare(chain.graph(flipped)).graph) == ["CONV_2D", "SUB"]


@pytest.mark.parametrize("adjoint", [False, True])
def test_linear_layer_becomes_fully_connected(adjoint: bool) -> None:
    chain = Chain()
    x = chain.input((1, 7, 8))
    right = chain.constant(noise(6, 8) if adjoint else noise(8, 6))
    y = chain.op("BATCH_MATMUL", x, right, adjX=False, adjY=adjoint)
    graph = chain.graph(chain.op("ADD", chain.constant(noise(6)), y, fusedActivationFunction="RELU"))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["FULLY_CONNECTED"]
    assert_same_function(graph, prepared)


def test_matrix_products_that_are_no_linear_layer_stay() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("BATCH_MATMUL", chain.input((2, 5, 8)), chain.constant(noise(2, 8, 6)),
                                 adjX=False, adjY=False))  # fmt: skip
    assert kinds(prepare(graph).graph) == ["BATCH_MATMUL"]


def test_constants_are_computed() -> None:
    chain = Chain()
    factor = chain.op("MUL", chain.constant(noise(3)), chain.constant(noise(3, seed=1)), **NONE)
    factor = chain.op("EXP", factor)
    graph = chain.graph(chain.op("MUL", chain.input((2, 3)), factor, **NONE))
    prepared = prepare(graph)
    assert kinds(prepared.graph) == ["MUL"]
    assert_same_function(graph, prepared.graph)


def test_half_precision_weights_become_float32() -> None:
    weights = noise(5, 6).astype(np.float16)
    tensors = (
        Tensor("x", (2, 6), "float32"),
        Tensor("half", weights.shape, "float16", weights),
        Tensor("weights", weights.shape, "float32"),
        Tensor("y", (2, 5), "float32"),
    )
    unpack = Op("DEQUANTIZE", (1,), (2,), version=3)
    graph = Graph(tensors, (unpack, Op("FULLY_CONNECTED", (0, 2), (3,), NONE, 6)), (0,), (3,))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["FULLY_CONNECTED"]
    assert_same_function(graph, prepared)


def test_constants_that_would_blow_up_the_file_are_not_computed() -> None:
    chain = Chain()
    big = chain.op("BROADCAST_TO", chain.constant(noise(1)), chain.constant([1 << 20]), version=2)
    graph = chain.graph(chain.op("ADD", chain.input((1 << 20,)), big, **NONE))
    assert "BROADCAST_TO" in kinds(prepare(graph).graph)


def test_shape_arithmetic_is_computed() -> None:
    chain = Chain()
    x = chain.input((2, 3, 4))
    shape = chain.op("SHAPE", x, dtype="int32", outType="INT32")
    ends = (chain.constant([0]), chain.constant([1]), chain.constant([1]))
    rows = chain.op("STRIDED_SLICE", shape, *ends, dtype="int32",
                    beginMask=0, endMask=0, ellipsisMask=0, newAxisMask=0, shrinkAxisMask=0)  # fmt: skip
    wanted = chain.op("CONCATENATION", rows, chain.constant([12]), dtype="int32", axis=0)
    graph = chain.graph(chain.op("RESHAPE", x, wanted, shape=(2, 12), newShape=(2, 12)))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["RESHAPE"]
    assert_same_function(graph, prepared)


@pytest.mark.parametrize("batch", [1, -1])
def test_open_shapes_are_closed_where_the_inputs_are_fixed(batch: int) -> None:
    chain = Chain()
    x = chain.input((1, 6))
    y = chain.op("TANH", x)
    shape = chain.op("SHAPE", y, dtype="int32", outType="INT32")
    graph = chain.graph(chain.op("RESHAPE", y, shape, shape=(1, 6), newShape=(1, 6)))
    graph = graph.with_tensors(
        {
            x: replace(graph.tensors[x], shape_signature=(batch, 6)),
            y: replace(graph.tensors[y], shape_signature=(-1, 6)),
        }
    )
    prepared = prepare(graph).graph
    assert kinds(prepared) == (["TANH"] if batch == 1 else ["TANH", "SHAPE", "RESHAPE"])
    assert_same_function(graph, prepared)


def test_ops_that_change_nothing_are_dropped() -> None:
    chain = Chain()
    x = chain.input((1, 4, 4, 3))
    y = chain.op("RESHAPE", x, chain.constant([1, 4, 4, 3]), newShape=(1, 4, 4, 3))
    y = chain.op("TRANSPOSE", y, chain.constant([0, 1, 2, 3]))
    y = chain.op("TANH", y)
    last = chain.op("RESHAPE", y, chain.constant([1, 4, 4, 3]), newShape=(1, 4, 4, 3), name="answer")
    graph = chain.graph(last)
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["TANH"]
    assert_same_function(graph, prepared)


def test_identity_between_input_and_output_stays() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    graph = chain.graph(chain.op("RESHAPE", x, chain.constant([1, 4]), newShape=(1, 4)))
    assert_same_function(graph, prepare(graph).graph)


def test_dead_ops_go_and_what_signatures_name_stays() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    y, unused = chain.op("TANH", x), chain.op("LOGISTIC", x)
    chain.op("EXP", unused)
    graph = chain.graph(y)
    assert kinds(prepare(graph).graph) == ["TANH"]
    named = replace(graph, signatures=(Signature("serve", (("x", x),), (("y", y), ("gate", unused))),))
    assert kinds(prepare(named).graph) == ["TANH", "LOGISTIC"]


def test_names_become_unique() -> None:
    chain = Chain()
    x = chain.input((1, 4), name="t")
    y = chain.op("TANH", x, name="t")
    graph = chain.graph(chain.op("EXP", y, name="t_1"))
    prepared = prepare(graph).graph
    names = [t.name for t in prepared.tensors]
    assert len(set(names)) == len(names)
    assert [prepared.tensors[t].name for t in (*prepared.inputs, *prepared.outputs)] == ["t", "t_1"]


def test_division_by_a_root_is_one_op() -> None:
    chain = Chain()
    x = chain.input((1, 5, 8))
    graph = chain.graph(chain.op("DIV", x, chain.op("SQRT", chain.op("EXP", x)), **NONE))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["EXP", "RSQRT", "MUL"]
    assert_same_function(graph, prepared)


def wrapped(base: int) -> Graph:
    """Rows of a table by index; negative indices count from the end, as ONNX has it, or get something else added."""
    chain = Chain()
    i = chain.input((1, 5), dtype="int32")
    negative = chain.op("LESS", i, chain.constant([0]), dtype="bool", shape=(1, 5))
    other = chain.op(
        "ADD", chain.op("ABS", i, dtype="int32") if base else i, chain.constant([9]), dtype="int32", **NONE
    )
    index = chain.op("SELECT_V2", negative, other, i, dtype="int32", shape=(1, 5))
    return chain.graph(chain.op("GATHER", chain.constant(noise(9, 4)), index, shape=(1, 5, 4), dtype="float32",
                                axis=0, batchDims=0))  # fmt: skip


def test_indices_from_the_end_need_no_select() -> None:
    graph = wrapped(0)
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["LESS", "CAST", "MUL", "ADD", "GATHER"]
    assert_same_function(graph, prepared, [{graph.inputs[0]: np.array([[0, 8, -1, -9, 3]], np.int32)}])
    assert prepare(prepared).graph is prepared


def test_other_choices_between_indices_stay() -> None:
    assert "SELECT_V2" in kinds(prepare(wrapped(1)).graph)


@pytest.mark.parametrize(("exponent", "kind"), [(2.0, "MUL"), (0.5, "SQRT"), (-0.5, "RSQRT"), (3.0, "POW")])
def test_powers_that_norms_are_spelled_with(exponent: float, kind: str) -> None:
    chain = Chain()
    x = chain.op("EXP", chain.input((1, 6)))
    graph = chain.graph(chain.op("POW", x, chain.constant([exponent])))
    prepared = prepare(graph).graph
    assert kinds(prepared) == ["EXP", kind]
    assert_same_function(graph, prepared)


def test_division_by_zero_is_left_alone() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("DIV", chain.input((1, 2)), chain.constant([1.0, 0.0]), **NONE))
    assert kinds(prepare(graph).graph) == ["DIV"]


def test_changes_name_a_few_ops_and_count_the_rest() -> None:
    chain = Chain()
    y = chain.input((1, 4))
    for _ in range(7):
        y = chain.op("TANH", chain.op("NEG", y))
    (change,) = prepare(chain.graph(y)).changes
    assert change == "NEG became MUL by -1: 'neg0', 'neg2', 'neg4', 'neg6' and 3 more."


def test_integer_ops_are_left_alone() -> None:
    chain = Chain()
    x = chain.input((4,), dtype="int32")
    graph = chain.graph(chain.op("SQUARE", chain.op("NEG", x, dtype="int32", shape=(4,)), dtype="int32", shape=(4,)))
    assert kinds(prepare(graph).graph) == ["NEG", "SQUARE"]


def test_quantized_constants_are_not_mistaken_for_float_ones() -> None:
    q = Quantization.per_tensor(0.1, 0)
    weights = np.ones((5, 6), np.int8)
    tensors = (
        Tensor("x", (2, 6), "float32"),
        Tensor("w", weights.shape, "int8", weights, q),
        Tensor("y", (2, 5), "float32"),
    )
    graph = Graph(tensors, (Op("FULLY_CONNECTED", (0, 1), (2,), NONE, 6),), (0,), (2,))
    assert prepare(graph).graph is graph
