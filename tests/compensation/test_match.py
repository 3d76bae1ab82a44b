from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.compensation.match import FLOAT, NO_PARTNER, NOT_INTEGER, Pair, match
from edgeqwt.errors import InputError
from edgeqwt.graph import pairing
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.interface import check_interfaces
from edgeqwt.graph.linear import linear_ops, slots
from edgeqwt.lowering.int4 import with_dense_pointwise
from tests.chain import CONV, NONE, Chain, noise
from tests.compensation.nets import RELU, conv, dense, made, mean, plain_net, residual_net

NETS = [plain_net, residual_net]


def renamed(graph: Graph) -> Graph:
    """The graph with names that tell nothing."""
    return replace(graph, tensors=tuple(replace(t, name=f"t{i}") for i, t in enumerate(graph.tensors)))


def partners(graph: Graph, reference: Graph) -> dict[str, str]:
    """Output names of paired ops."""
    return {
        graph.tensors[graph.ops[p.integer].outputs[0]].name: reference.tensors[
            reference.ops[p.reference].outputs[0]
        ].name
        for p in match(graph, reference)[0]
    }


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("net", NETS)
def test_same_names(net: object, bits: int) -> None:
    case = made(net(), count=3, bits=bits)  # type: ignore[operator]
    pairs, alone = match(case.integer, case.floating)
    assert not alone
    assert pairs == tuple(Pair(i, i, case.floating.ops[i].outputs[0]) for i in linear_ops(case.floating))


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("net", NETS)
def test_names_that_tell_nothing(net: object, bits: int) -> None:
    case = made(net(), count=3, bits=bits)  # type: ignore[operator]
    pairs, alone = match(renamed(case.integer), case.floating)
    assert not alone
    assert [(p.integer, p.reference) for p in pairs] == [(i, i) for i in linear_ops(case.floating)]


def test_ops_of_one_name_are_held_against_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a recurrent layer have the same weights: all held against all would be a square of thousands."""
    case, seen = made(plain_net(), count=3), list[int]()
    likeness = pairing._likeness
    monkeypatch.setattr(pairing, "_likeness", lambda g, i, r, j: seen.append(i) or likeness(g, i, r, j))
    pairs, _ = match(case.integer, case.floating)
    assert seen == [pair.integer for pair in pairs if pair.integer in linear_ops(case.integer)]


def test_branches_in_another_order() -> None:
    """conv4's branch first; three of the four 3x3 convolutions have equally shaped weights and outputs."""
    case = made(residual_net(), count=3)
    order = [0, 3, 1, 2, *range(4, len(case.integer.ops))]
    graph = renamed(replace(case.integer, ops=tuple(case.integer.ops[i] for i in order)))
    pairs, _ = match(graph, case.floating)
    assert [(p.integer, p.reference) for p in pairs] == [(0, 0), (1, 3), (2, 1), (3, 2), (6, 6)]
    outcome = replace(case, integer=graph).compensated()
    assert [change.op for change in outcome.changes] == [0, 1, 2, 3, 6]


def test_swapped_names_do_not_mislead() -> None:
    """Two ops of one shape whose names another tool exchanged: the weights decide."""
    case = made(residual_net(), count=3)
    a, b = (case.integer.ops[i].outputs[0] for i in (1, 3))
    names = {a: case.integer.tensors[b].name, b: case.integer.tensors[a].name}
    graph = case.integer.with_tensors({t: replace(case.integer.tensors[t], name=n) for t, n in names.items()})
    assert partners(graph, case.floating) == {
        "conv1": "conv1",
        "conv2": "conv4",
        "conv3": "conv3",
        "conv4": "conv2",
        "fc5": "fc5",
    }


