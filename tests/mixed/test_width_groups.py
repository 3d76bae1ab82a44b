"""What goes together, and what a choice of widths is as a precision."""

from __future__ import annotations

from edgeqwt.graph.graph import Graph
from edgeqwt.mixed.width_groups import NARROW, parts
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import Widths
from tests.chain import CONV, NONE, Chain, noise


def block() -> Graph:
    """image -> first -> padded -> second, and first again added to it."""
    chain = Chain()
    x = chain.input((1, 4, 4, 2), "image")
    shared = chain.constant(noise(2, 1, 1, 2), "weights")
    bias, wide_bias = chain.constant(noise(2)), chain.constant(noise(4))
    first = chain.op("CONV_2D", x, shared, bias, name="first", **CONV)
    turned = chain.op("TRANSPOSE", first, chain.constant([0, 2, 1, 3]), name="turned")
    second = chain.op("CONV_2D", turned, shared, bias, name="second", **CONV)
    other = chain.op("CONV_2D", second, chain.constant(noise(4, 1, 1, 2)), wide_bias, name="other", **CONV)
    return chain.graph(chain.op("MUL", other, chain.constant(noise(4)), name="result", **NONE))


def test_moving_ops_go_with_what_they_move_and_shared_weights_together() -> None:
    found = parts(block(), {})
    assert found.groups == (0, 0, 0, 3, 4)
    assert [(la.name, la.ops, la.group) for la in found.layers] == [("first", (0, 2), 0), ("other", (3,), 3)]


def test_ops_without_a_wide_form_hold_their_group_narrow() -> None:
    assert parts(block(), {1: "why"}).groups == (NARROW, NARROW, NARROW, 3, 4)


def test_sources_are_read_behind_moving_ops() -> None:
    graph = block()
    found = {graph.tensors[s.tensor].name: s for s in parts(graph, {}).sources}
    assert found.keys() == {"image", "first", "second", "other", "result"}
    assert found["first"].ops == {2}
    assert found["image"].group == NARROW
    assert found["result"].readers == {NARROW}
    assert found["result"].output


def test_a_precision_names_what_differs_from_the_width_of_most_weights() -> None:
    found = parts(block(), {})
    precision = found.precision({"first": 4, "other": 8}, frozenset())
    assert (precision.weight_bits, precision.pack_int4) == (8, True)  # 8 weights against 4
    assert precision.layers == {"first": Widths(4), "second": Widths(4)}
    precision = found.precision({"first": 8, "other": 4}, frozenset({0}))
    assert precision.weight_bits == 4
    assert precision.layers == {"first": Widths(8, 16), "second": Widths(8, 16)}


def test_rounded_is_what_is_computed_and_read() -> None:
    graph = block()
    found = parts(graph, {})
    precision = found.precision({"first": 8, "other": 8}, frozenset({0}))
    bits = {graph.tensors[t].name: b for t, b in found.rounded(planned(graph, precision)).items()}
    # `second` is computed at 16 bits and read at 8.
    assert bits == {"image": 8, "first": 16, "second": 8, "other": 8, "result": 8}
