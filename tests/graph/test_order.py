"""Ops in an order in which they can run."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.graph.order import in_order, unwritten
from edgeqwt.runtime.runners import reference
from tests.chain import NONE, Chain, noise
from tests.graph import packed
from tests.graph.packed import code, model, op, schema, subgraph, tensor


def diamond() -> Graph:
    """y = tanh(relu(x)) + relu(x) * 2, whose MUL is the last op but one."""
    chain = Chain()
    a = chain.op("RELU", chain.input((1, 4), "x"), name="a")
    b = chain.op("TANH", a, name="b")
    c = chain.op("MUL", a, chain.constant(np.float32(2)), name="c", **NONE)
    return chain.graph(chain.op("ADD", b, c, name="y", **NONE))


def shuffled(graph: Graph, order: tuple[int, ...]) -> bytes:
    """A file with the graph's ops in another order."""
    unpacked = packed.unpack(flatbuffer.to_bytes(graph))
    unpacked.subgraphs[0].operators = [unpacked.subgraphs[0].operators[i] for i in order]
    return packed.pack(unpacked)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_every_order_of_a_files_ops_computes_the_same(order: tuple[int, ...]) -> None:
    graph, x = diamond(), noise(1, 4)
    found = flatbuffer.from_bytes(shuffled(graph, order))
    wanted = reference(graph).run({graph.inputs[0]: x})[graph.outputs[0]]
    assert np.array_equal(reference(found).run({found.inputs[0]: x})[found.outputs[0]], wanted)
    valid = order in {(0, 1, 2, 3), (0, 2, 1, 3)}
    assert bool(found.remarks) != valid
    if valid:
        assert [o.kind for o in found.ops] == [graph.ops[i].kind for i in order]


def test_an_op_waits_for_what_it_reads_and_no_longer() -> None:
    found = flatbuffer.from_bytes(shuffled(diamond(), (2, 0, 1, 3)))
    assert [o.kind for o in found.ops] == ["RELU", "MUL", "TANH", "ADD"]
    (remark,) = found.remarks
    assert remark.startswith("MUL #0 read 'a' before anything wrote it: the ops were put in order.")


def test_remarks_are_not_written() -> None:
    mended = flatbuffer.from_bytes(shuffled(diamond(), (3, 2, 1, 0)))
    assert "TANH #2 and" not in mended.remarks[0]
    assert "as 2 more ops did" in mended.remarks[0]
    assert flatbuffer.from_bytes(flatbuffer.to_bytes(mended)).remarks == ()


def ring() -> bytes:
    """Two ops that wait for each other."""
    tensors = [tensor("x", (2,)), tensor("a", (2,)), tensor("b", (2,))]
    ops = [op(0, [0, 2], [1], schema.AddOptionsT()), op(0, [0, 1], [2], schema.AddOptionsT())]
    return packed.pack(model([subgraph(tensors, ops, [0], [2])], [code("ADD")]))


def test_ops_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="not a valid model: ADD #0 reads 'b' before anything writes it"):
        flatbuffer.from_bytes(ring())


def test_what_nothing_writes_stays_an_error_even_if_other_ops_could_be_moved() -> None:
    unpacked = packed.unpack(shuffled(diamond(), (1, 0, 2, 3)))
    del unpacked.subgraphs[0].operators[2]  # which writes c
    with pytest.raises(InputError, match=r"TANH #0 reads 'a' before anything writes it"):
        flatbuffer.from_bytes(packed.pack(unpacked))


def test_ops_with_effects_besides_their_outputs_keep_their_order() -> None:
    tensors = [Tensor(name, (1,), "float32") for name in "xabc"] + [Tensor("v", (), "resource")]
    assign, read = Op("ASSIGN_VARIABLE", (4, 2), ()), Op("READ_VARIABLE", (4,), (3,))
    handle, tanh = Op("VAR_HANDLE", (), (4,)), Op("TANH", (0,), (2,))
    # The state is read before it is assigned; the assigned value comes too late.
    assert in_order([handle, read, assign, tanh], tensors, [0]) == (0, 1, 3, 2)
    assert in_order([handle, assign, read, tanh], tensors, [0]) == (0, 3, 1, 2)


def test_ops_that_touch_a_variable_tensor_keep_their_order() -> None:
    tensors = [Tensor(name, (1,), "float32") for name in "xab"] + [Tensor("state", (1,), "float32", is_variable=True)]
    late, first, second = Op("TANH", (0,), (1,)), Op("SVDF", (1, 3), (2,)), Op("SVDF", (0, 3), (4,))
    assert in_order([first, second, late], [*tensors, tensors[0]], [0]) == (2, 0, 1)


def test_open_ends_become_inputs(tmp_path_factory: pytest.TempPathFactory) -> None:
    graph = diamond()
    unpacked = packed.unpack(flatbuffer.to_bytes(graph))
    del unpacked.subgraphs[0].operators[0]
    path = tmp_path_factory.mktemp("open") / "m.tflite"
    path.write_bytes(packed.pack(unpacked))
    found, own = flatbuffer.read_open(path)
    assert own == 1
    assert [found.tensors[t].name for t in found.inputs] == ["x", "a"]
    whole = replace(graph, ops=graph.ops)
    assert unwritten(whole.ops, whole.tensors, whole.inputs, whole.outputs) == ()
