from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.graph.pairing import partners
from edgeqwt.runtime.foreign import read_foreign
from edgeqwt.verify.compare import compare_graphs
from tests.chain import CONV, Chain, noise, samples


def float_graph() -> Graph:
    """Two inputs, an inner convolution and two outputs, one of them an inner tensor's sum."""
    chain = Chain()
    x, y = chain.input((1, 6, 6, 2), "x"), chain.input((1, 6, 6, 4), "y")
    weights, bias = chain.constant(noise(4, 3, 3, 2, seed=1)), chain.constant(noise(4, seed=2))
    inner = chain.op("CONV_2D", x, weights, bias, name="inner", **CONV)
    total = chain.op("ADD", inner, y, name="total", fusedActivationFunction="NONE", potScaleInt16=False)
    return chain.graph(total, chain.op("LOGISTIC", total, name="share"))


def renamed(graph: Graph, names: dict[str, str]) -> Graph:
    tensors = tuple(replace(t, name=names.get(t.name, t.name)) for t in graph.tensors)
    return replace(graph, tensors=tensors)


def test_a_graph_is_exactly_itself() -> None:
    graph = float_graph()
    found = compare_graphs(graph, graph, samples(graph, 3), threads=1)
    assert (found.samples, found.unmatched) == (3, 0)
    assert [(row.name, row.kind) for row in found.tensors] == [("inner", "CONV_2D")]
    assert [(row.name, row.kind) for row in found.outputs] == [("total", "ADD"), ("share", "LOGISTIC")]
    assert {row.closeness.sqnr_db for row in (*found.tensors, *found.outputs)} == {math.inf}


def test_a_comparison_is_a_few_lines() -> None:
    graph = float_graph()
    shown = repr(compare_graphs(graph, graph, samples(graph, 3), threads=1)).splitlines()
    assert shown[0] == "Comparison(on 3 samples, of what varies at"
    assert shown[1:] == ["  'total': inf dB", "  'share': inf dB)"]


def test_an_integer_graph_is_judged_by_its_real_values(tmp_path: Path) -> None:
    flatbuffer.write(float_graph(), tmp_path / "float.tflite")
    calibration = [{"x": a[0], "y": a[1]} for a in samples(float_graph(), 8)]
    built = edgeqwt.build(tmp_path / "float.tflite", calibration=calibration, compensation=False, ranges="minmax")
    graph, integer = built.prepared.graph, built.graph
    found = compare_graphs(graph, integer, samples(graph, 8), threads=2)
    inner, total, share = (row.closeness for row in (*found.tensors, *found.outputs))
    # 8 bits over a normal distribution's 4 sigma either way: 20 log10(sigma / (8 sigma / 255 / sqrt(12))) = 41 dB, less
    # what weights and inputs add; another scale or zero point would leave next to nothing.
    assert all(30 < c.sqnr_db < 50 for c in (inner, total, share))
    # LOGISTIC's scale is 1/256: half a step of its own rounding and, its slope being at most 1/4, a quarter of the
    # input's error.
    assert share.max_steps == pytest.approx(share.max_abs * 256)
    assert share.max_abs <= 0.5 / 256 + total.max_abs / 4 + 1e-6
    assert compare_graphs(graph, integer, samples(graph, 8), threads=1) == found


def test_tensors_are_found_by_weights_and_outputs_by_position() -> None:
    graph = float_graph()
    other = renamed(graph, {"inner": "middle", "share": "fraction"})
    found = compare_graphs(graph, other, samples(graph), threads=1)
    assert [row.name for row in found.tensors] == ["inner"]
    assert found.unmatched == 0
    assert [op.own_db for op in found.own.ops] == [math.inf] * 3
    assert [(row.name, row.closeness.sqnr_db) for row in found.outputs] == [("total", math.inf), ("share", math.inf)]


