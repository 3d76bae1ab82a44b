"""Labels beside samples, from a file of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeqwt.calibration.arrays import CORRUPT
from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array
from edgeqwt.regular_files import regular

LABELS = "labels"


def labelled(samples: Samples, path: Path) -> Samples:
    """The samples with `labels` of a .npy or .npz file, one row for each sample.

    Raises:
        InputError: the file cannot be read, or, while reading, has another number of rows than there are samples.
    """
    labels = _read(path)

    def read() -> Iterator[Sample]:
        index = -1
        for index, sample in enumerate(samples):
            if index >= len(labels):
                raise InputError(f"{path} has {len(labels)} labels, and there are more samples", "Give one for each.")
            yield {**sample, LABELS: labels[index : index + 1]}
        if index + 1 < len(labels) and samples.count is None:
            raise InputError(f"{path} has {len(labels)} labels for {index + 1} samples", "Give one for each.")

    if samples.count is not None and samples.count > len(labels):
        raise InputError(f"{path} has {len(labels)} labels for {samples.count} samples", "Give one for each.")
    return replace(samples, open=read)


def _read(path: Path) -> Array:
    try:
        found: Any = np.load(regular(path), allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            names = [LABELS] if LABELS in found.files else found.files
            if len(names) != 1:
                raise InputError(f"{path} has several arrays and none named {LABELS!r}", f"Name one {LABELS!r}.")
            found = found[names[0]]
    except (OSError, *CORRUPT) as error:
        raise InputError(f"labels {path} cannot be read: {error}", "Give a .npy or .npz file of integers.") from None
    array: Array = np.asarray(found)
    if array.ndim == 0 or array.dtype.kind not in "iu":
        raise InputError(
            f"labels {path} are {array.dtype} of shape {array.shape}", "Give integers, one row per sample."
        )
    return array
