"""Branches and loops of ONNX models that are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, checker, helper, numpy_helper

from edgeqwt.converters.from_onnx.flow import resolved
from edgeqwt.converters.from_onnx.source import OnnxRunner
from edgeqwt.errors import UnsupportedError

F, INT, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node, info = helper.make_node, helper.make_tensor_value_info


def model(nodes: Sequence[Any], outputs: Sequence[Any], constants: dict[str, Any], opset: int = 17) -> Any:
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes, "test", [info("x", F, [3, 4]), *[info("n", INT, [])][: "n" not in constants]], outputs, held
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    checker.check_model(made)
    return made


def same(before: Any, after: Any) -> None:
    sample = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}
    sample |= {v.name: np.array(2, np.int64) for v in before.graph.input if v.name == "n"}
    expected, found = OnnxRunner(before).run(sample), OnnxRunner(after).run(sample)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name])
        assert value.shape == found[name].shape


def halving(goes_on: Sequence[Any], name: str = "on") -> Any:
    """A loop's body: its state is halved, and the difference to the value outside joined."""
    nodes = [node("Mul", ["s", "half"], ["s2"]), node("Sub", ["s2", "x"], ["row"]), *goes_on]
    inputs = [info("i", INT, []), info("c", B, []), info("s", F, [3, 4])]
    return helper.make_graph(
        nodes, "body", inputs, [info(name, B, []), info("s2", F, [3, 4]), info("row", F, [3, 4])],
        [numpy_helper.from_array(np.array(0.5, np.float32), "half")],
    )  # fmt: skip


@pytest.mark.parametrize("opset", [11, 17])
def test_loops_of_a_known_number_of_steps(opset: int) -> None:
    body = halving([node("Identity", ["c"], ["on"])])
    outputs = [info("y", F, [3, 4]), info("rows", F, ["k", 3, 4])]
    before = model([node("Loop", ["n", "", "x"], ["y", "rows"], name="l", body=body)], outputs, {"n": 3}, opset)
    after, notes = resolved(before)
    assert notes == ("Loop 'l' always runs 3 times: it was unrolled",)
    same(before, after)


def test_loops_that_end_on_their_own() -> None:
    body = halving([node("Less", ["i", "two"], ["on"])])
    loop = node("Loop", ["", "go", "x"], ["y", "rows"], name="l", body=body)
    outputs = [info("y", F, [3, 4]), info("rows", F, ["k", 3, 4])]
    before = model([loop], outputs, {"go": True, "two": 2, "n": 0})
    after, notes = resolved(before)
    assert notes == ("Loop 'l' always runs 3 times: it was unrolled",)
    same(before, after)


def test_loops_that_hang_on_an_input() -> None:
    body = halving([node("Identity", ["c"], ["on"])])
    before = model([node("Loop", ["n", "", "x"], ["y", "rows"], name="l", body=body)], [info("y", F, [3, 4])], {})
    with pytest.raises(UnsupportedError, match=r"Loop 'l' .*how often it runs depends on the values") as caught:
        resolved(before)
    assert "fixed number of steps" in caught.value.hint


@pytest.mark.parametrize("taken", [True, False])
def test_branches_that_hang_on_shapes(taken: bool) -> None:
    """The inner branch reads a value of the outer one, and one from outside of both."""
    inner = [
        helper.make_graph([node(kind, ["a", "x"], ["z"])], kind, [], [info("z", F, [3, 4])]) for kind in ("Add", "Sub")
    ]
    nested = [node("Tanh", ["x"], ["a"]), node("If", ["yes"], ["b"], then_branch=inner[0], else_branch=inner[1])]
    branches = {
        "then_branch": helper.make_graph(nested, "nested", [], [info("b", F, [3, 4])]),
        "else_branch": helper.make_graph([node("Neg", ["x"], ["b"])], "plain", [], [info("b", F, [3, 4])]),
    }
    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "k"], ["rows"], axis=0)]
    nodes += [node("Equal", ["rows", "three"], ["is"]), node("If", ["is"], ["y"], name="c", **branches)]
    before = model(nodes, [info("y", F, [3, 4])], {"k": 0 if taken else 1, "three": 3, "yes": True, "n": 0})
    after, notes = resolved(before)
    assert notes[0] == f"If 'c' always takes its {'then' if taken else 'else'} branch, which was put in its place"
    assert not any(n.op_type == "If" for n in after.graph.node)
    same(before, after)


