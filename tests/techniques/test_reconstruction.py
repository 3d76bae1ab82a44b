"""Learned rounding as a technique: blocks learn and are confirmed on samples to fit on, the gate judges the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.calibration.sources import open_samples
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array
from edgeqwt.passes.context import Context
from edgeqwt.passes.gate import Gate
from edgeqwt.passes.run import start
from edgeqwt.passes.state import State
from edgeqwt.reconstruct.reconstruct import Reconstructed
from edgeqwt.techniques.ranges import MinMaxRanges
from edgeqwt.techniques.reconstruction import Reconstruction
from tests.reconstruct.nets import FOUR, residual
from tests.techniques.test_regions16 import work_on

pytestmark = pytest.mark.requires("torch")

DIM = np.float32(0.01) * np.random.default_rng(1).normal(size=(8, 8, 8, 3)).astype(np.float32)
"""Images of a hundredth of the contrast, on which what was learned from others loses."""
LEARNER = Reconstruction(scope="block", rounding="straight", iterations=40, batch=8)


def images(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def work() -> Context:
    return work_on(residual(), images(32, 0))


@pytest.fixture(scope="module")
def nearest(work: Context) -> State:
    return work.with_integer(replace(start(work, FOUR), ranges=MinMaxRanges()))


def judged_by(work: Context, data: Array) -> Context:
    """The same context with other held-out samples."""
    (binding,) = work.model.inputs
    return replace(work, gate=Gate(work.model, work.graph, open_samples({binding.spec.name: data})))


def learned(work: Context, nearest: State) -> Reconstructed:
    found = LEARNER.apply(nearest, work)[1].detail
    assert isinstance(found, Reconstructed)
    return found


def test_held_out_samples_choose_no_block(work: Context, nearest: State) -> None:
    one, other = (learned(context, nearest) for context in (work, judged_by(work, DIM)))
    assert one.blocks == other.blocks
    assert any(block.kept for block in one.blocks)
    assert flatbuffer.to_bytes(one.graph) == flatbuffer.to_bytes(other.graph)


@pytest.mark.parametrize("dim", [False, True])
def test_held_out_samples_leave_out_the_whole_where_they_lose(work: Context, nearest: State, dim: bool) -> None:
    context = judged_by(work, DIM) if dim else work
    after, account = LEARNER.apply(nearest, context)
    gain = account.data["gain_db"]
    assert isinstance(gain, float)
    assert (gain < 0) is dim
    assert account.kept is not dim
    assert (after is nearest) is dim
    assert f"together {gain:+.2f} dB on held-out samples" in account.sentences
