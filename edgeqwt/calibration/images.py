"""Samples from a folder of images: how pixels become the model's input, and where the images lie."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeqwt.calibration.arrays import NAMELESS
from edgeqwt.calibration.binding import LABELS
from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
LARGEST = 150_000_000
"""Pixels of one image: as bytes of colour they take three times as many, and a small file may claim any number."""
CHOICES = {
    "crop": ("center", "none"),
    "layout": ("NCHW", "NHWC"),
    "color": ("RGB", "BGR", "gray"),
    "interpolation": ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
}


@dataclass(frozen=True)
class ImageOptions:
    """How an image becomes a sample: (pixels * scale - mean) / std, in float32.

    Attributes:
        size: (height, width) of the model's input, in pixels.
        resize: what the shorter side is scaled to before cropping; None: as little as covers `size`.
        crop: "center" keeps the proportions and cuts the middle out; "none" stretches the image to `size`.
        mean, std: per channel in the order of `color`, or one value for all; in units after `scale`.
        scale: what the pixel values 0..255 are multiplied by first.
        layout: "NCHW" gives (1, channels, height, width), "NHWC" gives (1, height, width, channels).
        color: "RGB", "BGR", or "gray" (one channel, ITU-R 601 luma).
        interpolation: Pillow's name of the resampling filter.

    Raises:
        InputError: on construction, when an option cannot be used.
    """

    size: tuple[int, int]
    resize: int | None = None
    crop: str = "center"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1 / 255
    layout: str = "NCHW"
    color: str = "RGB"
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        _check(self)

    @property
    def channels(self) -> int:
        """Of the sample."""
        return 1 if self.color == "gray" else 3


def image_folder(folder: Path, options: ImageOptions) -> Samples:
    """Samples from the images below a folder, in the order of their paths, read one at a time.

    Where all images lie in subfolders, those are classes: each sample has its class's number among them as label.

    Raises:
        InputError: when there is no such folder or no image in it; while reading, when an image cannot be decoded.
    """
    if not folder.is_dir():
        what = f"{folder} is a file, not a folder" if folder.exists() else f"there is no folder {folder}"
        raise InputError(what, "Give the folder that holds the images.")
    files = find_images(folder)
    if not files:
        raise InputError(f"{folder} holds no images", f"Looked for {', '.join(SUFFIXES)}, also in its subfolders.")

    classes = class_folders(folder, files)

    def read() -> Iterator[Sample]:
        for file in files:
            image = {NAMELESS: read_image(file, options)}
            yield image | ({LABELS: np.array([classes[_top(folder, file)]])} if classes else {})

    return Samples(str(folder), read, len(files))


def class_folders(folder: Path, files: tuple[Path, ...]) -> dict[str, int]:
    """Subfolder to its index in the order of their names, as torchvision numbers classes; empty without classes."""
    tops = sorted({_top(folder, file) for file in files})
    return {} if "" in tops or len(tops) < 2 else {name: i for i, name in enumerate(tops)}


def _top(folder: Path, file: Path) -> str:
    """The subfolder that a file lies in, at any depth; empty for a file of the folder itself."""
    parts = file.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""


def find_images(folder: Path) -> tuple[Path, ...]:
    """The images below a folder, sorted by path; hidden files and folders are left out."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}", "Check its permissions.")

    files = []
    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(here, n) for n in names if not n.startswith(".") and n.lower().endswith(SUFFIXES)]
    return tuple(sorted(files, key=lambda file: file.relative_to(folder).parts))


def read_image(file: Path, options: ImageOptions) -> Array:
    """One image as float32 in the layout of the options, batch dimension 1.

    Raises:
        InputError: when it cannot be decoded, or has more than `LARGEST` pixels.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Of so many pixels that Pillow warns; the limit below is lower than where it refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            found = Image.open(file)
        with found as opened:
            width, height = opened.size
            if width * height > LARGEST:
                raise InputError(
                    f"{file} has {width} x {height} pixels, edgeqwt reads images of up to {LARGEST // 10**6} million",
                    "Make it smaller: the model sees few of them.",
                )
            if opened.mode.startswith(("I", "F")):
                raise InputError(f"{file} has more than 8 bits per channel", "Convert it, or give arrays.")
            # Pillow warns when a palette's transparency is dropped in one step.
            transparent = opened.mode == "P" and "transparency" in opened.info
            whole = opened.convert("RGBA") if transparent else opened
            image = whole.convert("L" if options.color == "gray" else "RGB")
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many types, SyntaxError and struct.error among them
        reason = " ".join(str(error).split())
        raise InputError(f"{file} cannot be decoded as an image: {reason}", "Remove or replace the file.") from error
    pixels = np.asarray(_fit(image, options), np.float32)
    if options.color == "gray":
        pixels = pixels[:, :, None]
    elif options.color == "BGR":
        pixels = pixels[:, :, ::-1]
    mean, std = np.array(options.mean, np.float32), np.array(options.std, np.float32)
    values = (pixels * np.float32(options.scale) - mean) / std
    sample = values[None] if options.layout == "NHWC" else values.transpose(2, 0, 1)[None]
    return np.ascontiguousarray(sample)


def _fit(image: Image, options: ImageOptions) -> Image:
    """The image at `options.size`; sizes and offsets are rounded as torchvision's Resize and CenterCrop do it."""
    from PIL.Image import Resampling

    resampling = Resampling[options.interpolation.upper()]
    height, width = options.size
    if options.crop == "none":
        return image.resize((width, height), resampling)
    if options.resize is not None:
        short = options.resize
        new_width, new_height = (
            (short, int(short * image.height / image.width))
            if image.width <= image.height
            else (int(short * image.width / image.height), short)
        )
    else:
        factor = max(height / image.height, width / image.width)
        new_width, new_height = max(width, int(image.width * factor)), max(height, int(image.height * factor))
    left, top = round((new_width - width) / 2), round((new_height - height) / 2)
    return image.resize((new_width, new_height), resampling).crop((left, top, left + width, top + height))


def _check(options: ImageOptions) -> None:
    def refuse(key: str, problem: str, hint: str) -> InputError:
        return InputError(f"image option {key} = {getattr(options, key)!r} {problem}", hint)

    for key, choices in CHOICES.items():
        if getattr(options, key) not in choices:
            raise refuse(key, "is not known", f"Use one of {', '.join(choices)}.")
    if not _is_pair_of_sizes(options.size):
        raise refuse("size", "is not a size in pixels", "Give [height, width], e.g. [224, 224].")
    if options.resize is not None:
        if options.crop == "none":
            raise refuse("resize", "keeps the proportions", 'It needs crop = "center"; leave one of the two out.')
        if not _is_size(options.resize) or options.resize < max(options.size):
            raise refuse("resize", f"does not cover size {tuple(options.size)}", "It is the shorter side, in pixels.")
    for key, values in (("mean", options.mean), ("std", options.std), ("scale", (options.scale,))):
        if not _are_numbers(values):
            raise refuse(key, "is not made of finite numbers", "Give e.g. mean (0.5,), std (0.25,), scale 1/255.")
        if len(values) not in (1, options.channels):
            raise refuse(key, f"has {len(values)} values", f"Give 1 value, or {options.channels}.")
    if options.scale == 0:
        raise refuse("scale", "makes every image the same", "Use 1/255 for 0..1, or 1 for raw pixel values.")
    if not all(value > 0 for value in options.std):
        raise refuse("std", "is not positive", "Give the standard deviations that training divided by.")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 65536


def _is_pair_of_sizes(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(_is_size(side) for side in value)


def _are_numbers(values: object) -> bool:
    return isinstance(values, tuple | list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
