"""Open and wrong shapes of .tflite files, and control flow that is decided before any sample is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.converters.closed import closed, open_shape
from edgeqwt.converters.from_tflite.control_flow import check_resolved, chosen
from edgeqwt.converters.from_tflite.source import TfliteRunner, bindings
from edgeqwt.errors import UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.runtime.runners import xnnpack
from tests.chain import NONE, Chain, noise

SLICE = {"beginMask": 0, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 1, "offset": False}


def opened(graph: Graph, *tensors: int) -> Graph:
    """The graph, the first axis of some tensors left open and stored as 1."""
    return graph.with_tensors(
        {t: replace(graph.tensors[t], shape_signature=(-1, *graph.tensors[t].shape[1:])) for t in tensors}
    )


def made(graph: Graph, x: Array) -> tuple[Graph, tuple[str, ...]]:
    specs = [binding.spec for binding in bindings(graph)[0]]
    return closed(graph, specs, {specs[0].name: x})


def run(graph: Graph, x: Array) -> Array:
    return xnnpack(graph).run({graph.inputs[0]: x})[graph.outputs[0]]


def flattening() -> Graph:
    """tf.reshape(x, [tf.shape(x)[0], -1]) times a vector filled to that length, as TensorFlow writes it."""
    chain = Chain()
    x = chain.input((1, 4, 3))
    shape = chain.op("SHAPE", x, shape=(3,), dtype="int32", outType="INT32")
    ends = [chain.constant([n]) for n in (0, 1, 1)]
    batch = chain.op("STRIDED_SLICE", shape, *ends, shape=(), dtype="int32", **SLICE)
    rest = chain.constant(12)
    wanted = chain.op("PACK", batch, rest, shape=(2,), dtype="int32", valuesCount=2, axis=0)
    flat = chain.op("RESHAPE", x, wanted, shape=(1, 1))
    full = chain.op("FILL", wanted, chain.constant(0.5), shape=(1, 1))
    y = chain.op("ADD", flat, full, name="y", shape=(1, 1), **NONE)
    graph = chain.graph(y)
    # `Chain` takes () for no shape at all.
    graph = graph.with_tensors({batch: replace(graph.tensors[batch], shape=())})
    return opened(graph, x, flat, full, y)


@pytest.mark.parametrize("batch", [1, 2])
def test_shapes_that_are_computed_from_an_open_batch(batch: int, tmp_path: Path) -> None:
    graph, x = flattening(), noise(batch, 4, 3)
    assert bindings(graph)[0][0].spec.shape == (None, 4, 3)
    found, notes = made(graph, x)
    assert notes == (f"input 'x0' with dynamic shape (?, 4, 3) was fixed to ({batch}, 4, 3)",)
    assert [op.kind for op in found.ops] == ["RESHAPE", "ADD"]
    assert found.tensors[found.outputs[0]].shape == (batch, 12)
    assert all(None not in open_shape(t) for t in found.tensors)
    expected = x.reshape(batch, 12) + np.float32(0.5)
    assert np.array_equal(run(found, x), expected)
    # The file itself, which edgeqwt's own reading is held against, takes the same sample.
    flatbuffer.write(graph, tmp_path / "model.tflite")
    runner = TfliteRunner.open(tmp_path / "model.tflite", *bindings(found))
    assert np.array_equal(runner.run({"x0": x})["y"], expected)


def test_stored_shapes_are_computed_again() -> None:
    chain = Chain()
    x = chain.input((1, 6))
    middle = chain.op("RELU", x, shape=(3, 2), name="middle")
    graph = chain.graph(chain.op("TANH", middle, shape=(1, 6)))
    found, notes = made(graph, noise(1, 6))
    assert found.tensors[middle].shape == (1, 6)
    assert notes == ("the file states other shapes than LiteRT computes, of 1 tensors: 'middle'",)
    again, notes = made(found, noise(1, 6))
    assert again is found
    assert notes == ()


def test_shapes_that_hang_on_values_are_refused() -> None:
    chain = Chain()
    x = chain.input((4,), dtype="int32")
    y = chain.op("RESHAPE", chain.constant(noise(6)), x, shape=(1, 1, 2, 3))
    with pytest.raises(UnsupportedError, match=r"RESHAPE .*'x0', depends on the values of the inputs"):
        made(chain.graph(y), np.array([1, 1, 2, 3], np.int32))


def scalar(name: str, dtype: str = "int32", value: int | None = None) -> Tensor:
    return Tensor(name, (), dtype, None if value is None else np.array(value, dtype))


def branch(kind: str, factor: float) -> Graph:
    tensors = (Tensor("a", (1, 4), "float32"), Tensor("k", (1,), "float32", np.array([factor], np.float32)))
    ops = (Op(kind, (0, 1), (2,), NONE),)
    return Graph((*tensors, Tensor("b", (1, 4), "float32")), ops, (0,), (2,))


def less() -> Graph:
    """Whether the first of (counter, value, bound) is below the last."""
    tensors = (scalar("i"), Tensor("v", (1, 4), "float32"), scalar("n"), Tensor("c", (), "bool"))
    return Graph(tensors, (Op("LESS", (0, 2), (3,)),), (0, 1, 2), (3,))


def step() -> Graph:
    tensors = [scalar("i"), Tensor("v", (1, 4), "float32"), scalar("n"), scalar("one", value=1), scalar("i2")]
    tensors += [Tensor("half", (1,), "float32", np.array([0.5], np.float32)), Tensor("v2", (1, 4), "float32")]
    ops = (Op("ADD", (0, 3), (4,), NONE), Op("MUL", (1, 5), (6,), NONE))
    return Graph(tuple(tensors), ops, (0, 1, 2), (4, 6, 2))


def looping(bound: int | None) -> Graph:
    """x halved `bound` times (None: as often as a second input says), then doubled if the count is above 2."""
    x, y = Tensor("x", (1, 4), "float32"), Tensor("y", (1, 4), "float32")
    states = (scalar("i_end"), Tensor("v_end", (1, 4), "float32"), scalar("n_end"))
    tensors = (x, scalar("zero", value=0), scalar("n", value=bound), *states, scalar("two", value=2))
    ops = (
        Op("WHILE", (1, 0, 2), (3, 4, 5), {"condSubgraphIndex": 1, "bodySubgraphIndex": 2}),
        Op("GREATER", (3, 6), (7,)),
        Op("IF", (7, 4), (8,), {"thenSubgraphIndex": 3, "elseSubgraphIndex": 4}),
    )
    others = (less(), step(), branch("MUL", 2.0), branch("ADD", 1.0))
    inputs = (0,) if bound is not None else (0, 2)
    return Graph((*tensors, scalar("above", "bool"), y), ops, inputs, (8,), others=others)


@pytest.mark.parametrize(("bound", "kinds"), [(0, ["ADD"]), (1, ["MUL", "ADD"]), (3, ["MUL"] * 4)])
def test_loops_and_branches_that_are_known_beforehand(bound: int, kinds: list[str]) -> None:
    graph, x = looping(bound), noise(1, 4)
    found, notes = made(graph, x)
    assert [op.kind for op in found.ops if op.kind not in ("SHAPE", "RESHAPE")] == kinds
    assert notes[0] == f"WHILE #0 -> 'i_end' always runs {bound} times: it was unrolled"
    assert ("then" if bound > 2 else "else") in notes[1]
    assert not found.others
    assert np.array_equal(run(found, x), x * 0.5**bound * 2 if bound > 2 else x * np.float32(0.5**bound) + 1)
    assert np.array_equal(run(graph, x), run(found, x))


def deciding(other: Graph) -> Graph:
    """2 x where its mean is above zero, and what another branch gives elsewhere."""
    tensors = (
        *(Tensor("x", (1, 4), "float32"), Tensor("axes", (2,), "int32", np.array([0, 1], np.int32))),
        *(Tensor("mean", (), "float32"), Tensor("zero", (), "float32", np.array(0, np.float32))),
        *(Tensor("above", (), "bool"), Tensor("y", (1, 4), "float32")),
    )
    ops = (
        Op("MEAN", (0, 1), (2,), {"keepDims": False}),
        Op("GREATER", (2, 3), (4,)),
        Op("IF", (4, 0), (5,), {"thenSubgraphIndex": 1, "elseSubgraphIndex": 2}),
    )
    return Graph(tensors, ops, (0,), (5,), others=(branch("MUL", 2.0), other))


def test_branches_that_the_inputs_decide_are_both_computed() -> None:
    graph, x = deciding(branch("ADD", 1.0)), noise(1, 4)
    found, notes = made(graph, x)
    assert notes == ("IF #2 -> 'y' takes the branch that the inputs decide: both are computed, and one is chosen",)
    assert {"MUL", "ADD", "SELECT_V2"} <= {op.kind for op in found.ops}
    assert not found.others
    for each in (abs(x), -abs(x)):
        assert np.array_equal(run(graph, each), run(found, each))
    assert np.array_equal(run(found, abs(x)), abs(x) * 2)


def test_a_branch_that_keeps_something_is_refused() -> None:
    keeping = branch("ADD", 1.0)
    state = Tensor("state", (), "resource")
    ops = (Op("VAR_HANDLE", (), (3,), {"container": "", "sharedName": "s"}), *keeping.ops)
    graph = deciding(replace(keeping, tensors=(*keeping.tensors, state), ops=ops))
    with pytest.raises(UnsupportedError, match=r"IF #2 .* keep something for the next run") as caught:
        check_resolved(chosen(graph)[0])
    assert "model of each branch" in caught.value.hint


def test_check_judges_loops_by_what_a_build_makes_of_them(tmp_path: Path) -> None:
    for bound in (3, None):
        flatbuffer.write(looping(bound), tmp_path / f"{bound}.tflite")
    assert not [f for f in edgeqwt.check(tmp_path / "3.tflite", "tflite")[0] if f.severity == "error"]
    assert "integer_form" in {f.rule for f in edgeqwt.check(tmp_path / "None.tflite", "tflite")[0]}


def test_loops_that_hang_on_values_are_refused() -> None:
    graph = looping(None)
    specs = [binding.spec for binding in bindings(graph)[0]]
    sample: dict[str, Array] = {"x": noise(1, 4), "n": np.array(2, np.int32)}
    with pytest.raises(UnsupportedError, match=r"WHILE #0 .* depends on the values of the inputs") as caught:
        closed(graph, specs, sample)
    assert "fixed number of steps" in caught.value.hint


def test_learned_rounding_of_weights_stays() -> None:
    """Networks that were trained with quantization have QUANTIZE and DEQUANTIZE behind their weights."""
    chain = Chain()
    x = chain.input((1, 4))
    rounded = chain.op("QUANTIZE", chain.constant(noise(3, 4)), dtype="int8", shape=(3, 4))
    weights = chain.op("DEQUANTIZE", rounded, shape=(3, 4))
    y = chain.op("FULLY_CONNECTED", x, weights, shape=(1, 3), **NONE)
    graph = opened(chain.graph(y), x, y)
    scale = Quantization.per_tensor(0.03, 0)
    graph = graph.with_tensors({rounded: replace(graph.tensors[rounded], quantization=scale)})
    found, _ = made(graph, noise(2, 4))
    assert [op.kind for op in found.ops] == ["QUANTIZE", "DEQUANTIZE", "FULLY_CONNECTED"]
    assert found.tensors[found.outputs[0]].shape == (2, 3)
