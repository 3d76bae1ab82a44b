"""Samples of one batch size, whatever the loader's: a file takes batches of one size, usually 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.errors import InputError


def rebatched(samples: Samples, size: int) -> Samples:
    """The samples, cut along the first axis and joined again so that each has `size` rows.

    Samples whose arrays differ in their first axis pass as they are: it is no batch dimension then (a recurrent
    state of shape (layers, batch, features) beside an input of (batch, features)). Rows left over at the end are
    dropped.

    Args:
        samples: of any source.
        size: rows of each sample.

    Raises:
        InputError: the size is no positive number; while reading, when there are fewer rows than it.
    """
    if size < 1:
        raise InputError(f"a batch of {size} is no batch", "Give 1 or more.")

    def read() -> Iterator[Sample]:
        waiting: list[Sample] = []
        found = 0
        for sample in samples:
            rows = _rows(sample)
            if rows is None or (rows == size and not waiting):
                found += 1
                yield sample
                continue
            for i in range(rows):
                waiting.append({name: array[i : i + 1] for name, array in sample.items()})
                if len(waiting) == size:
                    found += 1
                    yield {name: np.concatenate([row[name] for row in waiting]) for name in waiting[0]}
                    waiting = []
        if found == 0 and waiting:
            raise InputError(
                f"{samples.origin} has {len(waiting)} rows, too few for a batch of {size}",
                "Give more samples, or a smaller --batch-size.",
            )

    single = samples.count is not None and size == 1  # arrays and images come row by row
    return replace(samples, open=read, count=samples.count if single else None)


def _rows(sample: Sample) -> int | None:
    """How many rows all arrays of a sample have; None where they do not have the same number."""
    sizes = {array.shape[0] if array.ndim else None for array in sample.values()}
    return sizes.pop() if len(sizes) == 1 else None
