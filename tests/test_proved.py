"""From a converted model to a proved one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt import proved
from edgeqwt.errors import ParityError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import work
from edgeqwt.proved import parity_count
from tests.chain import NONE, Chain, noise
from tests.compensation.nets import conv

DENSE = {"weightsFormat": "DEFAULT", "keepNumDims": True, **NONE}
TOKENS, WIDTH = (1, 6, 8), 8


def attention(spelling: str, large: float) -> Graph:
    """One head, with a mask of queries and keys; ones hide."""
    chain, shape = Chain(), (1, 6, 6)
    x, mask = chain.input(TOKENS, "x"), chain.input(shape, "mask", "int32")
    q, k, v = (
        chain.op("FULLY_CONNECTED", x, chain.constant(noise(8, 8, seed=s)), -1, shape=TOKENS, **DENSE) for s in range(3)
    )
    scores = chain.op("BATCH_MATMUL", q, k, shape=shape, adjX=False, adjY=True)
    scores = chain.op("MUL", scores, chain.constant(0.1), shape=shape, **NONE)
    if spelling == "added":
        used = chain.op("CAST", mask, shape=shape, inDataType="INT32", outDataType="FLOAT32")
        scores = chain.op("ADD", scores, chain.op("MUL", used, chain.constant(large), shape=shape, **NONE),
                          shape=shape, **NONE)  # fmt: skip
    else:
        where = chain.op("GREATER", mask, chain.constant(np.int32(0)), shape=shape, dtype="bool")
        scores = chain.op("SELECT_V2", where, chain.constant(np.array([large])), scores, shape=shape)
    shares = chain.op("SOFTMAX", scores, shape=shape, beta=1.0)
    mixed = chain.op("BATCH_MATMUL", shares, v, shape=TOKENS, adjX=False, adjY=False)
    return chain.graph(chain.op("FULLY_CONNECTED", mixed, chain.constant(noise(4, 8, seed=5)), -1, shape=(1, 6, 4),
                                name="y", **DENSE))  # fmt: skip


def padded(folder: Path, graph: Graph) -> tuple[Path, Path]:
    """Sequences of 3 to 6 tokens: what is padding neither asks nor answers."""
    rng = np.random.default_rng(0)
    masks = np.zeros((24, 6, 6), np.int32)
    for mask, length in zip(masks, rng.integers(3, 7, len(masks)), strict=True):
        mask[length:] = mask[:, length:] = 1
    flatbuffer.write(graph, folder / "net.tflite")
    np.savez(folder / "samples.npz", x=rng.standard_normal((24, 6, 8)).astype(np.float32), mask=masks)
    return folder / "net.tflite", folder / "samples.npz"


@pytest.mark.parametrize("spelling", ["added", "chosen"])
def test_rows_that_a_mask_hides_altogether_come_out_as_in_the_source(tmp_path: Path, spelling: str) -> None:
    model, samples = padded(tmp_path, attention(spelling, -1e9))
    result = edgeqwt.build(model, calibration=samples, recipe="fast")
    # What is poor starts at 20 dB; the scores' own shares in hidden rows would not even pass parity.
    assert result.quality[result.choice.name].worst_db > 20
    assert any("hide whole rows" in sentence for sentence in result.prepared.changes) == (spelling == "added")


def test_infinity_makes_nan_of_them_and_the_message_says_so(tmp_path: Path) -> None:
    model, samples = padded(tmp_path, attention("chosen", -np.inf))
    with pytest.raises(ParityError, match="is NaN on sample") as caught:
        edgeqwt.build(model, calibration=samples, recipe="fast")
    assert "-infinity that hides a whole row" in caught.value.hint


def test_networks_that_multiply_much_are_held_against_their_source_on_fewer_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain = Chain()
    graph = chain.graph(conv(chain, chain.input((1, 6, 6, 4)), 4, 1))
    assert parity_count(graph, 16) == 16
    monkeypatch.setattr(proved, "PARITY_WORK", 7 * work(graph))
    assert [parity_count(graph, wanted) for wanted in (1, 4, 16)] == [1, 4, 7]
    monkeypatch.setattr(proved, "PARITY_WORK", 0)
    assert [parity_count(graph, wanted) for wanted in (2, 16)] == [2, 4]
