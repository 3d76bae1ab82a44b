from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeqwt.errors import InvariantError
from edgeqwt.graph.graph import Editor, Graph, Op, Quantization, Signature, Tensor
from edgeqwt.runtime.runners import reference
from tests.graph.random_graphs import random_graph, random_inputs


def sample_graph() -> Graph:
    """y = relu(x + c), with a tensor that nothing uses: 0 x, 1 unused, 2 c, 3 sum, 4 y."""
    return Graph(
        tensors=(
            Tensor("x", (3,), "float32"),
            Tensor("unused", (3,), "float32"),
            Tensor("c", (3,), "float32", np.array([1, 2, 3], np.float32)),
            Tensor("sum", (3,), "float32"),
            Tensor("y", (3,), "float32"),
        ),
        ops=(Op("ADD", (0, 2), (3,)), Op("RELU", (3,), (4,))),
        inputs=(0,),
        outputs=(4,),
        signatures=(Signature("serve", (("in", 0),), (("out", 4),)),),
        metadata={"note": b"hello"},
        others=(Graph((Tensor("t", (1,), "float32"),), (), (0,), (0,)),),
    )


# -- invariants ------------------------------------------------------------------------


def with_tensor(index: int, **changes: Any) -> Callable[[Graph], Graph]:
    return lambda g: g.with_tensors({index: replace(g.tensors[index], **changes)})


def with_op(index: int, **changes: Any) -> Callable[[Graph], Graph]:
    return lambda g: g.with_ops({index: replace(g.ops[index], **changes)})


def with_graph(**changes: Any) -> Callable[[Graph], Graph]:
    return lambda g: replace(g, **changes)


def scales(count: int, zero_points: int, axis: int | None) -> Quantization:
    return Quantization(np.ones(count, np.float32), np.zeros(zero_points, np.int64), axis)


