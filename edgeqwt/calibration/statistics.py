"""What calibration remembers of one tensor: extremes and a histogram, whatever the number of samples.

The histogram's bins cover [-reach, reach) with `reach` a power of two that doubles, merging
bins pairwise, when a value falls outside. Histograms of the same tensor therefore merge
exactly and in any order, so the result does not depend on the number of threads. Samples are counted in
folds, by turns: what is chosen on all folds but one can be judged by that one. What is known without samples, such as
constants, is counted beside them.
Exact zeros are counted apart: zero is always representable, so it costs no error, and after
a ReLU it is half of all values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

BINS = 8192  # at 8 bits, a used half keeps at least 2048 bins: eight per quantization step
FOLDS = 4  # of the samples


@dataclass
class Statistics:
    """Streaming statistics of one tensor.

    Attributes:
        low, high: smallest and largest value seen.
        reach: the histogram covers [-reach, reach).
        folds: int64, shape (FOLDS + 1, BINS), values other than exact zeros, the last row those of no sample; float64,
            their weights, where they have some.
        zeros: number of exact zeros.
        seen: number of other values that samples had, whatever they weigh.
    """

    low: float = np.inf
    high: float = -np.inf
    reach: float = 2.0**-20
    folds: Array | None = None
    zeros: int = 0
    seen: int = 0

    @property
    def counts(self) -> Array | None:
        """Of all folds and of no sample, shape (BINS,)."""
        return None if self.folds is None else np.asarray(self.folds.sum(axis=0))

    def add(self, values: Array, weights: Array | None = None, sample: int | None = None) -> None:
        """Takes in one sample's values.

        Args:
            values: of any shape.
            weights: how much each counts, of the same shape; 1 without any.
            sample: its number, which says to which fold it belongs; None for what no sample decides.

        Raises:
            InputError: a value is NaN or infinite.
        """
        if not values.size:
            return
        flat, index = self._bins(values)
        nonzero = flat != 0
        other = np.count_nonzero(nonzero)  # of floats themselves it would take ten times as long
        found = np.bincount(index, None if weights is None else weights.reshape(-1) * nonzero, minlength=BINS)
        if weights is None:  # to leave zeros out before would cost more than all the rest
            found[BINS // 2] -= flat.size - other
        self._count(FOLDS if sample is None else sample % FOLDS, found, flat.size - other)
        self.seen += 0 if sample is None else other

    def add_samples(self, values: Array, first: int) -> None:
        """Takes in consecutive samples, as `add` does one by one: large arrays keep more than one thread busy.

        Args:
            values: shape (samples, ...).
            first: number of the first sample.

        Raises:
            InputError: a value is NaN or infinite.
        """
        if not values.size:
            return
        flat, index = self._bins(values)
        folds = (first + np.arange(len(values))) % FOLDS
        by_sample = index.reshape(len(values), -1)
        by_sample += (folds * BINS)[:, None]
        found = np.bincount(index, minlength=(FOLDS + 1) * BINS).reshape(FOLDS + 1, BINS)
        others = np.count_nonzero((flat != 0).reshape(by_sample.shape), axis=1)
        zeros = by_sample.shape[1] - others
        np.subtract.at(found[:, BINS // 2], folds, zeros)
        self._count(slice(None), found, int(zeros.sum()))
        self.seen += int(others.sum())

    def _bins(self, values: Array) -> tuple[Array, Array]:
        """The values in a row, and the number of the bin of each, after the histogram covers them."""
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError("a value is NaN or infinite", "Check the weights and the calibration samples.")
        self.low, self.high = min(self.low, low), max(self.high, high)
        # Strictly: a value at the end itself would have no bin.
        self._cover(max(-low, high), strictly=True)
        flat = values.reshape(-1)
        # reach and BINS are powers of two, so this scaling is exact in float32, and so is floor; adding
        # BINS / 2 before it would round values into the next bin, depending on the reach.
        place = flat * np.float32(BINS / 2 / self.reach)
        index = np.floor(place, out=place).astype(np.intp)
        index += BINS // 2
        return flat, index

    def _count(self, rows: int | slice, found: Array, zeros: int) -> None:
        assert self.folds is not None
        if found.dtype != self.folds.dtype:
            self.folds = self.folds.astype(np.float64)
        self.folds[rows] += found
        self.zeros += zeros

    def merge(self, other: Statistics) -> None:
        """Takes in another part's statistics of the same tensor."""
        if other.folds is None:
            return
        self._cover(other.reach)
        wider = other.folds_within(self.reach)
        assert self.folds is not None
        self.folds = self.folds + wider
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.zeros += other.zeros
        self.seen += other.seen

    def centers(self) -> Array:
        """The bins' middle values, float64, shape (BINS,)."""
        return (np.arange(BINS) + 0.5 - BINS / 2) * (2 * self.reach / BINS)

    def folds_within(self, reach: float) -> Array:
        """The folds' counts of bins that cover [-reach, reach), a power of two and at least the own reach."""
        wider = replace(self)
        wider._cover(reach)
        assert wider.folds is not None
        return wider.folds

    def pooled(self) -> Statistics:
        """The same with samples no longer distinguished."""
        return self if self.counts is None else self.weighed(self.reach, self.counts)

    def weighed(self, reach: float, counts: Array) -> Statistics:
        """The same with other counts, shape (BINS,), that cover [-reach, reach), without folds of samples."""
        return replace(self, reach=reach, folds=np.pad(counts[None], ((FOLDS, 0), (0, 0))))

    def _cover(self, magnitude: float, strictly: bool = False) -> None:
        rows = FOLDS + 1
        while self.reach < magnitude or (strictly and self.reach == magnitude):
            self.reach *= 2
            if self.folds is not None:
                merged = self.folds.reshape(rows, -1, 2).sum(axis=2)
                self.folds = np.pad(merged, ((0, 0), (BINS // 4, BINS // 4)))
        if self.folds is None:
            self.folds = np.zeros((rows, BINS), np.int64)
