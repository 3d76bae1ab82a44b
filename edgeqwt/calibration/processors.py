"""Image options out of what model hubs keep beside a model: Hugging Face's preprocessor_config.json, timm's config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeqwt.errors import InputError
from edgeqwt.regular_files import regular

RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's numbers of its filters, as image processors store them."""
CROPS_BELOW = 384
"""From this side on, processors with a crop_pct stretch the image (transformers, ConvNextImageProcessor)."""


def read_processor(path: Path) -> dict[str, object]:
    """Image settings, as `settings.make_options` takes them, of a processor's JSON file.

    Raises:
        InputError: the file is missing, no JSON, or describes a step that image options do not have.
    """
    try:
        config = json.loads(regular(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}", "Check the path; it is relative to the working folder.") from error
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no readable JSON file: {reason}", "Give preprocessor_config.json.") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a processor's configuration", "Give preprocessor_config.json.")
    return processor_settings(config, str(path))


def processor_settings(config: Mapping[str, Any], where: str) -> dict[str, object]:
    """Image settings of a processor: its `to_dict()`, a hub's JSON, or timm's `model.pretrained_cfg`.

    Args:
        config: keys and values.
        where: what it is, for messages.

    Raises:
        InputError: it describes a step that image options do not have, or lacks the size.
    """
    config = config.get("pretrained_cfg", config)
    try:
        return _timm(config) if "input_size" in config else _hugging_face(config, where)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise InputError(
            f"{where} cannot be understood as an image processor: {type(error).__name__}: {error}",
            "Give the image options one by one, e.g. --image size=224,224 --image mean=0.5,0.5,0.5.",
        ) from error


def _timm(config: Mapping[str, Any]) -> dict[str, object]:
    """timm's create_transform for evaluation: the shorter side to size / crop_pct, then the centre."""
    _, height, width = config["input_size"]
    settings: dict[str, object] = {"size": [int(height), int(width)]}
    if config.get("crop_mode", "center") == "squash":
        settings["crop"] = "none"
    else:
        settings["resize"] = int(max(height, width) / float(config.get("crop_pct") or 0.875))
    for key in ("mean", "std", "interpolation"):
        if key in config:
            settings[key] = config[key] if isinstance(config[key], str) else list(config[key])
    return settings


def _hugging_face(config: Mapping[str, Any], where: str) -> dict[str, object]:
    settings = _geometry(config, where)
    if "resample" in config:
        settings["interpolation"] = RESAMPLE[int(config["resample"])]
    settings["scale"] = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    if config.get("do_normalize", "image_mean" in config):
        settings |= {"mean": list(config["image_mean"]), "std": list(config["image_std"])}
    return settings


def _geometry(config: Mapping[str, Any], where: str) -> dict[str, object]:
    size = config["size"]
    size = {"height": size, "width": size} if isinstance(size, int) else size
    crop = config.get("crop_size")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if "shortest_edge" in size:
        short = int(size["shortest_edge"])
        if "crop_pct" in config and short < CROPS_BELOW:
            return {"size": [short, short], "resize": int(short / float(config["crop_pct"]))}
        if "crop_pct" in config:
            return {"size": [short, short], "crop": "none"}
        if config.get("do_center_crop") and crop:
            return {"size": [int(crop["height"]), int(crop["width"])], "resize": short}
        raise InputError(
            f"{where}: the images keep their proportions and are not cropped, so their sizes differ",
            "A TFLite file takes one size: give --image size=HEIGHT,WIDTH and what the model was trained with.",
        )
    wanted = [int(size["height"]), int(size["width"])]
    if config.get("do_center_crop") and crop and [int(crop["height"]), int(crop["width"])] != wanted:
        raise InputError(
            f"{where}: images are stretched to {wanted} and then cropped, which image options cannot say",
            "Preprocess them in a calibration function, file.py:function.",
        )
    return {"size": wanted, "crop": "none"}
