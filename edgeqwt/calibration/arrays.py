"""Samples from arrays with a leading sample axis: in memory, .npy files, .npz archives.

Files are streamed: a sample is read when it is asked for, and nothing else is kept, so memory does not
grow with the number of samples. A .npy file is not memory-mapped either, because mapped pages count as
the process's memory.
"""

from __future__ import annotations

import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array
from edgeqwt.regular_files import regular

NAMELESS = ""
"""The name under which a source without input names yields its array; see `validate.named`."""

try:
    from lzma import LZMAError
except ImportError:  # a Python without it; zipfile then knows no such members either
    LZMAError = zlib.error  # type: ignore[misc,assignment]

_KINDS = "biuf"
CORRUPT = (
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    struct.error,
    EOFError,
    ValueError,
    SyntaxError,
    tokenize.TokenError,
    NotImplementedError,  # a compression method that zipfile does not know
    RuntimeError,  # an encrypted member
    RecursionError,  # a header of brackets
    MemoryError,
    TypeError,  # a shape of something else than numbers
    OverflowError,
    SystemError,  # Python's tokenizer, where a header has a byte of zero
)
LARGEST_SAMPLE = 1 << 29
"""Bytes of one sample of one input: a file says how large it is before there is anything to read."""


@dataclass(frozen=True)
class Header:
    """What a .npy header says.

    Attributes:
        shape: with the leading sample axis.
        dtype: as stored, byte order included.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample, batch dimension 1 included."""
        return (1, *self.shape[1:])


def from_arrays(arrays: Mapping[str, Array], origin: str = "arrays") -> Samples:
    """Samples from arrays in memory.

    Args:
        arrays: input name to an array of shape (samples, ...).
        origin: for messages.

    Raises:
        InputError: when there is none, one has no sample axis or an unusable type, or their lengths differ.
    """
    held = {name: np.asarray(array) for name, array in arrays.items()}
    count = _common_count({name: Header(a.shape, a.dtype) for name, a in held.items()}, origin)

    def read() -> Iterator[Sample]:
        for i in range(count):
            # Copies: a model that works in place would change the user's arrays, and the next pass with them.
            yield {name: np.array(array[i : i + 1], order="C") for name, array in held.items()}

    return Samples(origin, read, count)


def from_npy(path: Path) -> Samples:
    """Samples from a .npy file of shape (samples, ...), for a model with one input.

    Raises:
        InputError: when the file is missing, no .npy file, truncated, or cannot be streamed.
    """
    origin = str(path)
    with _file_errors(origin), regular(path).open("rb") as file:
        header = _read_header(file, path.stat().st_size, origin)
    count = _common_count({NAMELESS: header}, origin)

    def read() -> Iterator[Sample]:
        with _file_errors(origin), regular(path).open("rb") as file:
            current = _read_header(file, path.stat().st_size, origin)
            _same_headers({NAMELESS: header}, {NAMELESS: current}, origin)
            for _ in range(count):
                yield {NAMELESS: _read_sample(file, header)}

    return Samples(origin, read, count)


def from_npz(path: Path) -> Samples:
    """Samples from a .npz archive, stored or compressed: one array of shape (samples, ...) per input name.

    Raises:
        InputError: when the file is missing, no archive of arrays, truncated or corrupt, when an array
            cannot be streamed, or when the arrays' lengths differ.
    """
    origin = str(path)
    with _file_errors(origin), ExitStack() as stack:
        headers = {name: header for name, (_, header) in _open_members(path, stack).items()}
    count = _common_count(headers, origin)

    def read() -> Iterator[Sample]:
        with _file_errors(origin), ExitStack() as stack:
            members = _open_members(path, stack)
            _same_headers(headers, {name: header for name, (_, header) in members.items()}, origin)
            for _ in range(count):
                yield {name: _read_sample(file, header) for name, (file, header) in members.items()}
            for file, _ in members.values():
                file.read(1)  # reaches the end of the member, where zipfile compares the checksum

    return Samples(origin, read, count)


