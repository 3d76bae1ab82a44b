"""Codebooks as a technique: kept where they pay, stored where the target looks them up, learned further."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import has_constant_weights, slots
from edgeqwt.lowering.codebooks import looked_up
from edgeqwt.mixed.cost import stored
from edgeqwt.passes.context import Context
from edgeqwt.passes.run import start
from edgeqwt.passes.state import State
from edgeqwt.profile import TargetProfile
from edgeqwt.recipe.recipe import load
from edgeqwt.techniques.codebook import Codebook, CodebookCalibration
from edgeqwt.techniques.ranges import MseRanges
from edgeqwt.widths.precision import Precision
from tests.chain import NONE, Chain, noise
from tests.lowering.test_codebooks import DENSE
from tests.techniques.test_regions16 import LITERT, work_on

LENGTH = 3
rule = partial(Codebook, length=LENGTH, smallest=1)


@pytest.fixture(scope="module")
def work() -> Context:
    chain = Chain()
    x = chain.input((1, 8, 64), "x")
    for shape in ((128, 64), (64, 128)):
        weights, bias = chain.constant(noise(*shape, scale=0.1)), chain.constant(noise(shape[0]))
        x = chain.op("FULLY_CONNECTED", x, weights, bias, **DENSE)
        x = chain.op("GELU", x, approximate=False) if shape[0] == 128 else x
    data = noise(48, 8, 64, seed=3) * np.linspace(0.1, 2, 64, dtype=np.float32)
    return work_on(chain.graph(chain.op("ADD", x, chain.inputs[0], **NONE)), data)


@pytest.fixture(scope="module")
def nearest(work: Context) -> State:
    return work.with_integer(replace(start(work, Precision()), ranges=MseRanges()))


@pytest.fixture(scope="module")
def coded(work: Context, nearest: State) -> State:
    found, account = rule().apply(nearest, work)
    assert account.kept
    assert account.data["bits"] == 3
    assert account.data["gain_db"] > 0
    assert account.data["lost_db"] > 0  # weights of 8 bits err less
    return found


def books(graph: Graph) -> list[int]:
    """How many codewords each dense layer has."""
    tensors = [graph.tensors[slots(op).weight] for op in graph.ops if has_constant_weights(graph, op)]
    found = [looked_up(tensor, LENGTH) for tensor in tensors]
    return [len(one.codes) for one in found if one is not None]


def test_layers_have_codebooks(nearest: State, coded: State) -> None:
    assert nearest.integer is not None
    assert coded.integer is not None
    assert books(nearest.integer) == []
    assert len(books(coded.integer)) == 2


def test_a_codebook_that_is_worse_than_equal_steps_is_not_kept(work: Context, nearest: State) -> None:
    found, account = rule(bits=1, rounds=0).apply(nearest, work)
    assert found is nearest
    assert not account.kept
    assert "equal steps of 2 bits" in account.sentences[0]


@pytest.mark.parametrize(
    ("target", "lookup", "gathers"), [("tflite", True, 2), ("tflite", False, 0), ("tflm", True, 0)]
)
def test_what_is_stored(coded: State, target: str, lookup: bool, gathers: int) -> None:
    profile = LITERT if target == "tflite" else TargetProfile("tflm", "", ("reference", "tflm"))
    assert coded.integer is not None
    graph = stored(coded.integer, replace(load("fast"), techniques=(rule(lookup=lookup),)), profile)
    assert sum(op.kind == "GATHER" for op in graph.ops) == gathers


@pytest.mark.requires("torch")
def test_calibration_keeps_codebooks_and_is_never_worse(work: Context, coded: State) -> None:
    learner = CodebookCalibration(length=LENGTH, iterations=30, batch=8)
    found, account = learner.apply(coded, work)
    assert found.integer is not None
    assert coded.integer is not None
    assert len(books(found.integer)) == 2
    assert work.gate.gain_db(coded.integer, found.integer) >= (0 if account.kept else -0.0)
    assert account.kept == (found.integer is not coded.integer)


@pytest.mark.requires("torch")
def test_without_codebooks_calibration_keeps_integers(work: Context, nearest: State) -> None:
    found, _ = CodebookCalibration(length=LENGTH, iterations=2, batch=8).apply(nearest, work)
    assert found.integer is not None
    assert nearest.integer is not None
    for op in nearest.integer.ops:
        if has_constant_weights(nearest.integer, op):
            pair = [graph.tensors[slots(op).weight].data for graph in (nearest.integer, found.integer)]
            np.testing.assert_array_equal(*pair)
