"""Keeps the live activations of all samples on disk, so that memory does not grow with their number."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Hashable
from types import TracebackType

import numpy as np

from edgeqwt.graph.graph import Array


class Spool:
    """Fixed-size records by key and sample number, in one unlinked temporary file per key.

    Reads and writes of different records may run in parallel threads. The files vanish
    with the process, whatever ends it.
    """

    def __init__(self) -> None:
        self._files: dict[Hashable, int] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._files):
            self.drop(key)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._files

    def open(self, key: Hashable) -> None:
        """Makes room for a key; needed before the first `put`, so that threads need no lock."""
        with tempfile.TemporaryFile(prefix="edgeqwt-") as file:
            self._files[key] = os.dup(file.fileno())

    def put(self, key: Hashable, first: int, values: Array) -> None:
        """Stores the arrays of consecutive samples; all arrays of a key have one shape and type.

        Args:
            key: opened before.
            first: number of the first sample.
            values: shape (samples, *one sample's shape).
        """
        data = memoryview(np.ascontiguousarray(values)).cast("B")
        if os.pwrite(self._files[key], data, first * (len(data) // len(values))) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def get(self, key: Hashable, first: int, count: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """The arrays stored for consecutive samples, shape (count, *shape)."""
        size = math.prod(shape) * dtype.itemsize
        return np.frombuffer(os.pread(self._files[key], count * size, first * size), dtype).reshape(count, *shape)

    def drop(self, key: Hashable) -> None:
        """Forgets a key and frees its disk space."""
        os.close(self._files.pop(key))
