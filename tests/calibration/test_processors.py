from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeqwt.calibration.processors import processor_settings
from edgeqwt.calibration.settings import parse_options, read_toml
from edgeqwt.errors import InputError

VIT: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
RESNET = VIT | {
    "size": {"shortest_edge": 256},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 192},
    "resample": 3,
}
CONVNEXT = VIT | {"size": {"shortest_edge": 224}, "crop_pct": 0.875}
TIMM = {"input_size": [3, 240, 240], "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.1], "std": [0.2]}


def written(folder: Path, config: object) -> Path:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(config))
    return path


def test_the_kinds_of_geometry() -> None:
    assert processor_settings(VIT, "p")["crop"] == "none"
    assert processor_settings(VIT, "p")["size"] == [224, 224]
    cropped = processor_settings(RESNET, "p")
    assert (cropped["size"], cropped["resize"], cropped["interpolation"]) == ([224, 192], 256, "bicubic")
    assert processor_settings(CONVNEXT, "p")["resize"] == 256  # 224 / 0.875
    wide = processor_settings(CONVNEXT | {"size": {"shortest_edge": 384}}, "p")
    assert (wide["size"], wide["crop"]) == ([384, 384], "none")


def test_timm_configurations_alone_and_in_a_hubs_file() -> None:
    settings = processor_settings(TIMM, "p")
    assert settings == processor_settings({"architecture": "x", "pretrained_cfg": TIMM}, "p")
    assert (settings["size"], settings["resize"], settings["interpolation"]) == ([240, 240], 266, "bicubic")


def test_options_on_the_command_line_overrule_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, VIT)
    options = parse_options([f"processor={path}", "layout=NHWC", "mean=0.4,0.4,0.4"])
    assert (options.size, options.crop, options.layout) == ((224, 224), "none", "NHWC")
    assert (options.mean, options.std) == ((0.4, 0.4, 0.4), (0.25, 0.25, 0.25))
    assert options.scale == VIT["rescale_factor"]


def test_a_toml_names_it_relative_to_itself(tmp_path: Path) -> None:
    written(tmp_path, RESNET)
    (tmp_path / "images.toml").write_text('[images]\nfolder = "photos"\nprocessor = "preprocessor_config.json"\n')
    folder, options = read_toml(tmp_path / "images.toml")
    assert (folder, options.size, options.resize) == (tmp_path / "photos", (224, 192), 256)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": {"shortest_edge": 224}}, "sizes differ"),
        (VIT | {"do_center_crop": True, "crop_size": 200}, "stretched to"),
        ({"image_mean": [0.5]}, "cannot be understood"),
        (VIT | {"resample": 17}, "cannot be understood"),
        ({"input_size": [3, 8, 8], "crop_pct": "x"}, "cannot be understood"),
        ([1], "is not a processor's configuration"),
    ],
)
def test_what_options_cannot_say(config: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_options([f"processor={written(tmp_path, config)}"])
    assert caught.value.hint


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        parse_options([f"processor={tmp_path / 'x.json'}"])
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="no readable JSON"):
        parse_options([f"processor={tmp_path / 'x.json'}"])
