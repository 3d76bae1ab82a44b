"""Blocks that learn at the same time, in other processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.reconstruct.learned_rounding import Reconstruction
from edgeqwt.reconstruct.reconstruct import reconstruct
from tests.reconstruct.nets import FOUR, inputs, lowered, residual
from tests.reconstruct.test_reconstruct import judged

pytestmark = pytest.mark.requires("torch")

RULE = Reconstruction(scope="block", rounding="straight", iterations=30, batch=16, largest=1, drop=0.5, processes=1)


@pytest.fixture(scope="module")
def case() -> tuple[Graph, Graph]:
    graph = residual()
    return graph, lowered(graph, inputs(graph, 48))


@pytest.mark.parametrize("rounding", ["straight", "progressive"])
def test_any_number_of_processes_gives_the_same_bytes(case: tuple[Graph, Graph], rounding: str) -> None:
    graph, start = case
    rule = replace(RULE, rounding=rounding)
    found = [reconstruct(start, graph, inputs(graph, 48), replace(rule, processes=n), FOUR) for n in (1, 2)]
    first, second = (flatbuffer.to_bytes(one.graph) for one in found)
    assert first == second
    assert any(block.kept for block in found[0].blocks)


def test_blocks_that_learn_at_once_are_judged_and_help(case: tuple[Graph, Graph]) -> None:
    graph, start = case
    calls: list[tuple[int, int | None, str]] = []
    found = reconstruct(
        start, graph, inputs(graph, 48), RULE, FOUR,
        on_block=lambda done, total, layer="": calls.append((done, total, layer)),
    )  # fmt: skip
    assert len(found.blocks) == 3
    assert calls == [(1, 4, ""), (3, 4, ""), (4, 4, "")]
    for block in found.blocks:
        assert block.kept == (block.after < block.before)
    before, after = judged(graph, start, found.graph)
    assert after < before


def test_a_network_of_one_block_learns_what_it_learns_in_this_process(case: tuple[Graph, Graph]) -> None:
    # There is nothing before the only block: both ways have the same inputs.
    graph, start = case
    rule = replace(RULE, scope="network", iterations=5, drop=0.0)
    here, there = (reconstruct(start, graph, inputs(graph, 24), replace(rule, processes=n), FOUR).graph for n in (0, 1))
    for ours, theirs in zip(here.tensors, there.tensors, strict=True):
        if ours.data is not None and theirs.data is not None:
            np.testing.assert_array_equal(ours.data, theirs.data)