@pytest.mark.parametrize("name", ["same", "other"])
def test_of_several_similar_weights_the_most_similar(name: str) -> None:
    """Two layers whose weights differ by a tenth, in the other order; names are all alike, or all unlike."""
    first, second = noise(5, 6), noise(5, 6) + noise(5, 6, seed=1, scale=0.1)

    def siblings(*weights: Array) -> Graph:
        chain = Chain()
        x, bias = chain.input((2, 6)), chain.constant(noise(5))
        return chain.graph(*(chain.op("FULLY_CONNECTED", x, chain.constant(w), bias, **NONE) for w in weights))

    case = made(siblings(first, second), count=3)
    integer, reference = (
        replace(graph, tensors=tuple(replace(t, name=called) for t in graph.tensors))
        for graph, called in ((case.integer, "same"), (siblings(second, first), name))
    )
    pairs, _ = match(integer, reference)
    assert [(p.integer, p.reference) for p in pairs] == [(0, 1), (1, 0)]


def test_equal_weights_pair_in_order() -> None:
    chain = Chain()
    x = chain.input((1, 6, 6, 4))
    weights, bias = noise(4, 4, scale=0.5), noise(4)
    x = chain.op("FULLY_CONNECTED", x, chain.constant(weights, "w0"), chain.constant(bias, "b0"), name="first")
    x = chain.op("FULLY_CONNECTED", x, chain.constant(weights, "w1"), chain.constant(bias, "b1"), name="second")
    case = made(chain.graph(x), count=3)
    pairs, _ = match(renamed(case.integer), case.floating)
    assert [(p.integer, p.reference) for p in pairs] == [(0, 0), (1, 1)]


def test_activation_fused_in_one_graph_only() -> None:
    """The pair's output is the reference's tensor after the activation, where there is one."""
    chain = Chain()
    x = conv(chain, chain.input((1, 5, 5, 3)), 4, 1, "NONE")
    apart = chain.graph(dense(chain, mean(chain, chain.op("RELU", x, name="relu")), 3, 2))
    chain = Chain()
    x = conv(chain, chain.input((1, 5, 5, 3)), 4, 1)
    fused = made(chain.graph(dense(chain, mean(chain, x), 3, 2)), count=16, bits=3)
    pairs, _ = match(fused.integer, apart)
    relu = apart.ops[1].outputs[0]
    assert pairs[0] == Pair(0, 0, relu)
    other = made(apart, count=16, bits=3)
    assert other.floating is apart
    outcome = replace(fused, floating=apart, statistics=other.statistics).compensated()
    assert {change.name for change in outcome.changes} == {"conv1", "fc2"}
    # The same correction as with the fused reference, whose activations are the same numbers.
    wanted = fused.compensated()
    assert [replace(c, scale=None) for c in outcome.changes] == [replace(c, scale=None) for c in wanted.changes]
    assert [c.scale for c in outcome.changes] == [c.scale for c in wanted.changes]


def test_activation_fused_in_the_reference_only() -> None:
    case = made(residual_net(), count=3)
    op = case.integer.ops[0]
    graph = case.integer.with_ops({0: op.with_options(**NONE)})
    pairs, _ = match(graph, case.floating)
    assert pairs[0] == Pair(0, 0, None)


def test_a_pointwise_convolution_may_have_become_a_dense_layer() -> None:
    """As files with 4-bit weights have it; another convolution of the same outputs is no candidate."""
    chain = Chain()
    x = conv(chain, chain.input((1, 5, 5, 4)), 8, 1)
    weights, bias = chain.constant(noise(8, 1, 1, 8, scale=0.5), "w"), chain.constant(noise(8), "b")
    case = made(chain.graph(chain.op("CONV_2D", x, weights, bias, name="point", **CONV)), bits=4)
    graph = renamed(with_dense_pointwise(case.integer))
    assert [op.kind for op in graph.ops] == ["CONV_2D", "FULLY_CONNECTED"]
    pairs, alone = match(graph, case.floating)
    assert not alone
    assert [(p.integer, p.reference) for p in pairs] == [(0, 0), (1, 1)]
    # XNNPACK's bytes are those of the convolution, and so are corrections.
    found, wanted = case.compensated(graph=graph), case.compensated()
    assert [c.gain_high for c in found.changes] == [c.gain_high for c in wanted.changes]
    assert len(found.changes) == 2


