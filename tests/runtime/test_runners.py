from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeqwt.errors import InvariantError, ToolError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.runtime.interpreters import InterpreterError, LiteRT, TFLiteMicro, filled
from edgeqwt.runtime.runners import RUNNERS, reference, xnnpack
from tests.graph.random_graphs import random_graph, random_inputs

KINDS = sorted(RUNNERS)


def one_op(kind: str, count: int, shape: tuple[int, ...] = (2, 3), dtype: str = "int8", **op: object) -> Graph:
    """An op of some inputs of one shape; int8 at scale 1."""
    q = Quantization.per_tensor(1.0, 0) if dtype == "int8" else None
    tensors = tuple(Tensor(name, shape, dtype, quantization=q) for name in (*"abcdef"[:count], "y"))
    return Graph(tensors, (Op(kind, tuple(range(count)), (count,), **op),), tuple(range(count)), (count,))  # type: ignore[arg-type]


def feed(graph: Graph, *values: int) -> dict[int, Array]:
    return {
        t: np.full(graph.tensors[t].shape, v, graph.tensors[t].dtype) for t, v in zip(graph.inputs, values, strict=True)
    }


# -- values ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_taps_are_the_values_that_flow_through_the_graph(kind: str, seed: int) -> None:
    """Every op's output from its own inputs, by numpy."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, ops=8)
    made = [t for op in graph.ops for t in op.outputs]
    inputs = random_inputs(rng, graph)
    found = RUNNERS[kind](graph, taps=made).run(inputs)
    assert set(found) == {*graph.outputs, *made}
    values = found | inputs | {t: x.data for t, x in enumerate(graph.tensors) if x.data is not None}
    for op in graph.ops:
        arguments = [values[t] for t in op.inputs]
        if op.kind == "SUB":
            expected = [arguments[0] - arguments[1]]
        elif op.kind == "CONCATENATION":
            expected = [np.concatenate(arguments)]
        else:
            expected = np.split(arguments[1], 2)
        for t, value in zip(op.outputs, expected, strict=True):
            np.testing.assert_array_equal(found[t], value)


@pytest.mark.parametrize("name", ["image_classification", "visual_wake_words", "keyword_spotting"])
def test_kernels_are_the_ones_that_are_asked_for(mlperf_tiny: Path, name: str) -> None:
    path = mlperf_tiny / f"{name}_int8.tflite"
    graph = flatbuffer.read(path)
    values = np.random.default_rng(0).integers(-128, 128, graph.tensors[graph.inputs[0]].shape).astype(np.int8)
    for runner, resolver in ((reference, OpResolverType.BUILTIN_REF), (xnnpack, OpResolverType.BUILTIN)):
        interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        interpreter.invoke()
        expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        found = runner(graph).run({graph.inputs[0]: values})[graph.outputs[0]]
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_results_belong_to_the_caller(kind: str) -> None:
    graph = one_op("RELU", 1)
    runner = RUNNERS[kind](graph)
    first = runner.run(feed(graph, 5))[1]
    second = runner.run(feed(graph, 7))[1]
    assert (first == 5).all()
    second[:] = 0
    assert (runner.run(feed(graph, 7))[1] == 7).all()


@pytest.mark.parametrize("make", [reference, xnnpack])
@pytest.mark.parametrize("seed", range(3))
def test_views_are_the_same_values_until_the_next_run(make: Callable[..., LiteRT], seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, ops=8)
    runner = make(graph, [*graph.inputs, *(t for op in graph.ops for t in op.outputs)])
    for _ in range(2):  # the first run may be one in another process
        inputs = random_inputs(rng, graph)
        found, views = runner.run(inputs), runner.views(inputs)
        assert found.keys() == views.keys()
        for t, value in found.items():
            np.testing.assert_array_equal(views[t], value)
        with pytest.raises(RuntimeError, match="reference to internal data"):
            runner.interpreter.invoke()
        views.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_constants_may_be_taps_and_outputs_may_repeat(kind: str) -> None:
    graph = one_op("RELU", 1)
    assert set(RUNNERS[kind](graph, taps=[1, 1, 0]).run(feed(graph, 5))) == {0, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_any_layout_are_taken(kind: str) -> None:
    graph = one_op("RELU", 1, (3, 4))
    values = np.arange(-12, 12).astype(np.int8).reshape(2, 4, 3)[1].T
    assert not values.flags.c_contiguous
    np.testing.assert_array_equal(RUNNERS[kind](graph).run({0: values})[1], values.clip(0))
    values.flags.writeable = False
    np.testing.assert_array_equal(RUNNERS[kind](graph).run({0: values})[1], values.clip(0))


# -- refusals ----------------------------------------------------------------------------


def test_tflite_micro_says_which_op_it_lacks() -> None:
    with pytest.raises(
        ToolError, match=r"TFLite Micro cannot load the model: Didn't find op for builtin opcode 'GELU'"
    ):
        TFLiteMicro(one_op("GELU", 1, dtype="float32"))


def test_tflite_micro_says_which_type_it_lacks_when_it_loads() -> None:
    with pytest.raises(InterpreterError, match=r"cannot load .*exp\.cc.*INT8 != FLOAT32.*Node EXP \(number 0\)"):
        TFLiteMicro(one_op("EXP", 1, version=2))


def test_tflite_micro_says_which_type_it_lacks_when_it_runs(capfd: pytest.CaptureFixture[str]) -> None:
    graph = one_op("SQRT", 1, version=2)
    with pytest.raises(InterpreterError, match=r"cannot run .*INT8 != FLOAT32.*Node SQRT \(number 0\)") as caught:
        TFLiteMicro(graph).run(feed(graph, 4))
    assert "\n" not in caught.value.message
    assert "Node SQRT" in caught.value.log_tail
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["reference", "xnnpack"])
def test_litert_says_which_op_it_lacks(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InterpreterError, match=r"cannot load the model: .*unresolved custom op: Mine") as caught:
        RUNNERS[kind](one_op("CUSTOM", 1, custom_code="Mine"))
    assert kind in caught.value.message
    assert "\n" not in caught.value.message
    with pytest.raises(InterpreterError, match="Didn't find op for builtin opcode 'ADD' version '99'"):
        RUNNERS[kind](one_op("ADD", 2, version=99))
    assert capfd.readouterr().err == ""


def test_xnnpack_refuses_a_model_that_the_reference_kernels_take() -> None:
    """A multiplier s_x s_w / s_y of 257 (facts: XNNPACK takes less than 256)."""
    per_channel = Quantization.per_channel(np.full(2, 257.0), 0)
    tensors = (
        Tensor("x", (1, 1, 1, 3), "int8", quantization=Quantization.per_tensor(1.0, 0)),
        Tensor("w", (2, 1, 1, 3), "int8", np.ones((2, 1, 1, 3), np.int8), per_channel),
        Tensor("b", (2,), "int32", np.zeros(2, np.int32), per_channel),
        Tensor("y", (1, 1, 1, 2), "int8", quantization=Quantization.per_tensor(1.0, 0)),
    )
    graph = Graph(tensors, (Op("CONV_2D", (0, 1, 2), (3,), {"strideW": 1, "strideH": 1}, 3),), (0,), (3,))
    reference(graph)
    with pytest.raises(InterpreterError, match=r"xnnpack kernels.* cannot load the model: .*XNNPACK"):
        xnnpack(graph)


@pytest.mark.parametrize("kind", ["reference", "xnnpack"])
def test_a_division_by_zero_is_reported_and_the_runner_lives_on(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    graph = one_op("DIV", 2, version=2)
    runner = RUNNERS[kind](graph)
    with pytest.raises(InterpreterError, match=r"cannot run the model: .*div\.cc.*Node number 0 \(DIV\)"):
        runner.run(feed(graph, 6, 0))
    assert (runner.run(feed(graph, 6, 3))[2] == 2).all()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({0: np.zeros((2, 3), np.float32)}, r"input 'a' takes int8 \(2, 3\), it was given float32 \(2, 3\)"),
        ({0: np.zeros((2, 3), np.uint8)}, r"input 'a' takes int8 \(2, 3\), it was given uint8 \(2, 3\)"),
        ({0: np.zeros((3, 2), np.int8)}, r"input 'a' takes int8 \(2, 3\), it was given int8 \(3, 2\)"),
        ({0: np.zeros((1, 2, 3), np.int8)}, r"it was given int8 \(1, 2, 3\)"),
        ({}, r"given tensors \[\], the graph's inputs are \(0,\)"),
        ({1: np.zeros((2, 3), np.int8)}, r"given tensors \[1\], the graph's inputs are \(0,\)"),
        ({0: np.zeros((2, 3), np.int8), 1: np.zeros((2, 3), np.int8)}, r"given tensors \[0, 1\]"),
    ],
    ids=["float", "unsigned", "transposed", "rank", "none", "another", "too many"],
)
def test_wrong_inputs_are_our_bug(kind: str, inputs: dict[int, Array], message: str) -> None:
    with pytest.raises(InvariantError, match=message):
        RUNNERS[kind](one_op("RELU", 1)).run(inputs)


def test_inputs_that_are_no_numbers() -> None:
    graph = Graph((Tensor("words", (1,), "string"),), (), (0,), (0,))
    with pytest.raises(InvariantError, match="input 'words' takes string"):
        LiteRT(graph).run({0: np.array(["hello"])})


def test_int4_weights_have_room_in_tflite_micro() -> None:
    """It unpacks them into its arena, and ends the process where that is too small."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-7, 8, (1024, 4096)).astype(np.int8)
    tensors = (
        Tensor("x", (1, 4096), "int8", quantization=Quantization.per_tensor(0.1, 0)),
        Tensor("w", weights.shape, "int4", weights, Quantization.per_tensor(0.1, 0)),
        Tensor("b", (1024,), "int32", np.zeros(1024, np.int32), Quantization.per_tensor(0.01, 0)),
        Tensor("y", (1, 1024), "int8", quantization=Quantization.per_tensor(5.0, 0)),
    )
    op = Op("FULLY_CONNECTED", (0, 1, 2), (3,), {"fusedActivationFunction": "NONE"}, 7)
    graph = Graph(tensors, (op,), (0,), (3,))
    x = rng.integers(-128, 128, (1, 4096)).astype(np.int8)
    found = TFLiteMicro(graph).run({0: x})[3].astype(np.int64)
    exact = x.astype(np.int64) @ weights.T.astype(np.int64) * (0.1 * 0.1 / 5.0)
    assert np.abs(found - exact.clip(-128, 127)).max() <= 0.5 + 1e-3


