"""States that an application feeds back: which they are, and that their bytes fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.calibration.samples import InputSpec
from edgeqwt.commands.options import parse_states
from edgeqwt.converted import Binding, ConvertedModel
from edgeqwt.converters.states import found, with_states
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.proved import unlike_states
from edgeqwt.runtime.runners import reference, xnnpack
from tests.chain import NONE, Chain
from tests.prepare import toy

WIDTH = 6


def step(before: str = "h", after: str = "h_out") -> Graph:
    """h' = tanh(W x + R h) / 2, which forgets what it was, and y of h'."""
    chain = Chain()
    x, h = chain.input((1, 4), name="x"), chain.input((1, WIDTH), name=before)
    total = chain.op("ADD", toy.dense(chain, x, WIDTH, 1), toy.dense(chain, h, WIDTH, 3), shape=(1, WIDTH), **NONE)
    new = chain.op("MUL", chain.op("TANH", total, shape=(1, WIDTH)), chain.constant(0.5), shape=(1, WIDTH), name=after)
    return chain.graph(toy.dense(chain, new, 3, 5), new)


def model(graph: Graph, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> ConvertedModel:
    def bound(tensors: tuple[int, ...], names: tuple[str, ...]) -> tuple[Binding, ...]:
        specs = (InputSpec(n, graph.tensors[t].shape, "float32") for t, n in zip(tensors, names, strict=True))
        return tuple(Binding(spec, t) for spec, t in zip(specs, tensors, strict=True))

    return ConvertedModel(graph, bound(graph.inputs, inputs), bound(graph.outputs, outputs), lambda sample: {})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("h", "h_out"), ("h", "hn"), ("h0", "hn"), ("state", "new_state"), ("hidden_in", "hidden"),
        ("cacheIn", "cacheOut"),
        ("past_key_values.3.key", "present_key_values.3.key"), ("memory", "memory"), ("h", "output_1"),
    ],
)  # fmt: skip
def test_names_tell_states(before: str, after: str) -> None:
    outputs = ("output_0", after) if after == "output_1" else ("y", after)
    assert found(model(step(), ("x", before), outputs)) == ((before, after),)


@pytest.mark.parametrize(
    ("before", "after"),
    [("image", "image_out"), ("h", "other"), ("past.3.key", "present.4.key"), ("mask", "output_1")],
)
def test_other_names_do_not(before: str, after: str) -> None:
    outputs = ("output_0", after) if after == "output_1" else ("y", after)
    assert found(model(step(), ("x", before), outputs)) == ()


def test_two_outputs_of_a_shape_are_not_distinguished() -> None:
    graph = step()
    twice = replace(graph, outputs=(graph.outputs[1], graph.outputs[1]))
    assert found(model(twice, ("x", "h"), ("output_0", "output_1"))) == ()


def test_what_is_given_is_checked() -> None:
    small = model(step(), ("x", "a"), ("y", "b"))
    assert with_states(small) is small
    named = with_states(small, [("a", "b")])
    assert named.graph.states == (("h", "h_out"),)
    assert "one state" in named.notes[-1]
    with pytest.raises(InputError, match="no input 'c'"):
        with_states(small, [("c", "b")])
    with pytest.raises(InputError, match="no output 'x'"):
        with_states(small, [("a", "x")])
    with pytest.raises(InputError, match=r"shapes are \(1, 4\) and \(1, 6\)"):
        with_states(small, [("x", "b")])


def test_options() -> None:
    assert parse_states(None) is None
    assert parse_states(["none"]) == []
    assert parse_states(["a=b", "c=d"]) == [("a", "b"), ("c", "d")]


def test_another_layout_is_moved_into_the_inputs() -> None:
    chain = Chain()
    cache = chain.input((1, 5, 3), name="cache")  # (1, 3, 5) in the source, channels last here
    out = chain.op("TANH", toy.transpose(chain, cache, 0, 2, 1), shape=(1, 3, 5), name="cache_out")
    graph = chain.graph(out)
    spec = InputSpec("cache", (1, 3, 5), "float32")
    inputs, outputs = (Binding(spec, 0, (0, 2, 1)),), (Binding(replace(spec, name="cache_out"), out),)
    moved = with_states(ConvertedModel(graph, inputs, outputs, lambda sample: {}))
    after = moved.outputs[0]
    assert moved.graph.tensors[after.tensor].name == "cache_out"
    assert moved.graph.tensors[after.tensor].shape == (1, 5, 3)
    values = np.random.default_rng(0).normal(size=(1, 3, 5)).astype(np.float32)
    feed = {moved.graph.inputs[0]: moved.inputs[0].to_graph(values, moved.graph)}
    # tanh in float32, by another polynomial than numpy's: some 1e-7.
    assert np.abs(after.to_source(xnnpack(moved.graph).run(feed)[after.tensor]) - np.tanh(values)).max() < 1e-6


@pytest.mark.parametrize("states", [None, ()])
def test_the_bytes_of_a_build_can_be_fed_back(states: tuple[()] | None, tmp_path: Path) -> None:
    path = tmp_path / "step.tflite"
    flatbuffer.write(step(), path)
    rng = np.random.default_rng(0)
    samples = [
        # States that are smaller than they come out: the range has to hold both.
        {"x": rng.normal(size=(1, 4)).astype(np.float32), "h": rng.uniform(-0.3, 0.3, (1, WIDTH)).astype("f")}
        for _ in range(32)
    ]
    result = edgeqwt.build(path, calibration=samples, recipe="fast", states=states, output=tmp_path / "out")
    graph = result.graph
    before, after = (graph.tensors[t].quantization for t in (graph.inputs[1], graph.outputs[1]))
    assert before is not None
    assert after is not None
    io = json.loads((tmp_path / "out" / "package" / "io.json").read_text("utf-8"))
    assert before.same_as(after) == (states is None)
    assert [io["inputs"][1]["state"], io["outputs"][1]["state"]] == (["h_out", "h"] if states is None else [None, None])
    assert [port["state"] for port in (io["inputs"][0], io["outputs"][0])] == [None, None]
    if states is None:
        runner, real = reference(graph), xnnpack(result.prepared.graph)
        state, wanted = np.full((1, WIDTH), int(before.zero_point[0]), np.int8), np.zeros((1, WIDTH), np.float32)
        x, q = result.prepared.graph, graph.tensors[graph.inputs[0]].quantization
        assert q is not None
        for sample in samples[:8]:
            integers = np.clip(np.rint(sample["x"] / q.scale[0]) + q.zero_point[0], -128, 127).astype(np.int8)
            state = runner.run({graph.inputs[0]: integers, graph.inputs[1]: state})[graph.outputs[1]]
            wanted = real.run({x.inputs[0]: sample["x"], x.inputs[1]: wanted})[x.outputs[1]]
        # The state reaches 1/2: a step is 1/255. Some ten roundings of such steps come together in one run, and half
        # of an error or less is in the next.
        assert np.abs((state.astype(float) - before.zero_point[0]) * before.scale[0] - wanted).max() < 20 / 255


@pytest.mark.parametrize(("spread", "message"), [(0.0, True), (0.1, True), (0.4, False)])
def test_states_that_calibration_does_not_show_are_named(spread: float, message: bool) -> None:
    found = with_states(model(step(), ("x", "h"), ("y", "h_out")))
    rng = np.random.default_rng(0)
    samples = from_arrays(
        {"x": rng.normal(size=(8, 4)).astype("f"), "h": rng.uniform(-spread, spread, (8, WIDTH)).astype("f")}
    )
    sentences = [*unlike_states(found, found.graph, samples)]
    assert ["calibrate with states as they are" in sentence for sentence in sentences] == [True] * message
