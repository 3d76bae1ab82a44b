"""Samples: a stream of model inputs that can be read again and again.

One sample is a mapping from input name to one array in the source model's own
layout, batch dimension included: for an image classifier exported as
`forward(x)` with x of shape (1, 3, 32, 32), `{"x": array of (1, 3, 32, 32)}`.

Nothing here holds all samples: `open` starts a fresh pass over the source each time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array
from edgeqwt.progress import Advance, counted

Sample = Mapping[str, Array]

HOLD_OUT_EVERY = 4  # one sample in so many is held out: it decides, and no correction is fitted on it
HELD_OUT = 1  # the first of them


@dataclass(frozen=True)
class InputSpec:
    """What a model expects of one input.

    Attributes:
        name: the input's name in the source model.
        shape: with the batch dimension; None where any size is accepted.
        dtype: a numpy type name, e.g. "float32" or "int64".
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Samples:
    """A re-readable stream of samples.

    Attributes:
        origin: what the user named (a path, "file.py:function", "arrays"), for messages.
        open: starts a fresh pass; every pass yields the same samples in the same order.
        count: number of samples where it is known without reading them.
    """

    origin: str
    open: Callable[[], Iterator[Sample]]
    count: int | None = None

    def __iter__(self) -> Iterator[Sample]:
        return self.open()

    def first(self) -> Sample:
        """The first sample.

        Raises:
            InputError: when there is none.
        """
        for sample in self:
            return sample
        raise InputError(f"{self.origin} has no samples", "Give at least one; 128 to 512 are a good number.")

    def head(self, limit: int) -> Samples:
        """At most the first `limit` samples."""
        limit = min(limit, sys.maxsize)  # more than that cannot be counted
        count = None if self.count is None else min(self.count, limit)
        return replace(self, open=lambda: islice(self.open(), limit), count=count)

    def shown(self, advance: Advance) -> Samples:
        """The same samples; each pass over them shows its progress."""
        return replace(self, open=lambda: counted(self.open(), advance, self.count))

    def map(self, change: Callable[[Sample], Sample]) -> Samples:
        """Each sample changed by a pure function, as it is read."""
        return replace(self, open=lambda: map(change, self.open()))


def split(samples: Samples, every: int = HOLD_OUT_EVERY) -> tuple[Samples, Samples]:
    """Samples to fit on and samples to judge by, interleaved: samples 1, 1 + every, 1 + 2·every, ... are held out.

    Streaming: each part reads the source and passes over the other part's samples. Sample 0 is always
    fitted on and sample 1 always held out, so both parts have samples as soon as there are two. With a
    single sample both parts are that sample, and their origins say so: nothing is held out then.

    Args:
        samples: any number; validated already, so that messages count them as their source does.
        every: one in so many is held out; at least 2.

    Raises:
        InputError: when there are no samples or `every` is below 2.
    """
    if every < 2:
        raise InputError(f"one in {every} samples cannot be held out", "Hold out one in 2 or more.")
    count = samples.count
    enough = sum(1 for _ in samples.head(2)) if count is None else count
    if enough == 0:
        raise InputError(f"{samples.origin} has no samples", "Give at least one; 128 to 512 are a good number.")
    if enough == 1:
        same = replace(samples, origin=f"{samples.origin} (one sample, none held out)")
        return same, same
    held = None if count is None else len(range(HELD_OUT, count, every))
    fit = None if count is None or held is None else count - held

    def fitted() -> Iterator[Sample]:
        return (sample for i, sample in enumerate(samples) if i % every != HELD_OUT)

    def held_out() -> Iterator[Sample]:
        return islice(samples.open(), HELD_OUT, None, every)

    return replace(samples, open=fitted, count=fit), replace(samples, open=held_out, count=held)


def turned(samples: Samples, by: int) -> Samples:
    """The samples from the one with a number on, and then those before it; past the last they are counted on."""
    count = sum(1 for _ in samples) if samples.count is None else samples.count

    def opened() -> Iterator[Sample]:
        return chain(islice(samples.open(), by % count, None), islice(samples.open(), by % count))

    return replace(samples, open=opened)


def roles(numbers: Sequence[int] | range, count: int) -> tuple[Array, Array]:
    """Which samples of a stream are fitted on, and which are held out, as `split` parts them.

    A single sample can only be fitted and judged on alike.

    Args:
        numbers: of some samples in the stream, from 0.
        count: number of all.

    Returns:
        Two bool arrays, shape (numbers,).
    """
    held_out = np.asarray(numbers, dtype=np.int64) % HOLD_OUT_EVERY == HELD_OUT
    return (~held_out, held_out) if count > 1 else (~held_out, ~held_out)