def _open_members(path: Path, stack: ExitStack) -> dict[str, tuple[IO[bytes], Header]]:
    archive = stack.enter_context(zipfile.ZipFile(regular(path)))
    members: dict[str, tuple[IO[bytes], Header]] = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            raise InputError(
                f"{path} holds {info.filename!r}, which is not an array", "Make it with np.savez(path, name=array)."
            )
        name = info.filename.removesuffix(".npy")
        file = stack.enter_context(archive.open(info))
        members[name] = file, _read_header(file, info.file_size, f"array {name!r} of {path}")
    return members


def _read_header(file: IO[bytes], size: int, where: str) -> Header:
    """Reads a .npy header and leaves the file at the first element.

    Args:
        file: at its start.
        size: of the whole .npy file, in bytes.
        where: for messages.
    """
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{where} is a .npy of version {version}", "Save it as a plain array of numbers.")
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings(action="ignore"):  # of Python's syntax: a header is parsed as an expression
        shape, fortran, dtype = parse(file)  # type: ignore[no-untyped-call]
    if dtype.hasobject:
        raise InputError(f"{where} holds pickled Python objects", "Save numbers, with a dtype such as float32.")
    if fortran:
        raise InputError(
            f"{where} is in Fortran order and cannot be read sample by sample", "Save np.ascontiguousarray(array)."
        )
    header = Header(tuple(shape), dtype)
    if min(header.shape, default=0) < 0:
        raise InputError(f"{where} has the impossible shape {header.shape}", "Save it again.")
    if (sample := math.prod(header.sample_shape) * dtype.itemsize) > LARGEST_SAMPLE:
        raise InputError(
            f"{where}: one sample of shape {header.sample_shape} has {sample / 2**20:,.0f} MiB, edgeqwt reads samples "
            f"of up to {LARGEST_SAMPLE >> 20} MiB",
            "Give one sample per row: an array of shape (samples, ...).",
        )
    expected = file.tell() + math.prod(header.shape) * dtype.itemsize
    if expected != size:
        raise InputError(f"{where} is truncated or corrupt: {size} bytes, expected {expected}", "Save it again.")
    return header


def _read_sample(file: IO[bytes], header: Header) -> Array:
    size = math.prod(header.sample_shape) * header.dtype.itemsize
    data = file.read(size)
    if len(data) != size:
        raise EOFError("the file ends within a sample")
    stored = np.frombuffer(data, header.dtype).reshape(header.sample_shape)
    return stored.astype(header.dtype.newbyteorder("="))  # a copy, because what frombuffer gives is read-only


def _common_count(headers: Mapping[str, Header], origin: str) -> int:
    """The number of samples; all arrays must have the same."""
    if not headers:
        raise InputError(f"{origin} holds no arrays", "Give one array of shape (samples, ...) per model input.")
    for name, header in headers.items():
        label = f"{origin}: the array" + (f" {name!r}" if name else "")
        if header.dtype.kind not in _KINDS:
            raise InputError(f"{label} has dtype {header.dtype}", "Give numbers: float, integer or bool.")
        if not header.shape:
            raise InputError(f"{label} is a single number", "Give an array of shape (samples, ...).")
        if header.shape[0] == 0:
            raise InputError(f"{label} has no samples: its shape is {header.shape}", "Give at least one sample.")
        if 0 in header.shape:
            raise InputError(f"{label} is empty: its shape is {header.shape}", "Give an array of shape (samples, ...).")
    counts = {name: header.shape[0] for name, header in headers.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise InputError(
            f"{origin}: the arrays have different numbers of samples: {listed}",
            "Keep only the model's inputs, each with shape (samples, ...).",
        )
    return next(iter(counts.values()))


def _same_headers(before: Mapping[str, Header], now: Mapping[str, Header], origin: str) -> None:
    if before != now:
        raise InputError(f"{origin} changed while it was in use", "Start again.")


@contextmanager
def _file_errors(origin: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"there is no file {origin}", "Check the path, relative to the working folder.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{origin} cannot be read: {reason}", "Check the path and its permissions.") from error
    except CORRUPT as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{origin} is truncated, corrupt or not of the type that its name says: {reason}",
            "Make it again with np.save or np.savez.",
        ) from error