def test_loading_litert_says_nothing_to_the_user() -> None:
    """XNNPACK greets a process once, so this needs a process of its own."""
    program = """
        import numpy as np
        from edgeqwt.graph.graph import Graph, Op, Tensor
        from edgeqwt.runtime.runners import RUNNERS
        x, y = (Tensor(name, (2,), "float32") for name in "xy")
        graph = Graph((x, y), (Op("RELU", (0,), (1,)),), (0,), (1,))
        for factory in RUNNERS.values():
            factory(graph).run({0: np.ones(2, np.float32)})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_graphs_of_the_same_ops_have_results_of_their_own() -> None:
    """They are tried together where the forms of their ops are new: what differs is a weight."""

    def scaled(factor: float) -> Graph:
        shape = (3, 17, 11)  # of no other test
        tensors = (
            Tensor("x", shape, "float32"),
            Tensor("factor", (), "float32", np.array(factor, np.float32)),
            Tensor("y", shape, "float32"),
        )
        return Graph(tensors, (Op("MUL", (0, 1), (2,), {"fusedActivationFunction": "NONE"}),), (0,), (2,))

    runners = [xnnpack(scaled(factor)) for factor in (2.0, 3.0)]
    ones = {0: np.ones((3, 17, 11), np.float32)}
    assert [float(runner.run(ones)[2].max()) for runner in runners] == [2.0, 3.0]
    assert [float(runner.run(ones)[2].max()) for runner in reversed(runners)] == [3.0, 2.0]


def test_ops_of_subgraphs_read_their_own_tensors() -> None:
    """A branch with more tensors than the graph that it is in: a float GRU that TensorFlow wrote was 'a bug'."""

    def branch(factor: float) -> Graph:
        idle = tuple(Tensor(f"idle{k}", (2,), "float32", np.zeros(2, np.float32)) for k in range(4))
        scale = Tensor("factor", (), "float32", np.array(factor, np.float32))
        tensors = (*idle, scale, Tensor("x", (2,), "float32"), Tensor("y", (2,), "float32"))
        return Graph(tensors, (Op("MUL", (5, 4), (6,), {"fusedActivationFunction": "NONE"}),), (5,), (6,))

    tensors = (Tensor("which", (1,), "bool"), Tensor("x", (2,), "float32"), Tensor("y", (2,), "float32"))
    chosen = Op("IF", (0, 1), (2,), {"thenSubgraphIndex": 1, "elseSubgraphIndex": 2})
    graph = Graph(tensors, (chosen,), (0, 1), (2,), others=(branch(2.0), branch(3.0)))
    runner = reference(graph)
    found = [runner.run({0: np.array([which]), 1: np.ones(2, np.float32)})[2] for which in (True, False)]
    assert [values.tolist() for values in found] == [[2.0, 2.0], [3.0, 3.0]]


def test_inputs_without_numbers_are_refused() -> None:
    graph = Graph((Tensor("words", (2,), "string"), Tensor("x", (2, 3), "int8")), (), (1, 0), ())
    with pytest.raises(InterpreterError, match="input 'words' has type string"):
        filled(graph)
    ones = filled(replace(graph, inputs=(1,)), 1)
    np.testing.assert_array_equal(ones[1], np.ones((2, 3), np.int8), strict=True)
