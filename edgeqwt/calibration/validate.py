"""Checks samples against what a model expects, as they stream.

Reading and checking are separate steps because the inputs of a PyTorch model are not known before its
first sample was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edgeqwt.calibration.binding import bound, inputs_of, listed
from edgeqwt.calibration.samples import InputSpec, Sample, Samples
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array


def named(samples: Samples, names: Sequence[str]) -> Samples:
    """The samples, with arrays that have no names given to the model's inputs; see `binding.bound`.

    Args:
        samples: any; samples that have names pass unchanged.
        names: the model's inputs, in order.

    Raises:
        InputError: while reading, when it is not clear which arrays are which inputs.
    """
    return samples.map(lambda sample: bound(sample, names, names, samples.origin))


def validated(samples: Samples, specs: Sequence[InputSpec]) -> Samples:
    """The samples, checked while they are read and cast to the element types that the model expects.

    Float arrays of any width serve a float input; integers and bools serve an integer or bool input when
    their values fit. Integers are refused for float inputs (unscaled pixels, most likely), and floats for
    integer inputs.

    Args:
        samples: as read from any source.
        specs: the model's inputs, in order; samples come out in this order.

    Raises:
        InputError: while reading: for a missing or unknown name, a wrong shape or type, NaN or infinity;
            it names the input, the sample's index, what was found and what was expected.
    """
    by_name = {spec.name: spec for spec in specs}

    def read() -> Iterator[Sample]:
        for index, found in enumerate(named(samples, list(by_name))):
            sample = inputs_of(found, list(by_name))
            _check_names(sample, list(by_name), f"{samples.origin}: sample {index}")
            yield {
                name: conform(sample[name], spec, f"{samples.origin}: input {name!r} of sample {index}")
                for name, spec in by_name.items()
            }

    return replace(samples, open=read)


def conform(array: Array, spec: InputSpec, where: str) -> Array:
    """The array in the element type that the input expects.

    Args:
        array: one sample's value of the input, batch dimension included.
        spec: the input.
        where: what the array is, for messages.

    Raises:
        InputError: when shape, type or values are not what the input expects.
    """
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:  # numpy has no such type: int4, string, resource
        raise InputError(
            f"{where} is expected to be {spec.dtype}, which is not supported", "Use float, integer or bool inputs."
        ) from None
    if array.shape[:1] == (1,) and _fits(array.shape[1:], spec.shape):
        array = array[0]  # of an array whose first axis counts samples: states of recurrent layers, or numbers
    _check_shape(array.shape, spec.shape, where, tokens=dtype.kind in "iu")
    if dtype.kind == "f":
        return _as_float(array, dtype, where)
    if dtype.kind in "biu":
        return _as_integer(array, dtype, where)
    raise InputError(f"{where} is expected to be {dtype}, which is not supported", "Use float, integer or bool inputs.")


def _check_names(sample: Sample, names: Sequence[str], where: str) -> None:
    if set(sample) == set(names):
        return
    missing = [name for name in names if name not in sample]
    unknown = [name for name in sample if name not in names]
    problems = [f"{verb} {listed(them)}" for verb, them in (("lacks", missing), ("has unknown", unknown)) if them]
    raise InputError(f"{where} {' and '.join(problems)}", f"The model's inputs are: {listed(names)}.")


def _check_shape(found: tuple[int, ...], expected: tuple[int | None, ...], where: str, tokens: bool) -> None:
    if _fits(found, expected) and 0 not in found:
        return
    wanted = str(tuple("any" if e is None else e for e in expected)).replace("'any'", "any")
    hint = "Give the data in the source model's own layout, with a batch dimension in front."
    if _fits(found, expected[1:]):
        hint = "The batch dimension is missing: use array[None]."
    elif fits_but_batch(found, expected):
        hint = f"The model takes batches of {expected[0]}: give --batch-size {expected[0]}."
    elif tokens and len(found) == len(expected) == 2 and found[0] == (expected[0] or found[0]):
        hint = "Give sequences of one length; --sequence-length N of `edgeqwt build` cuts and pads them."
    elif len(found) == len(expected) == 4 and None not in expected:
        if (found[0], found[3], found[1], found[2]) == expected:
            hint = "The data is channels-last (NHWC): use array.transpose(0, 3, 1, 2), or layout NCHW for images."
        elif (found[0], found[2], found[3], found[1]) == expected:
            hint = "The data is channels-first (NCHW): use array.transpose(0, 2, 3, 1), or layout NHWC for images."
    raise InputError(f"{where} has shape {found}, expected {wanted}", hint)


def _fits(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(found) == len(expected) and all(e in (None, f) for f, e in zip(found, expected, strict=True))


def fits_but_batch(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether a shape differs from what is expected in its first axis alone."""
    same = len(found) == len(expected) > 1 and expected[0] not in (None, found[0])
    return same and all(e in (None, f) for f, e in zip(found[1:], expected[1:], strict=True))


PIXELS = (
    "Scale pixels as in training, e.g. (x / 255 - mean) / std, or give x.astype('float32') where the model scales them "
    "itself, or a folder with --image options."
)


def _as_float(array: Array, dtype: np.dtype[np.generic], where: str) -> Array:
    if array.dtype.kind in "biu":
        hint = PIXELS if array.dtype == np.uint8 else f"Convert it to {dtype}, scaled the way the model was trained."
        raise InputError(f"{where} is {array.dtype}, expected {dtype}", hint)
    if array.dtype.kind != "f":
        raise InputError(f"{where} is {array.dtype}, expected {dtype}", f"Convert it to {dtype}.")
    finite = np.isfinite(array)
    if not finite.all():
        bad = np.argwhere(~finite)
        first = tuple(int(i) for i in bad[0])
        raise InputError(
            f"{where} has {len(bad)} NaN or infinite values, the first at {first}: {array[first]}",
            "Leave that sample out, or repair it.",
        )
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    if cast.dtype.itemsize < array.dtype.itemsize and not np.isfinite(cast).all():
        raise InputError(f"{where} has values beyond the range of {dtype}", "Leave that sample out, or repair it.")
    return cast


def _as_integer(array: Array, dtype: np.dtype[np.generic], where: str) -> Array:
    if array.dtype.kind not in "biu":
        raise InputError(f"{where} is {array.dtype}, expected {dtype}", f"Give integers: array.astype({str(dtype)!r}).")
    if array.dtype == dtype:
        return array
    low, high = (0, 1) if dtype.kind == "b" else _limits(str(dtype))
    least, most = int(array.min()), int(array.max())
    if least < low or most > high:
        raise InputError(
            f"{where} has values from {least} to {most}, which {dtype} cannot hold",
            f"The input takes {dtype}: {low} to {high}.",
        )
    return array.astype(dtype)


def _limits(dtype: str) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
