"""UNIDIRECTIONAL_SEQUENCE_LSTM, step by step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.converters.from_tflite.sequence_lstm import KIND, written_out
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Tensor
from edgeqwt.runtime.runners import xnnpack
from tests.chain import Chain, noise

UNITS, COLUMNS, STEPS = 5, 3, 6


def lstm(time_major: bool = False, clip: float = 0.0, peephole: bool = False, scale: float = 1.0) -> Graph:
    """The layer as Keras exports it, between two functions."""
    chain = Chain()
    shape = (STEPS, 1, COLUMNS) if time_major else (1, STEPS, COLUMNS)
    x = chain.op("TANH", chain.input(shape, "x"), shape=shape)
    inward = [chain.constant(scale * noise(UNITS, COLUMNS, seed=k)) for k in range(4)]
    recurrent = [chain.constant(0.4 * scale * noise(UNITS, UNITS, seed=k + 4)) for k in range(4)]
    biases = [chain.constant(scale * noise(UNITS, seed=k + 8)) for k in range(4)]
    cells = [chain.constant(noise(UNITS, seed=k + 12)) if peephole else -1 for k in range(3)]
    states = [chain.constant(np.zeros((1, UNITS)), name) for name in ("h", "c")]
    out = chain.op(
        KIND, x, *inward, *recurrent, *cells, *biases, -1, -1, *states, -1, -1, -1, -1, name="y",
        shape=(*shape[:2], UNITS), fusedActivationFunction="TANH", timeMajor=time_major, cellClip=clip, projClip=0.0,
    )  # fmt: skip
    end = chain.op("ABS", out, name="z", shape=(*shape[:2], UNITS))
    graph = chain.graph(end)
    variables = {t: Tensor(graph.tensors[t].name, (1, UNITS), "float32", is_variable=True) for t in states}
    return graph.with_tensors(variables)


@pytest.mark.parametrize(("time_major", "clip", "scale"), [(False, 0.0, 1.0), (True, 10.0, 1.0), (False, 0.5, 4.0)])
def test_the_same_as_the_kernel(time_major: bool, clip: float, scale: float) -> None:
    graph = lstm(time_major, clip, scale=scale)
    found, notes = written_out(graph)
    assert KIND not in {op.kind for op in found.ops}
    assert "in 6 steps" in notes[0]
    x = noise(*graph.tensors[graph.inputs[0]].shape, seed=20)
    wanted = xnnpack(graph).run({graph.inputs[0]: x})[graph.outputs[0]]
    got = xnnpack(found).run({found.inputs[0]: x})[found.outputs[0]]
    np.testing.assert_allclose(got, wanted, atol=2e-6)  # float32, six steps


def test_other_forms_stay() -> None:
    graph = lstm(peephole=True)
    assert written_out(graph) == (graph, ())
    op = graph.ops[1]
    relu = replace(graph, ops=(graph.ops[0], op.with_options(fusedActivationFunction="RELU"), *graph.ops[2:]))
    assert written_out(relu) == (relu, ())


def test_a_file_with_the_layer_builds(tmp_path: Path) -> None:
    flatbuffer.write(lstm(), tmp_path / "net.tflite")
    samples = {"x": noise(24, STEPS, COLUMNS)}
    result = edgeqwt.build(tmp_path / "net.tflite", calibration=samples, recipe="plain")
    assert any("was written out in 6 steps" in note for note in result.model.notes)
    assert result.parity.outputs  # sample by sample, states of the file reset before each
    assert result.quality[result.choice.name].worst_db > 20
