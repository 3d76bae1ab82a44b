"""Inputs whose columns differ by orders of magnitude: one scale for all leaves the small ones nothing."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from edgeqwt.calibration.samples import Samples
from edgeqwt.graph.graph import Array

SAMPLES = 64
STEPS = 255
LEAST = 2.0
"""Standard deviation of a column, in steps of the input, below which it is hardly resolved: 17 dB of rounding noise."""
NAMED = 6


def column_warnings(samples: Samples, names: Collection[str]) -> tuple[str, ...]:
    """A sentence for each input some of whose columns vary by no more than its 8-bit steps.

    Args:
        samples: validated; the first few are read.
        names: inputs of 8 bits whose columns go in as they are. Columns are those of vectors and of sequences of them.
    """
    kept: dict[str, list[Array]] = {}
    for sample in samples.head(SAMPLES) if names else ():
        for name, array in sample.items():
            if name in names and array.ndim in (2, 3) and array.dtype.kind == "f" and array.shape[-1] > 1:
                kept.setdefault(name, []).append(array.reshape(-1, array.shape[-1]))
    return tuple(sentence for name, rows in kept.items() if (sentence := _of(name, rows)))


def _of(name: str, rows: list[Array]) -> str:
    if len({part.shape[1] for part in rows}) > 1:  # sequences along the last axis, of several lengths
        return ""
    values = np.concatenate(rows).astype(np.float64)
    step = (max(float(values.max()), 0.0) - min(float(values.min()), 0.0)) / STEPS
    spread = values.std(axis=0)
    lost = np.flatnonzero((spread > 0) & (spread < LEAST * step))
    largest = int(np.abs(values).max(axis=0).argmax())
    # A sequence along the last axis differs from place to place, not by orders of magnitude.
    if not lost.size or not spread[lost].min() * 10 < spread.max():
        return ""
    few = ", ".join(map(str, lost[:NAMED])) + (f" and {lost.size - NAMED} more" if lost.size > NAMED else "")
    which = f"column {few} varies" if lost.size == 1 else f"columns {few} vary"
    return (
        f"input {name!r}: {which} by less than {LEAST:g} of its steps of {step:.2g}, as column {largest} reaches "
        f"{np.abs(values[:, largest]).max():.3g}: try --standardize {name}, or 16 bits there (--input {name}=int16)"
    )
