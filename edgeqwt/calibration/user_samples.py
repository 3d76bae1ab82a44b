"""Samples from the user's own Python: a function that yields them, or an object that can be iterated repeatedly."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from edgeqwt.calibration.arrays import NAMELESS
from edgeqwt.calibration.binding import positional
from edgeqwt.calibration.datasets import table_rows
from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array
from edgeqwt.loading import calling, iterating, load_callable, said_by

_WHAT = "calibration function"
MODEL_FIRST = "The model comes first; samples are given by --calibration (calibration= in Python)."
_YIELD = "Yield one sample at a time: {input name: array}, one array, or a tuple of arrays, batch dimension included."

SAME = "Give the same samples in the same order each time: fix the seed there, and do not shuffle."


def from_spec(spec: str) -> Samples:
    """Samples from "file.py:function" or "package.module:function".

    Raises:
        InputError: when the function cannot be loaded; while reading, as `from_function`.
    """
    return from_function(load_callable(spec, _WHAT), spec)


def from_function(function: Callable[[], Iterable[Any]], origin: str) -> Samples:
    """Samples from a function that is called for each pass and yields dicts of arrays, or single arrays.

    Raises:
        InputError: while reading: when the function raises, yields something else or nothing, or other samples, or
            more or fewer of them, than on the pass before.
    """
    what = f"{_WHAT} {origin}"

    def values() -> Iterator[Any]:
        returned = calling(function, what)()
        if is_module(returned):
            raise InputError(f"{what} returned a model, {_kind(returned)}, not a stream of samples", MODEL_FIRST)
        if isinstance(returned, Mapping | str | bytes | np.ndarray) or not _is_iterable(returned):
            raise InputError(f"{what} returned {_kind(returned)}, not a stream of samples", _YIELD)
        return iterating(returned, what, function)

    return _samples(values, what, origin)


def from_iterable(values: Iterable[Any]) -> Samples:
    """Samples from a list, data loader, data set or other object that gives the same values each time.

    Rows of a data set, torch's or Hugging Face's, are single samples and get a batch dimension.

    Raises:
        InputError: when it can be iterated only once; while reading, as `from_function`.
    """
    origin = "calibration samples"
    items = table_rows(values)
    if items is not None:
        return _samples(lambda: iterating(items(), origin, None), origin, origin)
    if iter(values) is values:
        raise InputError(
            f"{origin}: {_kind(values)} can be read only once, and samples are read several times",
            "Give the function that makes it instead, or a list.",
        )
    return _samples(lambda: iterating(values, origin, None), origin, origin)


def _samples(values: Callable[[], Iterator[Any]], what: str, origin: str) -> Samples:
    seen: list[bytes] = []  # digests of the samples that any pass has reached
    counts: list[int] = []  # how many there are, once a pass has come to the end

    def read() -> Iterator[Sample]:
        count = 0
        for count, value in enumerate(values(), start=1):
            sample = _with_batch(_as_sample(value, f"{what}: sample {count - 1}"))
            digest = _digest(sample)
            if count > len(seen):
                seen.append(digest)
            if counts and count > counts[0]:
                raise InputError(f"{what} gives more samples than the {counts[0]} of the pass before", SAME)
            if seen[count - 1] != digest:
                raise InputError(f"{what}: sample {count - 1} is not what it was on the pass before", SAME)
            yield sample
        if not count and not seen:
            raise InputError(f"{what} has no samples", "Give at least one; 128 to 512 are a good number.")
        if count < len(seen):
            raise InputError(f"{what} gives only {count} samples, and gave {len(seen)} on the pass before", SAME)
        counts[:] = [count]

    return Samples(origin, read)


def _as_sample(value: object, where: str) -> Sample:
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise InputError(f"{where} has the key {said_by(name)}, which is not an input name", _YIELD)
        if not value:
            raise InputError(f"{where} is an empty dict", _YIELD)
        return {name: as_array(array, f"{where}, input {name!r}") for name, array in value.items()}
    if isinstance(value, list | tuple):
        leaves = list(_leaves(value))
        if not leaves or not hasattr(leaves[0], "__array__"):
            raise InputError(f"{where} is {_kind(value)}, which holds no arrays", _YIELD)
        arrays = [as_array(leaf, f"{where}, element {i}") for i, leaf in enumerate(leaves)]
        return positional(arrays) if len(arrays) > 1 else {NAMELESS: arrays[0]}
    if isinstance(value, str | bytes) or not hasattr(value, "__array__"):
        raise InputError(f"{where} is {_kind(value)}", _YIELD)
    return {NAMELESS: as_array(value, where)}


def _with_batch(sample: Sample) -> Sample:
    """A row of floats, alone or with numbers such as its label, with a batch dimension: no batch is one of numbers."""
    first, *others = sample.values()
    row = first.ndim == 1 and first.size > 1 and first.dtype.kind == "f"
    return {name: array[None] for name, array in sample.items()} if row and all(a.ndim == 0 for a in others) else sample


def _leaves(value: object) -> Iterator[Any]:
    """What nested tuples and lists hold, in order: a loader's ((ids, mask), labels) has three."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def as_array(value: object, where: str) -> Array:
    """A copy of the value as a numpy array of numbers; takes torch tensors on any device.

    A copy, because a generator may fill the same buffer again for its next sample.

    Raises:
        InputError: when it is none.
    """
    torch = sys.modules.get("torch")  # a tensor cannot come from a torch that was never imported
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            array = np.array(value.numpy(force=True), order="C")
        else:
            array = np.array(value, order="C")
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{where} is no array of numbers: {str(error).splitlines()[0]}", _YIELD) from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where} is {_kind(value)} with dtype {array.dtype}", "Give numbers: float, integer or bool.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _digest(sample: Sample) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name, array in sample.items():
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.digest()


def is_module(value: object) -> bool:
    """Whether a value is a PyTorch module; there is none where torch was never imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _is_iterable(value: object) -> bool:
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError:
        return False
    return True


def _kind(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
