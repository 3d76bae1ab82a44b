"""What one tensor of an integer graph looks like beside its reference: values on its grid, errors of its channels.

A histogram in units of the tensor's integers, and sums per channel: constant memory, whatever the number of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median_low

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.boundary import limits

BINS = 80  # of a histogram, over the integers' range and an eighth of it on either side
BESIDE = 8  # of them on either side
MOST_CHANNELS = 2048  # beyond which channels are not looked at one by one: their sums would outgrow what is summed


@dataclass(frozen=True)
class Trace:
    """One tensor's reference values and errors.

    Attributes:
        low, high: extremes of the reference.
        counts: of reference values in bins of equal width, BESIDE of them below the range of the tensor's integers and
            BESIDE above; the first and the last one hold what lies beyond, too. Empty for tensors without a grid.
        beyond: share of reference values that the integers do not reach.
        own_db: per channel (last axis), variance of the reference over the op's own squared error, in dB; nan where a
            channel is constant, infinite where it has no error. Empty where there are no channels, or too many.
        accumulated_db: the same of the graph that runs freely.
        used: per channel, how many of the grid's steps its values and zero take up. Empty where there are no channels,
            too many, or no grid.
    """

    low: float
    high: float
    counts: tuple[int, ...] = ()
    beyond: float = 0.0
    own_db: tuple[float, ...] = ()
    accumulated_db: tuple[float, ...] = ()
    used: tuple[float, ...] = ()

    @property
    def median_used(self) -> float | None:
        """What at least half of the channels that vary use at most, in steps; None where nobody knows."""
        varying = [steps for steps in self.used if steps > 0]
        return median_low(varying) if varying else None


@dataclass
class Tracing:
    """Sums of one tensor over samples, of which a Trace is made."""

    low: float = math.inf
    high: float = -math.inf
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    outside: int = 0
    values: int = 0
    rows: int = 0
    channels: Array | None = None  # Σ reference, Σ reference², Σ own error², Σ accumulated error²: (4, channels)
    extent: Array | None = None  # smallest and largest value of the reference and zero: (2, channels)
    gridded: bool = False
    step: float = 0.0

    def add(self, graph: Graph, t: int, wanted: Array, own: Array, free: Array, inside: Array) -> None:
        """Takes in one sample.

        Args:
            graph: under test.
            t: the tensor in it.
            wanted: the reference's values.
            own: what the op makes of the reference's values.
            free: what the graph under test makes that runs freely.
            inside: which of the reference's values the tensor's integers reach.
        """
        if not wanted.size:
            return
        self.low, self.high = min(self.low, float(wanted.min())), max(self.high, float(wanted.max()))
        self.values += wanted.size
        self.outside += wanted.size - int(inside.sum())
        self._count(graph, t, wanted)
        if not wanted.ndim or not 2 <= wanted.shape[-1] <= MOST_CHANNELS:
            return
        w, a, b = (x.reshape(-1, wanted.shape[-1]).astype(np.float64) for x in (wanted, own, free))
        with np.errstate(all="ignore"):
            found = np.stack([w.sum(0), np.square(w).sum(0), np.square(a - w).sum(0), np.square(b - w).sum(0)])
        self.channels = found if self.channels is None else self.channels + found
        self.rows += len(w)
        low, high = np.minimum(w.min(0), 0), np.maximum(w.max(0), 0)
        if self.extent is not None:
            low, high = np.minimum(self.extent[0], low), np.maximum(self.extent[1], high)
        self.extent = np.stack([low, high])

    def _count(self, graph: Graph, t: int, wanted: Array) -> None:
        q = graph.tensors[t].quantization
        if q is None or q.axis is not None or graph.tensors[t].is_float or not q.scale[0] > 0:
            return
        low, high = limits(graph.tensors[t].dtype)
        # Bins meet the ends of the grid, which reaches half a step beyond its first and its last integer.
        width = (high - low + 1) / (BINS - 2 * BESIDE)
        with np.errstate(all="ignore"):
            place = (wanted.ravel() / q.scale[0] + (q.zero_point[0] - low + 0.5)) / width + BESIDE
        index = np.clip(np.nan_to_num(np.floor(place)), 0, BINS - 1).astype(np.int64)
        self.counts = self.counts + np.bincount(index, minlength=BINS)
        self.gridded, self.step = True, float(q.scale[0])

    def result(self) -> Trace | None:
        """What was found; None without values."""
        if not self.values:
            return None
        counts = tuple(int(n) for n in self.counts) if self.gridded else ()
        own, free = ((), ()) if self.channels is None else (self._decibels(2), self._decibels(3))
        used = () if self.extent is None or not self.gridded else tuple(np.ptp(self.extent, axis=0) / self.step)
        return Trace(self.low, self.high, counts, self.outside / self.values, own, free, tuple(map(float, used)))

    def _decibels(self, errors: int) -> tuple[float, ...]:
        assert self.channels is not None
        first, second, noise = self.channels[0], self.channels[1], self.channels[errors]
        with np.errstate(all="ignore"):
            signal = np.maximum(second - np.square(first) / self.rows, 0)
            # What float64 leaves of the difference of two equal sums is no variance.
            signal = np.where(signal > 1e-12 * second, signal, np.nan)
            return tuple(float(db) for db in 10 * np.log10(signal / noise))