def test_a_namesake_of_another_shape_is_another_tensor() -> None:
    graph = float_graph()
    chain = Chain()
    x, y = chain.input((1, 6, 6, 2), "x"), chain.input((1, 6, 6, 4), "y")
    pooled = chain.op("MEAN", x, chain.constant(np.array([1, 2])), name="inner", keepDims=True)
    scaled = chain.op(
        "MUL", y, chain.op("MEAN", pooled, chain.constant(np.array([3])), keepDims=True), name="total",
        fusedActivationFunction="NONE",
    )  # fmt: skip
    other = chain.graph(scaled, chain.op("LOGISTIC", scaled, name="share"))
    found = compare_graphs(graph, other, samples(graph), threads=1)
    assert (found.tensors, found.unmatched) == ((), 1)
    assert found.outputs[0].closeness.sqnr_db < 10


def test_an_input_that_is_an_output() -> None:
    graph = float_graph()
    both = replace(graph, outputs=(graph.inputs[0], *graph.outputs))
    found = compare_graphs(both, both, samples(both), threads=1)
    assert (found.outputs[0].name, found.outputs[0].kind) == ("x", "INPUT")
    assert found.outputs[0].closeness.sqnr_db == math.inf


def test_what_cannot_be_compared() -> None:
    graph = float_graph()
    with pytest.raises(InputError, match="no samples"):
        compare_graphs(graph, graph, [], threads=1)
    fewer = replace(graph, outputs=graph.outputs[:1])
    with pytest.raises(InputError, match=r"outputs differ: .*'share' \(1, 6, 6, 4\) and 'total' \(1, 6, 6, 4\)"):
        compare_graphs(graph, fewer, samples(graph), threads=1)


def shifted(by: float) -> Graph:
    """SOFTMAX of the input and a constant: a shift that the output does not show."""
    chain = Chain()
    x, constant = chain.input((1, 4), "x"), chain.constant(np.full(4, by, np.float32))
    inner = chain.op("ADD", x, constant, name="inner", fusedActivationFunction="NONE", potScaleInt16=False)
    return chain.graph(chain.op("SOFTMAX", inner, name="share", beta=1.0))


def test_inner_tensors_are_judged_by_what_varies_and_outputs_by_what_goes_into_softmax() -> None:
    given = samples(shifted(10.0), 8)
    found = compare_graphs(shifted(10.0), shifted(10.5), given, threads=1)
    varying = 4 * np.stack([sample[0] for sample in given]).var(axis=0, ddof=1).mean() / (4 * 0.5**2)
    assert found.tensors[0].closeness.varying_db == pytest.approx(10 * math.log10(varying), abs=1e-4)
    assert found.tensors[0].closeness.sqnr_db > 20  # the whole is mostly the constant
    assert found.outputs[0].closeness.judged_db > 60
    assert found.before == {"share": found.tensors[0]}
    assert found.worst() == (found.tensors[0].closeness.varying_db, "inner")


def test_handles_of_variables_are_not_asked_for(tmp_path: Path) -> None:
    """LiteRT's process may end, and the file was then called damaged, where a resource's values are asked for."""
    kinds = ("float32", "resource", "float32", "float32")
    tensors = tuple(Tensor(name, (1, 4), kind) for name, kind in zip(("x", "handle", "read", "y"), kinds, strict=True))
    ops = (
        Op("VAR_HANDLE", (), (1,), {"container": "", "sharedName": "state"}),
        Op("ASSIGN_VARIABLE", (1, 0), ()),
        Op("READ_VARIABLE", (1,), (2,)),
        Op("TANH", (2,), (3,)),
    )
    graph = Graph((*tensors[:1], replace(tensors[1], shape=()), *tensors[2:]), ops, (0,), (3,))
    file = tmp_path / "m.tflite"
    file.write_bytes(flatbuffer.to_bytes(graph))
    read = read_foreign(file)
    assert 1 not in partners(read, read)
    found = compare_graphs(read, read, [{0: np.ones((1, 4), np.float32)}, {0: np.zeros((1, 4), np.float32)}])
    assert ([t.name for t in found.tensors], found.unmatched) == (["read"], 0)
