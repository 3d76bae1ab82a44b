"""Channels are centered where their steps shrink and held-out samples do not lose."""

from __future__ import annotations

import numpy as np

from edgeqwt.graph.graph import Graph
from edgeqwt.techniques.channel_shift import ChannelShift
from tests.chain import Chain, noise
from tests.equalize.test_shifts import DENSE
from tests.techniques.test_regions16 import begin, work_on

EVEN = np.random.default_rng(3).uniform(-1, 1, (128, 8)).astype(np.float32)  # no tails that searched ranges clip
FAR = np.array([40.0, -20.0, 10.0, 0.0], np.float32)


def far_apart(offset: float) -> Graph:
    """x (1, 8) -> 4 channels, each around a value of its own -> (1, 3)."""
    chain = Chain()
    x = chain.input((1, 8))
    y = chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 8)), chain.constant(offset * FAR), **DENSE)
    return chain.graph(chain.op("FULLY_CONNECTED", y, chain.constant(noise(3, 4, seed=1)), -1, **DENSE))


def test_steps_shrink_by_the_distance_of_channels() -> None:
    work = work_on(far_apart(1.0), EVEN)
    before = begin(work)
    after, account = ChannelShift().apply(before, work)
    assert account.kept
    (row,) = account.data["groups"]
    # Channels vary by some 10, and lie up to 60 apart.
    assert 5 < row["shrunk"] < 12
    # 20 log10 of that would be 14 dB and more; inputs, weights and outputs are rounded as before.
    assert account.data["gain_db"] > 3
    assert "1 of 1 groups of tensors centered" in account.sentences[0]
    assert after.graph is not before.graph
    assert [op.kind for op in after.graph.ops] == [op.kind for op in before.graph.ops]


def test_nothing_is_shifted_where_steps_stay_or_samples_lose() -> None:
    work = work_on(far_apart(0.0), EVEN)
    before = begin(work)
    after, account = ChannelShift().apply(before, work)
    assert after is before
    assert account.sentences[0].startswith("no channel is shifted: steps shrink 1.")
    work = work_on(far_apart(1.0), EVEN)
    before = begin(work)
    after, account = ChannelShift(min_gain=100).apply(before, work)
    assert after is before
    assert account.sentences[0].endswith("dB on held-out samples")
    chain = Chain()
    x = chain.input((1, 8))
    alone = chain.graph(chain.op("FULLY_CONNECTED", x, chain.constant(noise(3, 8)), -1, **DENSE))
    work = work_on(alone, noise(16, 8))
    assert not ChannelShift().apply(begin(work), work)[1].sentences