def test_shared_weights_pair_twice() -> None:
    """One weight tensor, read by two ops, in both graphs."""
    chain = Chain()
    x = chain.input((2, 6))
    weights, b0, b1 = (
        chain.constant(noise(6, 6), "w"),
        chain.constant(noise(6, seed=1)),
        chain.constant(noise(6, seed=2)),
    )
    x = chain.op("FULLY_CONNECTED", x, weights, b0, name="first", **RELU)
    floating = chain.graph(chain.op("FULLY_CONNECTED", x, weights, b1, name="second", **NONE))
    case = made(floating, count=16)
    w = slots(case.integer.ops[0]).weight
    op = case.integer.ops[1]
    graph = case.integer.with_ops({1: replace(op, inputs=(op.inputs[0], w, op.inputs[2]))}).pruned()
    pairs, alone = match(renamed(graph), floating)
    assert not alone
    assert [(p.integer, p.reference) for p in pairs] == [(0, 0), (1, 1)]
    outcome = replace(case, integer=graph).compensated()
    assert all(change.with_gain == 0 for change in outcome.changes)


def test_bias_that_only_one_graph_has() -> None:
    """Where the reference adds the bias in an op of its own, the two outputs are different quantities."""
    chain = Chain()
    x = chain.input((1, 6))
    x = chain.op("FULLY_CONNECTED", x, chain.constant(noise(5, 6), "w0"), name="first", shape=(1, 5), **NONE)
    x = chain.op("ADD", x, chain.constant(noise(5, seed=1)), name="biased", **NONE)
    reference = chain.graph(dense(chain, x, 3, 2))
    chain = Chain()
    x = chain.input((1, 6))
    x = chain.op(
        "FULLY_CONNECTED", x, chain.constant(noise(5, 6), "w0"), chain.constant(noise(5, seed=1)), name="first"
    )
    case = made(chain.graph(dense(chain, x, 3, 2)), count=3)
    pairs, alone = match(case.integer, reference)
    assert [p.integer for p in pairs] == [1]
    assert alone == {0: NO_PARTNER}


def test_zero_bias_is_no_bias() -> None:
    """Lowering gives every linear op a bias of zeros."""
    chain = Chain()
    weights = chain.constant(noise(5, 6), "w0")
    x = chain.op("FULLY_CONNECTED", chain.input((1, 6)), weights, name="first", shape=(1, 5), **NONE)
    case = made(chain.graph(dense(chain, x, 3, 2)), count=3)
    assert slots(case.floating.ops[0]).bias < 0 <= slots(case.integer.ops[0]).bias
    assert len(match(case.integer, case.floating)[0]) == 2


def test_batch_norm_that_only_one_graph_has_folded_in() -> None:
    case = made(plain_net(), count=3)
    w = slots(case.floating.ops[0]).weight
    data = case.floating.tensors[w].data
    assert data is not None
    norm = np.array([0.1, 3, 8, 0.2, 7, 12, 5, 4], np.float32).reshape(8, 1, 1, 1)
    reference = case.floating.with_tensors({w: replace(case.floating.tensors[w], data=data * norm)})
    _, alone = match(case.integer, reference)
    assert alone == {0: NO_PARTNER}


@pytest.mark.parametrize("same_names", [True, False])
def test_weights_that_are_all_zero(same_names: bool) -> None:
    """Only the name can tell them apart."""
    case = made(plain_net(), count=3)
    graphs = []
    for graph in (case.integer, case.floating):
        w = slots(graph.ops[0]).weight
        zeros = np.zeros(graph.tensors[w].shape, np.dtype(graph.tensors[w].dtype))
        graphs.append(graph.with_tensors({w: replace(graph.tensors[w], data=zeros)}))
    pairs, alone = match(graphs[0] if same_names else renamed(graphs[0]), graphs[1])
    assert (0 in alone) is not same_names
    assert len(pairs) + len(alone) == 4


# -- what does not belong together ---------------------------------------------------------


