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

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import batched

import numpy as np

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array
from edgeqwt.graph.positions import every, some

BINS = 8192  # at 8 bits, a used half keeps at least 2048 bins: eight per quantization step
FOLDS = 4  # of the samples
COUNTED = 1 << 12
"""Values of a sample that the histogram counts of each tensor, about: those of some positions, others for each sample.
Extremes are of all."""
BLOCK = 1 << 16  # values that are counted at a time: what becomes of them stays in the processor's cache


class _Buffers(threading.local):
    """What a block becomes on the way to its bins: new memory would cost each thread more than the arithmetic."""

    def __init__(self) -> None:
        self.of_block = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.intp)


_buffers = _Buffers()


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
        flat: Array = values.reshape(-1)
        if weights is not None:  # float sums: their order is not to depend on where blocks begin
            self._add(flat, sample, weights.reshape(-1))
            return
        if sample is not None:
            flat = self._counted(values, sample)
        for start in range(0, flat.size, BLOCK):
            self._add(flat[start : start + BLOCK], sample)

    def add_samples(self, samples: Sequence[Array], first: int) -> None:
        """Takes in consecutive samples, as `add` does one by one; small ones several at a time.

        Args:
            samples: of one size, of any shape.
            first: number of the first sample.

        Raises:
            InputError: a value is NaN or infinite.
        """
        counted = [self._counted(value, first + n) for n, value in enumerate(samples)]
        few = max(1, BLOCK // max(1, *(value.size for value in counted)))
        for k in range(min(FOLDS, len(counted))):
            for part in batched(counted[k::FOLDS], few):
                self.add(part[0] if len(part) == 1 else np.concatenate(part), sample=first + k)

    def _counted(self, values: Array, sample: int) -> Array:
        """Those of a sample's values that the histogram counts, flat; of all of them the extremes are taken in."""
        flat = values.reshape(-1)
        if flat.size <= COUNTED or values.ndim < 2:
            return flat
        self._extremes([flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK)])
        step = every(values.shape, COUNTED // values.shape[-1])
        taken = some(values, step, sample % step).reshape(-1)
        return taken if taken.any() else flat  # of hardly any values but zeros, none may be missed

    def _add(self, flat: Array, sample: int | None, weights: Array | None = None) -> None:
        """Takes in some of one sample's values, or of several samples of one fold."""
        if not flat.size:
            return
        self._extremes([flat])
        nonzero = flat != 0
        other = int(np.count_nonzero(nonzero))  # of floats themselves it would take ten times as long
        found = np.bincount(self._bins(flat), None if weights is None else weights * nonzero, minlength=BINS)
        if weights is None:  # to leave zeros out before would cost more than all the rest
            found[BINS // 2] -= flat.size - other
        assert self.folds is not None
        if found.dtype != self.folds.dtype:
            self.folds = self.folds.astype(np.float64)
        self.folds[FOLDS if sample is None else sample % FOLDS] += found
        self.zeros += flat.size - other
        self.seen += 0 if sample is None else other

    def _extremes(self, blocks: Sequence[Array]) -> None:
        """Takes in the extremes of some values."""
        found = np.array([(block.min(), block.max()) for block in blocks])  # of a block, while the cache has it
        low, high = float(found[:, 0].min()), float(found[:, 1].max())  # NaN stays
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError("a value is NaN or infinite", "Check the weights and the calibration samples.")
        self.low, self.high = min(self.low, low), max(self.high, high)
        # Strictly: a value at the end itself would have no bin.
        self._cover(max(-low, high), strictly=True)

    def _bins(self, flat: Array) -> Array:
        """The number of each value's bin, where the histogram covers them."""
        # reach and BINS are powers of two, so this scaling is exact in float32, and so is floor; adding
        # BINS / 2 before it would round values into the next bin, depending on the reach.
        scale = np.float32(BINS / 2 / self.reach)
        if flat.size > BLOCK or flat.dtype != np.float32:
            return np.floor(flat * scale).astype(np.intp) + BINS // 2
        place, steps, index = (buffer[: flat.size] for buffer in _buffers.of_block)
        np.multiply(flat, scale, out=place)
        np.floor(place, out=steps, casting="unsafe")
        steps += BINS // 2
        np.copyto(index, steps)
        return index

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
