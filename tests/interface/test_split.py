"""Outputs that join several kinds of values, as outputs of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.interface.options import Interface
from edgeqwt.interface.split import split_outputs
from edgeqwt.runtime.runners import reference
from tests.chain import NONE, Chain, noise
from tests.interface.test_input_normalization import model_of

DENSE = {"weightsFormat": "DEFAULT", "keepNumDims": True, **NONE}


def detector(moved: bool = False, scaled: bool = False) -> Graph:
    """Boxes in pixels and scores from 0 to 1 of six places, joined."""
    chain = Chain()
    x = chain.input((1, 6, 8), "x")
    boxes = chain.op("FULLY_CONNECTED", x, chain.constant(100 * noise(4, 8)), chain.constant(noise(4)),
                     shape=(1, 6, 4), **DENSE)  # fmt: skip
    scores = chain.op("FULLY_CONNECTED", x, chain.constant(noise(3, 8, seed=1)), chain.constant(noise(3)),
                      shape=(1, 6, 3), **DENSE)  # fmt: skip
    scores = chain.op("LOGISTIC", scores, shape=(1, 6, 3))
    y = chain.op("CONCATENATION", boxes, scores, shape=(1, 6, 7), axis=2, **NONE)
    if scaled:
        y = chain.op("MUL", y, chain.constant(np.arange(1.0, 8.0)), shape=(1, 6, 7), **NONE)
    if moved:
        y = chain.op("TRANSPOSE", y, chain.constant([0, 2, 1]), shape=(1, 7, 6))
        y = chain.op("RESHAPE", y, chain.constant([1, 7, 2, 3]), shape=(1, 7, 2, 3), newShape=[1, 7, 2, 3])
    return chain.graph(y)


def with_output(graph: Graph) -> edgeqwt.converted.ConvertedModel:
    from dataclasses import replace

    from edgeqwt.calibration.samples import InputSpec
    from edgeqwt.converted import Binding

    t = graph.outputs[0]
    return replace(model_of(graph), outputs=(Binding(InputSpec("y", graph.tensors[t].shape, "float32"), t),))


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_parts_are_the_parts_of_the_whole(moved: bool, scaled: bool) -> None:
    graph = detector(moved, scaled)
    model = split_outputs(with_output(graph))
    x = noise(1, 6, 8, seed=2)
    whole = reference(graph).run({graph.inputs[0]: x})[graph.outputs[0]]
    axis = model.joined[0].axis
    found = reference(model.graph).run({model.graph.inputs[0]: x})
    parts = [found[t] for t in model.graph.outputs]
    assert [p.shape[axis] for p in parts] == [4, 3]
    assert np.array_equal(np.concatenate(parts, axis), whole)
    assert "CONCATENATION" not in [op.kind for op in model.graph.ops]
    assert [b.spec.name for b in model.outputs] == list(model.joined[0].parts) == ["y_0", "y_1"]


def test_a_build_gives_each_part_its_scale(tmp_path: Path) -> None:
    flatbuffer.write(detector(), tmp_path / "net.tflite")
    rng = np.random.default_rng(4)
    np.savez(tmp_path / "samples.npz", x=rng.standard_normal((32, 6, 8)).astype(np.float32))
    result = edgeqwt.build(
        tmp_path / "net.tflite", calibration=tmp_path / "samples.npz", recipe="fast", interface=Interface(split=True)
    )
    scales = [result.graph.tensors[t].quantization for t in result.graph.outputs]
    assert all(q is not None for q in scales)
    boxes, scores = (float(q.scale[0]) for q in scales if q is not None)
    assert scores == 1 / 256
    assert boxes > 100 * scores
    # One scale for both leaves all scores at one integer or two; apart both have what 8 bits give.
    assert all(judged.closeness.judged_db > 25 for judged in result.quality[result.choice.name].outputs)


def test_nothing_to_split_is_said() -> None:
    chain = Chain()
    x = chain.input((1, 8), "x")
    with pytest.raises(InputError, match="no output joins"):
        split_outputs(with_output(chain.graph(chain.op("TANH", x, shape=(1, 8)))))
