"""Regions between matrix products: what belongs to them, and which widths they get."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import Precision, Widths
from edgeqwt.widths.regions import is_product, regions, widened
from tests import small
from tests.chain import CONV, NONE, Chain
from tests.prepare import toy


def test_a_transformer_has_a_stream_and_per_block_a_softmax() -> None:
    graph = prepare(toy.language(blocks=2)).graph
    found = regions(graph)
    assert Counter(region.role for region in found) == {"normalization": 1, "softmax": 2}
    assert not any(is_product(graph, graph.ops[i]) for region in found for i in region.ops)
    stream = next(region for region in found if region.role == "normalization")
    kinds = Counter(graph.ops[i].kind for i in stream.ops)
    assert kinds["RSQRT"] == 5
    assert kinds["BATCH_MATMUL"] == 5  # sums of squares: one column each
    assert "GATHER" not in kinds  # a table of words stays 8 bits wide
    ops = [i for region in found for i in region.ops]
    assert len(ops) == len({*ops})


def test_what_only_moves_values_is_no_island_of_its_own() -> None:
    graph = prepare(toy.language(blocks=1)).graph
    inside = {i for region in regions(graph) for i in region.ops}
    heads = [i for i, op in enumerate(graph.ops) if op.kind == "TRANSPOSE"]
    assert heads
    assert not inside & {*heads}


def test_convolutional_networks_have_none() -> None:
    assert regions(small.graph()) == ()


def test_attention_makes_a_transformer_where_nothing_normalizes() -> None:
    # LeViT has batch norms, which are folded away.
    chain = Chain()
    x = chain.input((1, 4, 6))
    scores = chain.op("BATCH_MATMUL", x, x, adjY=True)
    weights = chain.op("RESHAPE", chain.op("SOFTMAX", scores, beta=1.0), chain.constant([1, 4, 4]), newShape=(1, 4, 4))
    assert regions(chain.graph(weights)) == ()
    graph = chain.graph(chain.op("BATCH_MATMUL", weights, x))
    assert [region.role for region in regions(graph)] == ["softmax"]


def test_products_keep_8_bits() -> None:
    graph = prepare(toy.language(blocks=1)).graph
    precision = widened(graph, Precision(weight_bits=4), regions(graph))
    assert {*precision.layers.values()} == {Widths(4, 16)}
    plan = planned(graph, precision)
    for op, bits in zip(graph.ops, plan.ops, strict=True):
        if is_product(graph, op):
            assert bits == 8, op.kind
        elif op.kind in ("SOFTMAX", "RSQRT", "SUB"):
            assert bits == 16, op.kind


def test_one_op_between_products_is_a_region_where_its_8_bit_scale_is_fixed() -> None:
    graph = prepare(toy.language(blocks=1)).graph
    gelu = next(i for i, op in enumerate(graph.ops) if op.kind == "GELU")
    assert not any(gelu in region.ops for region in regions(graph))  # it rounds once, with the scale that fits
    other = replace(graph.ops[gelu], kind="LOGISTIC")
    logistic = replace(graph, ops=(*graph.ops[:gelu], other, *graph.ops[gelu + 1 :]))
    assert ("activation", (gelu,)) in [(region.role, region.ops) for region in regions(logistic)]
    shown = replace(graph, outputs=(*graph.outputs, graph.ops[gelu].outputs[0]))
    assert ("activation", (gelu,)) in [(region.role, region.ops) for region in regions(shown)]


def test_what_has_no_16_bit_form_is_left_out() -> None:
    graph = prepare(toy.language(blocks=1)).graph
    names = {graph.tensors[t].name: op.kind for op in graph.ops for t in op.outputs}
    wide = widened(graph, Precision(), regions(graph)).layers
    assert "DIV" not in {names[name] for name in wide}


def gated(size: int) -> Graph:
    """A convolution, squeeze-and-excitation on what it computes, and a classifier."""
    chain, rng = Chain(), np.random.default_rng(0)

    def conv(x: int, cin: int, cout: int, k: int, activation: str) -> int:
        weights = chain.constant(rng.normal(size=(cout, k, k, cin)))
        return chain.op("CONV_2D", x, weights, chain.constant(np.zeros(cout)), **{**CONV, **fused(activation)})

    def fused(activation: str) -> dict[str, str]:
        return {"fusedActivationFunction": activation}

    def mean(x: int) -> int:
        return chain.op("MEAN", x, chain.constant(np.array([1, 2], np.int32)), keepDims=True)

    x = conv(chain.input((1, size, size, 3)), 3, 16, 3, "RELU")
    gate = chain.op("LOGISTIC", conv(conv(mean(x), 16, 4, 1, "RELU"), 4, 16, 1, "NONE"))
    return chain.graph(conv(mean(chain.op("MUL", x, gate, **NONE)), 16, 5, 1, "NONE"))


def test_layers_on_vectors_are_a_region_up_to_the_gate() -> None:
    graph = gated(16)
    (found,) = regions(graph)
    assert found.role == "vectors"
    assert [graph.ops[i].kind for i in found.ops] == ["CONV_2D", "CONV_2D", "LOGISTIC"]
    plan = planned(graph, widened(graph, Precision(), [found]))
    assert [bits for op, bits in zip(graph.ops, plan.ops, strict=True) if op.kind in ("MEAN", "MUL")] == [8, 8, 8]
    assert [plan.ops[i] for i in found.ops] == [16, 16, 16]


def test_vectors_that_are_most_of_the_work_are_none() -> None:
    assert regions(gated(2)) == ()


def heat_map(weighs: bool) -> Graph:
    """A convolution whose map becomes shares of positions, by which coordinates are averaged, or nothing."""
    chain, rng = Chain(), np.random.default_rng(0)
    weights = chain.constant(rng.normal(size=(1, 3, 3, 3)))
    scores = chain.op("CONV_2D", chain.input((1, 16, 16, 3)), weights, chain.constant(np.zeros(1)), **CONV)
    flat = chain.op("RESHAPE", scores, chain.constant(np.array([1, 256], np.int32)), newShape=(1, 256))
    shares = chain.op("SOFTMAX", flat, beta=1.0)
    if not weighs:
        return chain.graph(shares)
    weighted = chain.op("MUL", shares, chain.constant(rng.normal(size=(1, 256))), **NONE)
    return chain.graph(chain.op("MEAN", weighted, chain.constant(np.array([1], np.int32)), keepDims=False))


def test_a_softmax_whose_shares_are_summed_is_a_region_up_to_the_sum() -> None:
    graph = heat_map(weighs=True)
    (found,) = regions(graph)
    assert found.role == "expectation"
    assert [graph.ops[i].kind for i in found.ops] == ["SOFTMAX", "MUL", "MEAN"]
    plan = planned(graph, widened(graph, Precision(), [found]))
    assert [plan.ops[i] for i in found.ops] == [16, 16, 16]
    assert plan.ops[0] == 8


def test_a_softmax_at_the_end_is_none() -> None:
    assert regions(heat_map(weighs=False)) == ()


def boxes(bins: int) -> Graph:
    """A detector's box: shares of distances, which a convolution with constant weights averages, on 64 positions."""
    chain, rng = Chain(), np.random.default_rng(0)
    x = chain.op(
        "CONV_2D", chain.input((1, 8, 8, 16)), chain.constant(rng.normal(size=(bins, 3, 3, 16))),
        chain.constant(np.zeros(bins)), **CONV,
    )  # fmt: skip
    shares = chain.op("SOFTMAX", x, beta=1.0)
    distances = chain.constant(np.arange(bins, dtype=np.float64).reshape(1, 1, 1, bins))
    return chain.graph(chain.op("CONV_2D", shares, distances, chain.constant(np.zeros(1)), **CONV))


def test_distances_that_a_convolution_averages_are_a_region() -> None:
    graph = boxes(bins=16)
    (found,) = regions(graph)
    assert found.role == "expectation"
    assert [graph.ops[i].kind for i in found.ops] == ["SOFTMAX", "CONV_2D"]


def test_a_softmax_before_most_of_the_work_is_none() -> None:
    chain, rng = Chain(), np.random.default_rng(0)
    shares = chain.op("SOFTMAX", chain.input((1, 8, 8, 16)), beta=1.0)
    weights = chain.constant(rng.normal(size=(16, 3, 3, 16)))
    assert regions(chain.graph(chain.op("CONV_2D", shares, weights, chain.constant(np.zeros(16)), **CONV))) == ()
