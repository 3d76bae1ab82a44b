"""Inputs whose columns differ by orders of magnitude: one scale for all leaves the small ones nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from edgeqwt.calibration.samples import Samples
from edgeqwt.graph.graph import Array

SAMPLES = 64
STEPS = 255
LEAST = 2.0
"""Standard deviation of a column, in steps of the input, below which it is hardly resolved: 17 dB of rounding noise."""
NAMED = 6
UNLIKE = 10.0
"""By how much more the columns along one axis have to differ in size than those along the last one, to be meant."""


def unlike_columns(samples: Samples, names: Collection[str]) -> dict[str, str]:
    """What is found for each input some of whose columns vary by no more than its 8-bit steps, by its name.

    Args:
        samples: validated; the first few are read.
        names: inputs of 8 bits whose columns go in as they are. Columns are those of vectors and of sequences of them.
    """
    kept: dict[str, list[Array]] = {}
    for sample in samples.head(SAMPLES) if names else ():
        for name, array in sample.items():
            if name in names and array.ndim in (2, 3) and array.dtype.kind == "f" and array.shape[-1] > 1:
                kept.setdefault(name, []).append(array)
    return {name: sentence for name, arrays in kept.items() if (sentence := _of(name, arrays))}


def column_axis(arrays: Sequence[Array]) -> int:
    """The axis along which the columns of vectors, or of sequences of them, lie: -1, or -2 of three axes.

    A sequence differs from place to place, not by orders of magnitude; quantities of their own units do.

    Args:
        arrays: samples of one input, with the batch axis in front.
    """

    def differ(axis: int) -> float:
        if len({array.shape[axis] for array in arrays}) > 1:  # sequences of several lengths
            return 0.0
        sizes = np.abs(as_rows(arrays, axis)).max(axis=0)
        sizes = sizes[sizes > 0].tolist()
        return float(max(sizes) / min(sizes)) if sizes else 0.0

    if not all(array.ndim == 3 and array.size for array in arrays):
        return -1
    return -2 if differ(-2) > UNLIKE * max(differ(-1), 1.0) else -1


def as_rows(arrays: Sequence[Array], axis: int) -> Array:
    """All columns of some samples side by side: float64, shape (rows, columns)."""
    moved = [np.moveaxis(array, axis, -1) for array in arrays]
    rows: Array = np.concatenate([array.reshape(-1, array.shape[-1]) for array in moved]).astype(np.float64)
    return rows


def _of(name: str, arrays: list[Array]) -> str:
    axis = column_axis(arrays)
    if len({array.shape[axis] for array in arrays}) > 1:  # sequences along the last axis, of several lengths
        return ""
    values = as_rows(arrays, axis)
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
        f"{np.abs(values[:, largest]).max():.3g}"
    )