def other_weights(graph: Graph) -> Graph:
    """The same network, trained another time."""
    changes = {}
    for i in linear_ops(graph):
        w = slots(graph.ops[i]).weight
        changes[w] = replace(graph.tensors[w], data=noise(*graph.tensors[w].shape, seed=100 + i))
    return graph.with_tensors(changes)


@pytest.mark.parametrize("net", NETS)
def test_reference_with_other_weights(net: object) -> None:
    case = made(net(), count=3)  # type: ignore[operator]
    for graph in (case.integer, renamed(case.integer)):
        with pytest.raises(InputError, match=f"none of the .* linear ops .*: {NO_PARTNER}") as caught:
            replace(case, integer=graph, floating=other_weights(case.floating)).compensated()
        assert "float file that it was made from" in caught.value.hint


def test_reference_of_another_structure() -> None:
    case = made(plain_net(), count=3)
    chain = Chain()
    reference = chain.graph(dense(chain, chain.input((1, 8, 8, 3)), 5, 1))
    with pytest.raises(InputError, match="none of the 4 linear ops"):
        match(case.integer, reference)


def test_reference_that_is_an_integer_graph() -> None:
    case = made(plain_net(), count=3)
    with pytest.raises(InputError, match="none of the 4 linear ops"):
        match(case.integer, case.integer)


def test_float_graph_in_place_of_the_integer_one() -> None:
    case = made(plain_net(), count=3)
    with pytest.raises(InputError, match=FLOAT):
        match(case.floating, case.floating)


@pytest.mark.parametrize("dtype", ["int16", "uint8"])
def test_ops_on_other_integers_are_left_alone(dtype: str) -> None:
    case = made(plain_net(), count=3)
    t = slots(case.integer.ops[0]).data
    graph = case.integer.with_tensors({t: replace(case.integer.tensors[t], dtype=dtype)})
    pairs, alone = match(graph, case.floating)
    assert alone == {0: NOT_INTEGER}
    assert len(pairs) == 3


def test_integer_weights_on_floats_are_matched() -> None:
    """A kernel that rounds what it reads at run time has scales and a bias to fold into; the other ops are float."""
    case = made(plain_net(), count=3)
    w = slots(case.integer.ops[0]).weight
    graph = replace(
        case.floating,
        tensors=tuple(
            case.integer.tensors[w] if i == slots(case.floating.ops[0]).weight else t
            for i, t in enumerate(case.floating.tensors)
        ),
    )
    pairs, alone = match(graph, case.floating)
    assert [(pair.integer, pair.reference) for pair in pairs if pair.output is not None] == [(0, 0)]
    assert set(alone.values()) == {FLOAT}


def test_unknown_ops_are_no_linear_ops() -> None:
    case = made(plain_net(), count=3)
    i = linear_ops(case.integer)[0]
    graph = case.integer.with_ops({i: Op("CUSTOM", case.integer.ops[i].inputs, case.integer.ops[i].outputs)})
    assert linear_ops(graph) == linear_ops(case.integer)[1:]


def test_inputs_must_be_alike() -> None:
    case = made(residual_net(), count=3)
    check_interfaces(case.integer, case.floating, "")
    t = case.floating.inputs[0]
    turned = replace(case.floating.tensors[t], shape=(1, 4, 6, 6))
    with pytest.raises(InputError, match=r"'x0' \(1, 6, 6, 4\) and 'x0' \(1, 4, 6, 6\)"):
        check_interfaces(case.integer, case.floating.with_tensors({t: turned}), "")
    more = replace(case.floating, inputs=(t, t))
    with pytest.raises(InputError, match="the models' inputs differ"):
        replace(case, floating=more).compensated()


def test_a_bias_that_was_rounded_away() -> None:
    case = made(plain_net(), count=3)
    biases = {slots(case.integer.ops[i]).bias for i in linear_ops(case.integer)}
    zeros = {t: replace(tensor, data=np.zeros_like(tensor.data)) for t in biases if (tensor := case.integer.tensors[t])}
    pairs, alone = match(case.integer.with_tensors(zeros), case.floating)
    assert not alone
    assert [(p.integer, p.reference) for p in pairs] == [(i, i) for i in linear_ops(case.floating)]
