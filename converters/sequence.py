"""Which of a source's inputs hold sequences, and along which axis."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeqwt.calibration.arrays import NAMELESS
from edgeqwt.calibration.samples import InputSpec, Sample
from edgeqwt.calibration.sequence import INTEGERS, Sequences
from edgeqwt.converters.from_tflite import source as tflite_source
from edgeqwt.converters.resolve import FILES, resolve
from edgeqwt.errors import InputError

YOURSELF = "Make the samples as long as the model shall take them, and leave --sequence-length out."
TOKENS = 1  # the axis of (batch, tokens)


def find_sequences(source: object, sample: Sample, length: int) -> Sequences:
    """Finds the inputs that hold sequences.

    A file says it: by what it leaves open besides the batch. Where it leaves nothing open, and for
    a module, (batch, tokens) integers are taken for sequences: ids, types, masks.

    Args:
        source: as for `convert`.
        sample: the first calibration sample.
        length: that sequences are to have.

    Raises:
        InputError: no input holds sequences, it is not clear which ones do, or the file fixes another length.
    """
    if length < 1:
        raise InputError(f"sequences of length {length} were asked for", "Name a length of at least 1.")
    declared = _declared(source)
    if declared is None:
        axes = _token_axes(InputSpec(name, np.shape(a), np.asarray(a).dtype.name) for name, a in sample.items())
        _refuse_floats_as_long(axes, sample)
    else:
        axes = dict(_open_axes(declared)) or _fixed_axes(declared, length, str(source))
        if set(sample) == {NAMELESS} and len(declared) == 1:
            axes = dict(zip([NAMELESS], axes.values(), strict=False))
    if not axes:
        raise InputError(
            "no input holds sequences: none is open in a dimension besides the batch, none is (batch, tokens) integers",
            YOURSELF,
        )
    _refuse_missing(axes, sample)
    _refuse_unequal(axes, sample)
    return Sequences(length, axes)


def _declared(source: object) -> tuple[InputSpec, ...] | None:
    """What a file says of its inputs, None where it leaves a dimension open; None for a module, which says nothing."""
    if not isinstance(source, str | os.PathLike) or Path(source).suffix not in FILES:
        return None
    path = resolve(source)
    assert isinstance(path, Path)
    if path.suffix == ".onnx":
        from edgeqwt.converters.from_onnx import source as onnx_source

        return onnx_source.input_specs(onnx_source.load(path))
    if path.suffix == ".tflite":
        return tuple(binding.spec for binding in tflite_source.bindings(tflite_source.load(path))[0])
    from edgeqwt.converters.from_torch import source as torch_source

    return torch_source.program_inputs(path)


def _token_axes(specs: Iterable[InputSpec]) -> dict[str, int]:
    return {s.name: TOKENS for s in specs if len(s.shape) == 2 and np.dtype(s.dtype).kind in INTEGERS + "b"}


def _open_axes(specs: Sequence[InputSpec]) -> Iterator[tuple[str, int]]:
    for spec in specs:
        free = [axis for axis, size in enumerate(spec.shape) if size is None and axis > 0]
        if len(free) > 1:
            raise InputError(
                f"input {spec.name!r} has {len(free)} dynamic dimensions besides the batch: "
                f"which of axes {', '.join(map(str, free))} is the sequence is not clear",
                YOURSELF,
            )
        if free:
            yield spec.name, free[0]


def _fixed_axes(specs: Sequence[InputSpec], length: int, file: str) -> dict[str, int]:
    axes = _token_axes(specs)
    for spec in specs:
        if spec.name in axes and spec.shape[TOKENS] != length:
            raise InputError(
                f"{file} takes {spec.shape[TOKENS]} tokens as {spec.name!r}, not {length}: its shapes are fixed",
                f"Give --sequence-length {spec.shape[TOKENS]}, or export the model with that dimension dynamic.",
            )
    return axes


def _refuse_floats_as_long(axes: Mapping[str, int], sample: Sample) -> None:
    """Where nothing is declared, an axis of another input that is as long as the sequences may be one as well."""
    lengths = {np.shape(sample[name])[axis] for name, axis in axes.items()} - {1}
    for name, array in sample.items():
        if name not in axes and lengths & {*np.shape(array)[1:]}:
            raise InputError(
                f"input {name!r} has shape {np.shape(array)} in the first sample, "
                f"as long as the sequences in {next(iter(axes))!r}: whether it is one, too, is not clear",
                YOURSELF,
            )


def _refuse_missing(axes: Mapping[str, int], sample: Sample) -> None:
    for name, axis in axes.items():
        if name not in sample:
            raise InputError(
                f"the model takes sequences as {name!r}, the samples have {', '.join(sample)}",
                "Name the calibration arrays as the model's inputs.",
            )
        if np.ndim(sample[name]) <= axis:
            raise InputError(
                f"input {name!r} of the first sample has shape {np.shape(sample[name])}, without axis {axis}",
                "Give samples in the model's own layout, batch dimension included.",
            )


def _refuse_unequal(axes: Mapping[str, int], sample: Sample) -> None:
    given = {name: np.shape(sample[name])[axis] for name, axis in axes.items()}
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{name!r} {size}" for name, size in given.items())
        raise InputError(f"the sequences in the first sample differ in length: {listed}", YOURSELF)
