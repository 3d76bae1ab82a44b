"""Where samples come from: one function that takes whatever the user names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeqwt.calibration.arrays import NAMELESS, from_arrays, from_npy, from_npz
from edgeqwt.calibration.batches import rebatched
from edgeqwt.calibration.images import SUFFIXES, ImageOptions, image_folder
from edgeqwt.calibration.samples import InputSpec, Samples
from edgeqwt.calibration.settings import EXAMPLE, read_toml
from edgeqwt.calibration.user_samples import MODEL_FIRST, as_array, from_function, from_iterable, from_spec, is_module
from edgeqwt.calibration.validate import validated
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

Source = str | Path | Mapping[str, Array] | Array | Callable[[], Iterable[Any]] | Iterable[Any] | Samples

_MODELS = (".tflite", ".onnx", ".pt2", ".keras", ".h5")
_TORCH = (".pt", ".pth", ".ckpt")
_ACCEPTED = "Give an .npz or .npy file, a folder of images, a .toml that describes one, or file.py:function."


def open_samples(
    source: Source,
    specs: Sequence[InputSpec] | None = None,
    images: ImageOptions | None = None,
    batch_size: int | None = 1,
) -> Samples:
    """Samples from whatever the user names; files are checked now, samples while they are read.

    Args:
        source: one of
            - path of an .npz (arrays by input name) or .npy (one input), each of shape (samples, ...);
            - path of a folder of images (with `images`), or of a .toml that describes one;
            - "file.py:function" or "package.module:function", called for each pass, yielding samples;
            - the same things in Python: a mapping of arrays, one array, a function, a list, data loader or data set.
            A source without input names yields its array under the name "" until `validate.named` or
            `validate.validated` binds it to the model's only input, and tuples under their positions. Labels behind
            the inputs, as loaders give them, are left out of calibration and kept for metrics.
        specs: the model's inputs; when given, samples are validated against them while they are read.
        images: how images become samples; only for a folder.
        batch_size: rows of each sample, whatever the size of the source's batches; None leaves them as they come.

    Raises:
        InputError: when the source is missing, unreadable, corrupt, empty or of an unknown kind.
    """
    samples = _open(source, images)
    if batch_size is not None:
        samples = rebatched(samples, batch_size)
    return samples if specs is None else validated(samples, specs)


def _open(source: Source, images: ImageOptions | None) -> Samples:
    if isinstance(source, str | Path):
        return _open_path(str(source), images)
    if images is not None:
        raise InputError("image options were given, but the samples are not a folder of images", "Leave them out.")
    if isinstance(source, Samples):
        return source
    if isinstance(source, Mapping):
        names = [name for name in source if not isinstance(name, str)]
        if names:
            raise InputError(f"arrays: the key {names[0]!r} is not an input name", "Give {input name: array}.")
        # Only what is no array yet is converted: from_arrays copies sample by sample.
        return from_arrays(
            {k: v if isinstance(v, np.ndarray) else as_array(v, f"arrays: input {k!r}") for k, v in source.items()}
        )
    if isinstance(source, np.ndarray):
        return from_arrays({NAMELESS: source}, "array")
    if hasattr(source, "__array__"):
        return from_arrays({NAMELESS: as_array(source, "array")}, "array")
    if is_module(source):
        raise InputError(f"samples cannot come from a model, here {type(source).__name__}", MODEL_FIRST)
    if callable(source):
        return from_function(source, getattr(source, "__qualname__", type(source).__name__))
    try:
        iter(source)
    except (TypeError, NotImplementedError) as error:
        raise InputError(f"samples cannot come from an object of type {type(source).__name__}", _ACCEPTED) from error
    return from_iterable(source)


def _open_path(text: str, images: ImageOptions | None) -> Samples:
    path = Path(text)
    if path.is_dir():
        if images is None:
            raise InputError(
                f"{text} is a folder: it is not said how its images become samples",
                f"Give image options (at least the size), or a .toml with them, {EXAMPLE}",
            )
        return image_folder(path, images)
    if images is not None:
        what = "is not a folder" if path.exists() else "does not exist"
        raise InputError(
            f"image options were given, but {text} {what}", "They belong to a folder of images; a .toml has its own."
        )
    if not path.exists() and re.search(r":\w+$", text):
        return from_spec(text)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return from_npz(path)
    if suffix == ".npy":
        return from_npy(path)
    if suffix == ".toml":
        return image_folder(*read_toml(path))
    if not path.exists():
        raise InputError(f"there is no file or folder {text}", f"Check the path. {_ACCEPTED}")
    if suffix == ".py":
        raise InputError(f"{text} does not say which function yields the samples", f"Write {text}:function.")
    if suffix in SUFFIXES:
        raise InputError(f"{text} is a single image", "Give the folder that holds the images.")
    if suffix in _MODELS:
        raise InputError(f"{text} is a model, not samples", f"{MODEL_FIRST} {_ACCEPTED}")
    if suffix in _TORCH:
        raise InputError(f"samples cannot be read from {text}", 'Save tensors with numpy.save("samples.npy", tensor).')
    raise InputError(f"samples cannot be read from {text}", _ACCEPTED)
