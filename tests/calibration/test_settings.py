from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from edgeqwt.calibration.images import ImageOptions
from edgeqwt.calibration.settings import make_options, parse_options, read_toml, schema
from edgeqwt.errors import InputError

FULL = """
[images]
folder = "photos"
size = [96, 64]
resize = 128
crop = "center"
mean = [0.485, 0.456, 0.406]
std = 0.25
scale = "1/255"
layout = "NHWC"
color = "BGR"
interpolation = "lanczos"
"""


def refused(tmp_path: Path, text: str | bytes) -> InputError:
    path = tmp_path / "images.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_toml(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_the_schema_takes_what_is_read_and_nothing_else() -> None:
    table = tomllib.loads(FULL)
    assert [*Draft202012Validator(schema()).iter_errors(table)] == []
    for key, wrong in (("size", [224]), ("crop", "left"), ("colour", "RGB"), ("resize", True)):
        assert len([*Draft202012Validator(schema()).iter_errors({"images": {**table["images"], key: wrong}})]) == 1


def test_every_option_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "images.toml").write_text(FULL)
    folder, options = read_toml(tmp_path / "images.toml")
    assert folder == tmp_path / "photos"
    assert options == ImageOptions(
        size=(96, 64),
        resize=128,
        mean=(0.485, 0.456, 0.406),
        std=(0.25,),
        layout="NHWC",
        color="BGR",
        interpolation="lanczos",
    )


def test_every_option_on_the_command_line() -> None:
    options = parse_options(
        ["size=96x64", "resize=128", "mean=0.485,0.456,0.406", "std=0.25", "scale=1/255", "layout=NHWC", "color=BGR"]
    )
    assert options == ImageOptions(
        (96, 64), 128, mean=(0.485, 0.456, 0.406), std=(0.25,), scale=1 / 255, layout="NHWC", color="BGR"
    )
    assert parse_options(["size=96,64"]) == ImageOptions((96, 64))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("size=96", "image option size = 96 has one value"),
        ("size=axb", "image option size: 'a' is not a whole number"),
        ("size=1.5x2", "image option size: '1.5' is not a whole number"),
        ("mean=1e999999999", "image option mean = (inf,) is not made of finite numbers"),
        (f"scale={10**400}/3", "is not a number"),
        ("size", "--image 'size' is not key=value"),
        ("size=1,2,3", "image option size = (1, 2, 3) is not a size"),
        ("mean=1/0", "image option mean: '1/0' is not a number"),
        ("scale=1,2", "image option scale is a list"),
        ("resize=1,2", "image option resize is a list"),
        ("colour=RGB", "unknown image option 'colour'"),
        ("crop=left", "image option crop = 'left' is not known"),
    ],
)
def test_bad_command_lines(text: str, found: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_options([text] if text.startswith("size") else ["size=8,8", text])
    assert found in caught.value.message
    assert caught.value.hint


def test_options_given_twice_or_not_at_all() -> None:
    with pytest.raises(InputError, match="size is given twice"):
        parse_options(["size=8,8", "size=9,9"])
    with pytest.raises(InputError, match="the image option size is missing"):
        parse_options(["scale=1"])


def test_numbers_that_are_none() -> None:
    for value in (True, None, {"a": 1}, "abc", ["x"]):
        with pytest.raises(InputError, match="image option mean"):
            make_options({"size": [4, 4], "mean": value}, "here")


def test_unknown_key_names_line_and_neighbour(tmp_path: Path) -> None:
    error = refused(tmp_path, FULL + "means = [1, 2, 3]\n")
    assert error.message == f"{tmp_path / 'images.toml'}:13: unknown image option 'means'"
    assert error.hint.startswith("Did you mean 'mean'? Known: folder, size,")


def test_unknown_table(tmp_path: Path) -> None:
    assert "images.toml:13: unknown key 'audio'" in refused(tmp_path, FULL + "[audio]\n").message


def test_no_table_no_folder_no_size(tmp_path: Path) -> None:
    assert "has no [images] table" in refused(tmp_path, "").message
    assert "has no [images] table" in refused(tmp_path, "images = 3").message
    assert "names no folder" in refused(tmp_path, "[images]\nsize = [4, 4]\n").message
    assert "names no folder" in refused(tmp_path, "[images]\nfolder = 3\n").message
    assert "image option size is missing" in refused(tmp_path, '[images]\nfolder = "a"\n').message


def test_bad_values_name_the_file(tmp_path: Path) -> None:
    error = refused(tmp_path, FULL.replace('"center"', '"left"'))
    assert error.message == f"{tmp_path / 'images.toml'}: image option crop = 'left' is not known"


def test_files_that_are_no_toml(tmp_path: Path) -> None:
    assert "is not valid TOML" in refused(tmp_path, "[images\n").message
    assert "line 1" in refused(tmp_path, "[images\n").message
    assert "is not a text file" in refused(tmp_path, b"\xff\xfe\x00").message
    with pytest.raises(InputError, match="there is no file"):
        read_toml(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="Is a directory"):
        read_toml(tmp_path)
