"""Keeps the live activations of all samples on disk, so that memory does not grow with their number."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from types import TracebackType

import numpy as np

from edgeqwt.disk import temporary_file
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

SPARE = 4
"""Files that are kept for the next keys: to write over pages that are there takes a third of what new ones take."""
LARGEST_SPARE = 1 << 27
"""Bytes of such a file at most: small records that take it over leave it as large as it is."""


class ActivationStore:
    """Fixed-size records by key and sample number, in one unlinked temporary file per key.

    Reads and writes of different records may run in parallel threads. The files have no
    name, so they vanish with the process, whatever ends it.
    """

    def __init__(self) -> None:
        self._files: dict[Hashable, int] = {}
        self._spare: list[int] = []

    def __enter__(self) -> ActivationStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (*self._files.values(), *self._spare):
            os.close(file)
        self._files, self._spare = {}, []

    def __contains__(self, key: Hashable) -> bool:
        return key in self._files

    def open(self, key: Hashable) -> None:
        """Opens a key; needed before the first `put`, so that threads need no lock.

        Raises:
            InputError: the temporary folder cannot be written to.
        """
        if self._spare:
            self._files[key] = self._spare.pop()
            return
        with _disk(), temporary_file() as file:
            self._files[key] = os.dup(file.fileno())

    def put(self, key: Hashable, first: int, values: Array) -> None:
        """Stores the arrays of consecutive samples; all arrays of a key have one shape and type.

        Args:
            key: opened before.
            first: number of the first sample.
            values: shape (samples, *one sample's shape).

        Raises:
            InputError: the disk is full.
        """
        data = memoryview(np.ascontiguousarray(values).reshape(-1)).cast("B")
        position = first * (len(data) // len(values))
        with _disk():
            while data:  # a write may be cut short, above 2 GiB or where the disk ends
                written = os.pwrite(self._files[key], data, position)
                data, position = data[written:], position + written

    def get(self, key: Hashable, first: int, count: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """The arrays stored for consecutive samples, shape (count, *shape)."""
        size = math.prod(shape) * dtype.itemsize
        return np.frombuffer(os.pread(self._files[key], count * size, first * size), dtype).reshape(count, *shape)

    def drop(self, key: Hashable) -> None:
        """Forgets a key; the next one takes over its disk space, or it is freed where it is large."""
        file = self._files.pop(key)
        if len(self._spare) < SPARE and os.fstat(file).st_size <= LARGEST_SPARE:
            self._spare.append(file)
        else:
            os.close(file)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"activations cannot be kept in {tempfile.gettempdir()}: {error.strerror}",
            "Name a folder with more free space in the environment variable TMPDIR, or use fewer calibration samples.",
        ) from None