def deciding(shapes: Sequence[Sequence[int]], else_: Any) -> Any:
    """x's tanh where its mean is above zero, and what another node gives elsewhere."""
    then = helper.make_graph([node("Tanh", ["x"], ["a"])], "then", [], [info("a", F, shapes[0])])
    other = helper.make_graph([else_], "else", [], [info("b", F, shapes[1])])
    nodes = [node("ReduceMean", ["x"], ["m"], keepdims=0), node("Greater", ["m", "zero"], ["above"])]
    nodes.append(node("If", ["above"], ["y"], name="c", then_branch=then, else_branch=other))
    return model(nodes, [info("y", F, ["rows", 4])], {"zero": np.float32(0), "n": 0})


def test_branches_that_the_inputs_decide_are_both_computed() -> None:
    before = deciding([(3, 4), (3, 4)], node("Neg", ["x"], ["b"]))
    after, notes = resolved(before)
    assert notes == ("If 'c' takes the branch that the inputs decide: both are computed, and one is chosen",)
    assert {"Tanh", "Neg", "Where"} <= {n.op_type for n in after.graph.node}
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    for each in (x + 1, x - 1):
        (wanted,), (found,) = (OnnxRunner(m).run({"x": each}).values() for m in (before, after))
        assert np.array_equal(wanted, found)


def test_branches_of_other_shapes_stay() -> None:
    """Where would repeat the smaller one."""
    before = deciding([(3, 4), (1, 4)], node("ReduceMean", ["x"], ["b"], axes=[0]))
    after, notes = resolved(before)
    assert not notes
    assert any(n.op_type == "If" for n in after.graph.node)


def test_a_branch_that_no_sample_chooses_is_refused() -> None:
    """A voice detector of two sampling rates would hold both networks, of which calibration has seen one."""
    branches = {
        f"{name}_branch": helper.make_graph([node(kind, ["x"], [name])], name, [], [info(name, F, [3, 4])])
        for name, kind in (("then", "Tanh"), ("else", "Neg"))
    }
    nodes = [node("Equal", ["n", "two"], ["is"]), node("If", ["is"], ["y"], name="c", **branches)]
    before = model(nodes, [info("y", F, [3, 4])], {"two": 2})
    with pytest.raises(UnsupportedError, match=r"If 'c' .* depends on 'n' alone, .* the same value"):
        resolved(before, lambda: ["n"])
    after, _ = resolved(before, lambda: ["x"])
    same(before, after)


def test_scans_read_a_slice_at_a_step() -> None:
    nodes = [node("Add", ["s", "row"], ["sum"]), node("Tanh", ["sum"], ["s2"]), node("Neg", ["s2"], ["out"])]
    inputs, outputs = [info("s", F, [4]), info("row", F, [4])], [info("s2", F, [4]), info("out", F, [4])]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    scan = node("Scan", ["zeros", "x"], ["last", "y"], name="s", num_scan_inputs=1, body=body)
    outputs = [info("last", F, [4]), info("y", F, [3, 4])]
    before = model([scan], outputs, {"zeros": np.zeros(4, np.float32), "n": 0})
    after, notes = resolved(before)
    assert notes == ("Scan 's' always runs 3 times: it was unrolled",)
    same(before, after)


@pytest.mark.parametrize("directions", [{}, {"scan_input_directions": [1, 0], "scan_output_directions": [0, 1]}])
def test_scans_read_along_any_axis_and_from_the_end(directions: dict[str, Any]) -> None:
    """Overlapping frames, cut one after the other, and their differences from what is read along another axis."""
    nodes = [node("Sub", ["s", "column"], ["s2"]), node("Concat", ["s2", "column"], ["frame"], axis=0)]
    nodes.append(node("ReduceMax", ["row"], ["most"], keepdims=1))
    inputs = [info("s", F, [3]), info("column", F, [3]), info("row", F, [2])]
    body = helper.make_graph(nodes, "body", inputs, [info("s2", F, [3]), info("frame", F, [6]), info("most", F, [1])])
    axes = {"scan_input_axes": [1, -2], "scan_output_axes": [1, -1], "num_scan_inputs": 2}
    scan = node("Scan", ["zeros", "x", "other"], ["last", "y", "z"], name="s", body=body, **axes, **directions)
    outputs = [info("last", F, [3]), info("y", F, [6, 4]), info("z", F, [1, 4])]
    held = {"zeros": np.zeros(3, np.float32), "other": np.arange(8, dtype=np.float32).reshape(4, 2) % 3, "n": 0}
    before = model([scan], outputs, held)
    after, notes = resolved(before)
    assert notes == ("Scan 's' always runs 4 times: it was unrolled",)
    same(before, after)
