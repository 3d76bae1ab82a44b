"""What samples do not show of outputs is said, with the op that hides it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.observe import observe
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.verify.quality import layer_quality
from edgeqwt.verify.unseen import silent, unvarying
from tests.chain import NONE, Chain, noise, samples

DENSE = {**NONE, "weightsFormat": "DEFAULT", "keepNumDims": False}


def network() -> Graph:
    """Scores, those above 50, and the probability of something that is rarely there."""
    chain = Chain()
    x = chain.input((1, 8), "x")
    scores = chain.op("FULLY_CONNECTED", x, chain.constant(noise(3, 8, seed=1)), -1, name="scores", **DENSE)
    less = chain.op("SUB", scores, chain.constant(50.0), name="less", **NONE)
    above = chain.op("RELU", less, name="above")
    rare = chain.op("LOGISTIC", chain.op("SUB", scores, chain.constant(12.0), name="rarely", **NONE), name="rare")
    return chain.graph(scores, above, rare)


def test_a_build_says_what_nothing_of_an_output_shows(tmp_path: Path) -> None:
    flatbuffer.write(network(), tmp_path / "net.tflite")
    values = np.random.default_rng(0).normal(size=(48, 8)).astype(np.float32)
    built = edgeqwt.build(tmp_path / "net.tflite", calibration=values, recipe="fast", accept=True)
    constant = [sentence for sentence in built.warnings if "is the same in all 12 held-out samples" in sentence]
    assert len(constant) == 1
    assert constant[0].startswith("output 'above' ")
    assert "makes the same of all that it reads" in constant[0]
    assert any(sentence.startswith("output 'rare' is a probability and nowhere above ") for sentence in built.warnings)


def test_the_op_behind_which_nothing_varies_is_named_with_what_it_reads() -> None:
    graph = network()
    feeds = samples(graph, 6)
    quality = layer_quality(graph, {"": graph}, feeds)[""]
    [sentence] = unvarying(graph, quality, feeds)
    assert ": RELU 'above' makes the same of all that it reads ('less', " in sentence
    assert [*unvarying(graph, quality, feeds, known=[1])] == []


@pytest.mark.parametrize(("shift", "said"), [(12.0, True), (0.0, False)])
def test_a_detector_in_which_something_fires_is_not_silent(shift: float, said: bool) -> None:
    chain = Chain()
    low = chain.op("SUB", chain.input((1, 8), "x"), chain.constant(shift), **NONE)
    graph = chain.graph(chain.op("LOGISTIC", low, name="p"))
    feeds = samples(graph, 6)
    quality = layer_quality(graph, {"": graph}, feeds)[""]
    assert len([*silent(graph, quality, observe(graph, feeds)[0])]) == said
