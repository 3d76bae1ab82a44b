"""Where everything flows through one tensor."""

from __future__ import annotations

from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.reconstruct.blocks import blocks, layers, network
from tests.reconstruct.nets import residual

LINEAR = ("CONV_2D", "FULLY_CONNECTED")


def names(graph: Graph, tensors: tuple[int, ...]) -> list[str]:
    return [graph.tensors[t].name for t in tensors]


def linear(graph: Graph) -> list[int]:
    return [i for i, op in enumerate(graph.ops) if op.kind in LINEAR]


def test_a_residual_block_is_one_block_and_the_rest_is_cut_at_every_tensor() -> None:
    graph = residual()
    found = blocks(graph, linear(graph))
    assert [len(b.linear) for b in found] == [1, 2, 1]
    assert [names(graph, b.given) for b in found] == [["image"], ["first"], ["sum"]]
    # The last block is judged before its softmax.
    assert [names(graph, b.outputs) for b in found] == [["first"], ["sum"], ["logits"]]


def test_neighbours_are_put_together_up_to_a_number_of_linear_ops() -> None:
    graph = residual()
    assert [len(b.linear) for b in blocks(graph, linear(graph), 3)] == [3, 1]
    assert [len(b.linear) for b in blocks(graph, linear(graph), 4)] == [4]


def test_each_layer_alone_and_all_together() -> None:
    graph = residual()
    ops = linear(graph)
    assert [(b.linear, b.outputs) for b in layers(graph, ops)] == [((i,), graph.ops[i].outputs) for i in ops]
    whole = network(graph, ops)
    assert whole.linear == tuple(ops)
    assert (names(graph, whole.outputs), names(graph, whole.taps)) == (["logits"], ["first", "sum"])


def test_an_output_inside_and_an_input_that_is_read_late() -> None:
    tensors = [Tensor(name, (2,), "float32") for name in ("x", "late", "a", "b", "c", "d")]
    ops = [Op("ABS", (0,), (2,)), Op("NEG", (2,), (3,)), Op("ADD", (3, 1), (4,)), Op("EXP", (4,), (5,))]
    graph = Graph(tuple(tensors), tuple(ops), (0, 1), (2, 5))
    found = blocks(graph, [0, 2, 3])
    # Until the second input is read, it is alive beside whatever else is.
    assert [(names(graph, b.given), names(graph, b.outputs)) for b in found] == [
        (["x", "late"], ["a", "c"]),
        (["c"], ["d"]),
    ]
