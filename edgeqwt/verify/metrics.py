"""How close one tensor is to another, over any number of samples, in constant memory.

Sums of one sample are a value (`compare`); values are added (`Sums.plus`) in the order of the
samples, so that the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from edgeqwt.graph.fills import HUGE, fills_as_zero
from edgeqwt.graph.graph import Array
from edgeqwt.verify.spread import Spread, together

BLOCK = 1 << 15  # elements that are compared at a time: in float64 they stay in the processor's cache


@dataclass(frozen=True)
class Closeness:
    """How close a tensor under test is to its reference.

    Attributes:
        samples, elements: what was compared.
        sqnr_db: 10 log10(Σ reference² / Σ error²); inf when identical, nan when a value is not finite.
        cosine: of the two tensors, all samples taken as one vector; 1 when both are zero.
        rms_error: root mean square of the differences, in real units.
        max_abs: largest absolute difference, in real units.
        max_steps: the same in steps of the tested tensor's scale; None when it has none.
        top1: share of rows (last axis) whose largest element is the same one, the first one where
            several are equal; None when the last axis has no two elements. Of integers that are no
            quantized numbers, such as classes, the share of equal ones.
        varying_db: the same as sqnr_db, of the part that varies between samples: the reference's mean over
            samples is taken from each of its elements, and the whole error is held against what remains, which
            counts n / (n − 1) times with n samples, as in a variance. None
            where nothing varies (one sample, or all references equal) or where it was not asked for.
        rows: how many rows `top1` is of.
        clear_rows, clear_top1: the same without rows whose two largest reference elements lie less than a step of
            the tested tensor apart: no integers of that scale can tell which of them is larger.
    """

    samples: int
    elements: int
    sqnr_db: float
    cosine: float
    rms_error: float
    max_abs: float
    max_steps: float | None
    top1: float | None
    varying_db: float | None = None
    rows: int = 0
    clear_rows: int = 0
    clear_top1: float | None = None

    @property
    def judged_db(self) -> float:
        """SQNR of what varies, or of the whole where nothing does."""
        return self.sqnr_db if self.varying_db is None else self.varying_db


@dataclass(frozen=True)
class Sums:
    """What `Closeness` is computed from, of some samples.

    Attributes:
        reference, test, product, error: Σ reference², Σ test², Σ reference·test, Σ (test − reference)².
        rows, agreeing: rows along the last axis, and those whose largest element agrees.
        clear, clear_agreeing: likewise, without ties (see `Closeness`).
        spread: of the reference over samples; None where it was not asked for.
        step: the tested tensor's scale, None without one.
    """

    samples: int = 0
    elements: int = 0
    reference: float = 0.0
    test: float = 0.0
    product: float = 0.0
    error: float = 0.0
    max_abs: float = 0.0
    rows: int = 0
    agreeing: int = 0
    step: float | None = None
    clear: int = 0
    clear_agreeing: int = 0
    spread: Spread | None = None

    def plus(self, other: Sums) -> Sums:
        """Both parts together; float sums depend on the order, so add parts in the order of the samples."""
        return Sums(
            samples=self.samples + other.samples,
            elements=self.elements + other.elements,
            reference=self.reference + other.reference,
            test=self.test + other.test,
            product=self.product + other.product,
            error=self.error + other.error,
            max_abs=float(np.maximum(self.max_abs, other.max_abs)),  # keeps NaN, unlike max()
            rows=self.rows + other.rows,
            agreeing=self.agreeing + other.agreeing,
            clear=self.clear + other.clear,
            clear_agreeing=self.clear_agreeing + other.clear_agreeing,
            spread=together(self.spread, other.spread),
            step=other.step if self.step is None else self.step,
        )

    def result(self) -> Closeness:
        """The metrics of these samples."""
        return Closeness(
            samples=self.samples,
            elements=self.elements,
            sqnr_db=_decibels(self.reference, self.error),
            cosine=_cosine(self.reference, self.test, self.product),
            rms_error=math.sqrt(self.error / max(1, self.elements)),
            max_abs=self.max_abs,
            max_steps=None if self.step is None else self.max_abs / self.step,
            top1=self.agreeing / self.rows if self.rows else None,
            varying_db=self._varying(),
            rows=self.rows,
            clear_rows=self.clear,
            clear_top1=self.clear_agreeing / self.clear if self.clear else None,
        )

    def _varying(self) -> float | None:
        if self.spread is None or self.spread.squares == 0:
            return None
        return _decibels(self.spread.varying, self.error)


def compare(
    reference: Array,
    test: Array,
    step: float | None = None,
    *,
    varying: bool = False,
    rows: bool = True,
    stacked: bool = False,
    real: Callable[[Array], Array] = np.asarray,
) -> Sums:
    """One sample's sums, or those of several together.

    Args:
        reference: real values; where they are fills (`graph.fills`), nothing is compared.
        test: real values of the same shape, or what `real` makes them of.
        step: the scale of the tested tensor's integers, where it has them.
        varying: also what `varying_db` needs; the sums then hold an array of the tensor's size.
        rows: also which elements of rows are the largest; of tensors in a network's middle nobody asks.
        stacked: both are several samples' values, along the first axis.
        real: makes real values of some elements of `test`, whatever their place.
    """
    wanted, found, elements, filled = reference.ravel(), test.ravel(), 0, False
    sums, largest = np.zeros(4), np.float64(0)
    with np.errstate(all="ignore"):
        for start in range(0, wanted.size, BLOCK):
            r = wanted[start : start + BLOCK].astype(np.float64)
            t = real(found[start : start + BLOCK]).astype(np.float64)
            if not (r.min() > -HUGE and r.max() < HUGE):
                filled, shown = True, ~(np.abs(r) >= HUGE)  # NaN is compared
                r, t = r[shown], t[shown]
            error = t - r
            sums += _dot(r, r), _dot(t, t), _dot(r, t), _dot(error, error)
            largest = np.maximum(largest, np.abs(error, out=error).max(initial=0.0))  # keeps NaN
            elements += r.size
        return Sums(
            samples=len(reference) if stacked else 1,
            elements=elements,
            reference=float(sums[0]),
            test=float(sums[1]),
            product=float(sums[2]),
            error=float(sums[3]),
            max_abs=float(largest),
            **(_agreement(reference, real(test), step) if rows else {}),
            spread=_spread(fills_as_zero(reference) if filled else reference, stacked) if varying else None,
            step=step,
        )


def _spread(values: Array, stacked: bool) -> Spread:
    return reduce(Spread.plus, (Spread(1, value) for value in values)) if stacked else Spread(1, values)


def _dot(a: Array, b: Array) -> float:
    # Not a @ b: BLAS starts threads of its own, which fight with ours and make the sum depend on their number.
    return float(np.einsum("i,i->", a, b))


def _agreement(reference: Array, test: Array, step: float | None) -> dict[str, int]:
    if reference.size and reference.dtype.kind in "biu":
        counts = {"rows": reference.size, "agreeing": int((reference == test).sum())}
        return {**counts, "clear": counts["rows"], "clear_agreeing": counts["agreeing"]}
    if reference.ndim == 0 or reference.shape[-1] < 2 or reference.size == 0:
        return {"rows": 0, "agreeing": 0}
    largest = reference.argmax(axis=-1)[..., None]
    same = largest[..., 0] == test.argmax(axis=-1)
    others = reference.copy()
    np.put_along_axis(others, largest, np.array(-np.inf, reference.dtype), axis=-1)
    with np.errstate(invalid="ignore"):
        margin = np.take_along_axis(reference, largest, axis=-1)[..., 0] - others.max(axis=-1)
    clear = margin >= (step or 0.0)
    return {
        "rows": int(same.size),
        "agreeing": int(same.sum()),
        "clear": int(clear.sum()),
        "clear_agreeing": int((same & clear).sum()),
    }


def _decibels(signal: float, noise: float) -> float:
    if math.isnan(signal) or not math.isfinite(noise):
        return math.nan
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _cosine(reference: float, test: float, product: float) -> float:
    if reference == 0 and test == 0:
        return 1.0
    norm = math.sqrt(reference) * math.sqrt(test)
    return product / norm if norm > 0 or math.isnan(norm) else 0.0
