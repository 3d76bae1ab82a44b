"""Why a module does not take a sample: the usual slips are tried, and the one that would have worked is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from edgeqwt.calibration.samples import Sample
from edgeqwt.calibration.validate import PIXELS
from edgeqwt.converters.from_torch.source import TorchModel
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

Change = Callable[[Array], Array | None]


def first_run(model: TorchModel, sample: Sample) -> dict[str, Array]:
    """The module's outputs for the first sample.

    Args:
        model: of the user's.
        sample: as the calibration data has it, by the names of the model's inputs.

    Raises:
        InputError: forward raises; where another layout, type or shape of one input would do, it says which. Or it
            returns no tensors.
    """
    try:
        return model.run(sample)
    except InputError as error:
        if error.__cause__ is None:  # it took the sample, and returned what is no tensor
            raise
        for spec in model.inputs:
            for change, (what, hint) in _CHANGES.items():
                changed = change(np.asarray(sample[spec.name]))
                if changed is not None and _runs(model, {**sample, spec.name: changed}):
                    found = f"has shape {sample[spec.name].shape} and type {sample[spec.name].dtype}"
                    raise InputError(
                        f"{error.message}; input {spec.name!r} {found}: {what}, as it seems", hint
                    ) from error
        given = ", ".join(f"{s.name!r} {sample[s.name].shape} {sample[s.name].dtype}" for s in model.inputs)
        raise InputError(
            f"{error.message}; it was given {given or 'nothing'}",
            "Shape the samples as forward takes them (axis 0 of an .npy or .npz file counts them). "
            "Where forward takes a list or dict of tensors, give a module whose forward takes the tensors and calls "
            "yours. If that is not it, call forward by itself in Python to see the whole traceback.",
        ) from error


def _runs(model: TorchModel, sample: Sample) -> bool:
    try:
        model.retyped(sample).run(sample)
    except InputError:
        return False
    return True


def _channels_first(array: Array) -> Array | None:
    return np.moveaxis(array, -1, 1).copy() if array.ndim >= 3 else None


def _channels_last(array: Array) -> Array | None:
    return np.moveaxis(array, 1, -1).copy() if array.ndim >= 3 else None


def _one_more_axis(array: Array) -> Array | None:
    return array[None]


def _without_batch(array: Array) -> Array | None:
    return array[0] if array.ndim > 1 and array.shape[0] == 1 else None


def _with_channel(array: Array) -> Array | None:
    return array[:, None] if array.ndim >= 2 else None


def _as_float(array: Array) -> Array | None:
    return array.astype(np.float32) if array.dtype.kind in "iub" else None


def _as_integer(array: Array) -> Array | None:
    return array.astype(np.int64) if array.dtype.kind == "f" else None


def _float_channels_first(array: Array) -> Array | None:
    moved = _channels_first(array)
    return None if moved is None else _as_float(moved)


_CHANGES: Mapping[Change, tuple[str, str]] = MappingProxyType(
    {
        _as_float: (
            "it takes floats",
            PIXELS,
        ),
        _channels_first: (
            "it takes channels first (NCHW)",
            "The data is channels-last: use array.transpose(0, 3, 1, 2), or layout NCHW for images.",
        ),
        _float_channels_first: (
            "it takes floats, and channels first (NCHW)",
            "Use array.transpose(0, 3, 1, 2), and scale pixels as in training, e.g. (x / 255 - mean) / std, or give "
            "x.astype('float32') where the model scales them itself.",
        ),
        _channels_last: (
            "it takes channels last (NHWC)",
            "The data is channels-first: use array.transpose(0, 2, 3, 1), or layout NHWC for images.",
        ),
        _as_integer: ("it takes integers", "Give token ids or indices as int64."),
        _with_channel: ("it takes one more axis, for channels", "Use array[:, None]."),
        _one_more_axis: (
            "the batch dimension is missing",
            "Use array[None]; in an .npz file samples lie along axis 0.",
        ),
        _without_batch: ("it takes no batch dimension", "Let the module take a batch: TFLite files have one."),
    }
)
"""What an input is turned into, what forward takes if that works, and what to do."""