BROKEN = [
    (with_graph(inputs=(5,)), "graph input refers to tensor 5 of 5"),
    (with_graph(inputs=(-1,)), "graph input refers to tensor -1 of 5"),
    (with_graph(inputs=(2,)), "graph input 'c' is a constant"),
    (with_graph(inputs=()), "ADD #0 reads 'x' before anything writes it"),
    (with_graph(outputs=(5,)), "graph output refers to tensor 5 of 5"),
    (with_graph(outputs=(-1,)), "graph output refers to tensor -1 of 5"),
    (with_graph(outputs=(1,)), "graph output 'unused' is never written"),
    (with_op(0, inputs=(0, 5)), "ADD #0 reads tensor 5 of 5"),
    (with_op(0, inputs=(0, -2)), "ADD #0 reads tensor -2 of 5"),
    (with_op(0, inputs=(0, 4)), "ADD #0 reads 'y' before anything writes it"),
    (with_op(0, outputs=(5,)), "ADD #0 writes tensor 5 of 5"),
    (with_op(0, outputs=(-1,)), "ADD #0 writes tensor -1 of 5"),
    (with_op(0, outputs=(2,)), "ADD #0 writes 'c', which has a value already"),
    (with_op(0, outputs=(0,)), "ADD #0 writes 'x', which has a value already"),
    (with_op(1, outputs=(3,)), "RELU #1 writes 'sum', which has a value already"),
    (with_op(0, intermediates=(9,)), "ADD #0 keeps an intermediate in tensor 9 of 5"),
    (with_graph(signatures=(Signature("s", (("in", 7),), ()),)), "'in' of signature 's' refers to tensor 7 of 5"),
    (with_graph(signatures=(Signature("s", (), (("out", 1),)),)), "'out' of signature 's' is never written"),
    (with_tensor(2, shape=(4,)), r"tensor 2 'c': shape \(4,\), data \(3,\)"),
    (with_tensor(2, dtype="int32"), "tensor 2 'c': type int32, data float32"),
    (with_tensor(2, dtype="string"), "tensor 2 'c': type string, data float32"),
    (with_tensor(2, is_variable=True), "tensor 2 'c': a variable with a constant value"),
    (with_tensor(2, quantization=scales(1, 2, None)), r"scales of shape \(1,\), zero points of shape \(2,\)"),
    (with_tensor(2, quantization=scales(3, 3, None)), "3 scales without an axis"),
    (with_tensor(2, quantization=scales(2, 2, 0)), r"2 scales along axis 0 of shape \(3,\)"),
    (with_tensor(2, quantization=scales(3, 3, 1)), r"3 scales along axis 1 of shape \(3,\)"),
    (with_tensor(2, quantization=scales(3, 3, -1)), r"3 scales along axis -1 of shape \(3,\)"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_broken_graphs_cannot_be_made(change: Callable[[Graph], Graph], message: str) -> None:
    with pytest.raises(InvariantError, match=message):
        change(sample_graph())


UNUSUAL = {
    "an absent input": with_op(0, inputs=(0, 2, -1)),
    "absent and present intermediates": with_op(0, intermediates=(-1, 1)),
    "inputs, constants and repeats as outputs": with_graph(outputs=(4, 0, 2, 4)),
    "an unused variable": with_tensor(1, is_variable=True),
    "a variable that is read": lambda g: with_op(0, inputs=(0, 1))(with_tensor(1, is_variable=True)(g)),
    "scales per channel": with_tensor(2, quantization=scales(3, 3, 0)),
    "a scale per tensor": with_tensor(2, quantization=scales(1, 1, None)),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_graphs_can_be_made(name: str) -> None:
    UNUSUAL[name](sample_graph())


# -- reading -----------------------------------------------------------------------------


def test_producers_and_consumers() -> None:
    graph = replace(sample_graph(), ops=(Op("ADD", (0, 0, -1), (3,)), Op("ADD", (3, 0), (4,))))
    assert graph.producers() == {3: 0, 4: 1}
    assert graph.consumers() == {0: [0, 1], 3: [1]}


def test_describe() -> None:
    assert sample_graph().describe(1) == "RELU #1 -> 'y'"
    assert replace(sample_graph(), ops=(*sample_graph().ops, Op("CALL_ONCE", (), ()))).describe(2) == "CALL_ONCE #2"


def test_sizes() -> None:
    assert Tensor("scalar", (), "int8").size == 1
    assert Tensor("empty", (3, 0), "int8").size == 0
    assert Tensor("huge", (2**31, 2**31, 2**31), "int8").size == 2**93


def test_quantization_broadcasts_along_its_axis() -> None:
    q = Quantization.per_channel(np.array([0.5, 0.25]), axis=1)
    scale, zero_point = q.broadcast(3)
    assert scale.shape == zero_point.shape == (1, 2, 1)
    assert Quantization.per_tensor(0.5, 3).broadcast(2)[0].shape == (1, 1)
    assert q.scale.dtype == np.float32


def test_quantization_is_the_same_bit_for_bit_or_not() -> None:
    q = Quantization.per_tensor(0.1, 3)
    assert q.same_as(Quantization.per_tensor(0.1, 3))
    assert not q.same_as(None)
    assert not q.same_as(Quantization.per_tensor(0.1, 4))
    assert not q.same_as(Quantization.per_tensor(float(np.nextafter(np.float32(0.1), np.float32(1))), 3))
    assert not q.same_as(Quantization(q.scale, q.zero_point, axis=0))


# -- editing -----------------------------------------------------------------------------


def test_slice() -> None:
    graph = sample_graph()
    part, new = graph.slice_with_index([1], [3], [4])
    assert new == {3: 0, 4: 1}
    assert [t.name for t in part.tensors] == ["sum", "y"]
    assert (part.ops[0].kind, part.ops[0].inputs, part.ops[0].outputs) == ("RELU", (0,), (1,))
    assert (part.inputs, part.outputs) == ((0,), (1,))
    assert (part.signatures, dict(part.metadata), part.others) == ((), {}, graph.others)


def test_a_constant_that_becomes_an_input_of_a_slice_loses_its_value() -> None:
    part = sample_graph().slice([0], [0, 2], [3])
    assert not any(t.is_constant for t in part.tensors)
    values = reference(part).run({0: np.ones(3, np.float32), 1: np.full(3, 5, np.float32)})
    assert values[2].tolist() == [6, 6, 6]


def test_a_slice_must_be_able_to_run() -> None:
    with pytest.raises(InvariantError, match="reads 'sum' before anything writes it"):
        sample_graph().slice([1], [0], [4])


@pytest.mark.parametrize("seed", range(10))
def test_slices_compute_what_the_graph_computes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, ops=10)
    made = [t for op in graph.ops for t in op.outputs]
    inputs = random_inputs(rng, graph)
    whole = reference(graph, taps=made).run(inputs) | inputs
    first, last = sorted(int(i) for i in rng.integers(0, 10, 2))
    ops = range(first, last + 1)
    outputs = [t for i in ops for t in graph.ops[i].outputs]
    constants = {i for i, t in enumerate(graph.tensors) if t.is_constant}
    reads = sorted({t for i in ops for t in graph.ops[i].inputs} - {*outputs} - constants)
    part, new = graph.slice_with_index(list(ops), reads, outputs)
    values = reference(part).run({new[t]: whole[t] for t in reads})
    for t in outputs:
        np.testing.assert_array_equal(values[new[t]], whole[t])


def test_pruned_drops_what_nothing_uses() -> None:
    graph = sample_graph()
    pruned = graph.pruned()
    assert [t.name for t in pruned.tensors] == ["x", "c", "sum", "y"]
    assert [op.inputs for op in pruned.ops] == [(0, 1), (2,)]
    assert pruned.signatures == (Signature("serve", (("in", 0),), (("out", 3),)),)
    assert (pruned.metadata, pruned.others) == (graph.metadata, graph.others)
    assert pruned.pruned() is pruned


def test_pruned_keeps_intermediates_and_absent_inputs() -> None:
    graph = sample_graph()
    used = replace(graph, ops=(replace(graph.ops[0], inputs=(0, 2, -1), intermediates=(1,)), graph.ops[1])).pruned()
    assert len(used.tensors) == 5
    assert used.ops[0].inputs == (0, 2, -1)


def test_edits_leave_the_old_graph_alone_and_share_its_constants() -> None:
    graph = sample_graph()
    changed = graph.with_tensors({0: replace(graph.tensors[0], name="renamed")})
    assert graph.tensors[0].name == "x"
    assert changed.tensors[2].data is graph.tensors[2].data
    assert graph.slice([0], [0], [3]).tensors[1].data is graph.tensors[2].data


def test_editor_adds_ops_and_tensors() -> None:
    graph = sample_graph()
    editor = Editor(graph)
    editor.add_op(graph.ops[0])
    negative = editor.add_tensor(Tensor("sum", (3,), "float32"))
    editor.add_op(Op("NEG", (3,), (negative,)))
    editor.add_op(Op("RELU", (negative,), (4,)))
    edited = editor.finish()
    assert [t.name for t in edited.tensors] == ["x", "c", "sum", "y", "sum_1"]
    values = reference(edited).run({0: np.array([-2, -2, -2], np.float32)})
    assert values[edited.outputs[0]].tolist() == [1, 0, 0]


def test_editor_makes_names_unique_and_gives_those_of_constants_away() -> None:
    editor = Editor(sample_graph())
    indices = [editor.add_tensor(Tensor(name, (1,), "float32")) for name in ("y", "y", "c", "c", "fresh")]
    assert [editor.tensors[i].name for i in indices] == ["y_1", "y_2", "c", "c_1", "fresh"]


def test_editor_checks_what_was_made() -> None:
    graph = sample_graph()
    editor = Editor(graph)
    editor.add_op(graph.ops[1])
    with pytest.raises(InvariantError, match="reads 'sum' before"):
        editor.finish()


def test_signatures_follow_inputs_and_outputs_that_an_edit_replaces() -> None:
    graph = sample_graph()
    editor = Editor(graph)
    x = editor.add_tensor(replace(graph.tensors[0], name="other x"))
    editor.add_op(replace(graph.ops[0], inputs=(x, 2)))
    edited = editor.finish(inputs=(x,), outputs=(3,))
    names = [t.name for t in edited.tensors]
    assert names == ["c", "sum", "other x"]
    assert edited.signatures == (Signature("serve", (("in", 2),), (("out", 1),)),)


def test_an_edit_cannot_change_how_many_outputs_there_are() -> None:
    graph = sample_graph()
    editor = Editor(graph)
    editor.add_op(graph.ops[0])
    with pytest.raises(InvariantError, match="number of a graph's inputs or outputs"):
        editor.finish(outputs=(3, 3))


def test_edits_of_tensors_check_those_alone_and_keep_who_reads_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compensation changes some tensors of each layer: checks of all made it take the square of a network's length."""
    graph, checked = sample_graph(), list[str]()
    links = graph.links
    monkeypatch.setattr("edgeqwt.graph.graph.check_invariants", lambda graph: pytest.fail("all is checked"))
    monkeypatch.setattr("edgeqwt.graph.graph.problem", lambda tensor: checked.append(tensor.name))
    changed = graph.with_tensors({2: replace(graph.tensors[2], data=np.zeros(3, np.float32))})
    assert checked == ["c"]
    assert changed.links is links
    assert changed.tensors[2].stored.tolist() == [0, 0, 0]
    assert graph.tensors[2].stored.tolist() == [1, 2, 3]


def test_links_are_of_the_ops_that_a_graph_has_and_stay_in_the_process() -> None:
    graph = sample_graph()
    assert graph.links == (graph.producers(), graph.consumers())
    other = graph.with_ops({1: replace(graph.ops[1], inputs=(0,))})
    assert other.links == (other.producers(), other.consumers()) != graph.links
    assert "links" not in vars(pickle.loads(pickle.dumps(graph)))


def test_a_constant_in_place_of_an_activation_has_all_checked() -> None:
    graph = sample_graph()
    with pytest.raises(InvariantError, match="has a value already"):
        graph.with_tensors({3: replace(graph.tensors[3], data=np.zeros(3, np.float32))})
