from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeqwt.calibration.images import ImageOptions, find_images, image_folder, read_image
from edgeqwt.errors import InputError


def save(path: Path, pixels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_pixels_of_the_right_size_are_only_scaled_and_normalized(tmp_path: Path) -> None:
    pixels = noise(4, 6)
    options = ImageOptions(size=(4, 6), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    array = read_image(save(tmp_path / "a.png", pixels), options)
    wanted = (pixels / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.4]
    assert array.shape == (1, 3, 4, 6)
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    # Three float32 roundings of values below 1, divided by at least 0.2: 3 * 2**-24 / 0.2 < 1e-6.
    np.testing.assert_allclose(array[0].transpose(1, 2, 0), wanted, rtol=0, atol=1e-6)


def test_layout_color_and_scale(tmp_path: Path) -> None:
    pixels = noise(4, 6)
    file = save(tmp_path / "a.png", pixels)
    raw = read_image(file, ImageOptions(size=(4, 6), scale=1, layout="NHWC"))
    np.testing.assert_array_equal(raw, pixels[None].astype(np.float32))
    bgr = read_image(file, ImageOptions(size=(4, 6), scale=1, layout="NHWC", color="BGR", mean=(1, 2, 3)))
    np.testing.assert_array_equal(bgr, pixels[None, :, :, ::-1].astype(np.float32) - np.array([1, 2, 3], np.float32))
    gray = read_image(file, ImageOptions(size=(4, 6), scale=1, color="gray"))
    assert gray.shape == (1, 1, 4, 6)
    # Pillow rounds the luma to whole steps.
    np.testing.assert_allclose(gray[0, 0], pixels @ [0.299, 0.587, 0.114], rtol=0, atol=1)


def test_center_crop_after_resizing_the_shorter_side(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", noise(40, 60))
    array = read_image(file, ImageOptions(size=(16, 16), resize=20, scale=1, layout="NHWC"))
    resized = Image.open(file).resize((30, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(array[0], np.asarray(resized, np.float32)[2:18, 7:23])


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (7, 90), (90, 7), (33, 31), (1, 1)])
@pytest.mark.parametrize("size", [(16, 16), (8, 24), (25, 3)])
def test_any_proportions_are_covered(tmp_path: Path, height: int, width: int, size: tuple[int, int]) -> None:
    # A uniform image stays uniform unless the crop reaches beyond its border, which would be black.
    file = save(tmp_path / "a.png", np.full((height, width, 3), 200))
    for options in (
        ImageOptions(size=size, scale=1),
        ImageOptions(size=size, scale=1, resize=25),
        ImageOptions(size=size, scale=1, crop="none"),
    ):
        np.testing.assert_array_equal(read_image(file, options), np.full((1, 3, *size), 200, np.float32))


def test_stretching(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", noise(40, 60))
    array = read_image(file, ImageOptions(size=(8, 8), crop="none", scale=1, layout="NHWC", interpolation="bicubic"))
    wanted = Image.open(file).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(array[0], np.asarray(wanted, np.float32))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_eight_bit_mode_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    name = "a.jpg" if mode == "CMYK" else "a.png"
    Image.fromarray(noise(5, 5)).convert(mode).save(tmp_path / name)
    assert read_image(tmp_path / name, ImageOptions(size=(4, 4))).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("transparency", [1, bytes([0, 100, 255])])
def test_a_transparent_palette_gives_no_warning(tmp_path: Path, transparency: int | bytes) -> None:
    Image.fromarray(noise(5, 5)).quantize(16).save(tmp_path / "a.png", transparency=transparency)
    assert read_image(tmp_path / "a.png", ImageOptions(size=(4, 4))).shape == (1, 3, 4, 4)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 5), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep.png has more than 8 bits per channel"):
        read_image(tmp_path / "deep.png", ImageOptions(size=(4, 4)))


# -- folders -----------------------------------------------------------------------


def test_a_folder_is_read_recursively_in_the_order_of_paths(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.jpeg", "a.png", "c.bmp", "b/c/0.webp", ".hidden/x.png", "b/._1.jpg"):
        save(tmp_path / name, noise(5, 5))
    (tmp_path / "labels.txt").write_text("not an image")
    names = [file.relative_to(tmp_path).as_posix() for file in find_images(tmp_path)]
    assert names == ["a.png", "b/1.jpeg", "b/2.JPG", "b/c/0.webp", "c.bmp"]
    samples = image_folder(tmp_path, ImageOptions(size=(4, 4)))
    assert samples.count == 5
    assert [list(s) for s in samples] == [[""]] * 5


def test_subfolders_are_classes(tmp_path: Path) -> None:
    options = ImageOptions(size=(2, 2))
    for name in ("dog/1.png", "cat/deep/2.png", "dog/3.png"):
        save(tmp_path / name, noise(2, 2))
    samples = list(image_folder(tmp_path, options))
    assert [int(sample["labels"][0]) for sample in samples] == [0, 1, 1]
    save(tmp_path / "loose.png", noise(2, 2))
    assert all("labels" not in sample for sample in image_folder(tmp_path, options))


def test_real_photographs(shared: Path) -> None:
    options = ImageOptions(size=(96, 96), crop="none", layout="NHWC")
    samples = image_folder(shared / "data" / "photos", options)
    assert samples.count == 300
    for sample in samples.head(20):
        assert sample[""].shape == (1, 96, 96, 3)
        assert 0 <= sample[""].min() < sample[""].max() <= 1


def test_no_folder_no_images(tmp_path: Path) -> None:
    options = ImageOptions(size=(4, 4))
    with pytest.raises(InputError, match="holds no images"):
        image_folder(tmp_path, options)
    with pytest.raises(InputError, match="there is no folder"):
        image_folder(tmp_path / "absent", options)
    with pytest.raises(InputError, match="is a file, not a folder"):
        image_folder(save(tmp_path / "a.png", noise(5, 5)), options)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_undecodable_images_name_the_file(tmp_path: Path, suffix: str) -> None:
    options = ImageOptions(size=(4, 4))
    path = save(tmp_path / f"good{suffix}", noise(40, 40))
    whole = path.read_bytes()
    for raw in (b"", b"hello", np.random.default_rng(1).bytes(500), whole[: len(whole) // 2]):
        path.write_bytes(raw)
        with pytest.raises(InputError, match=rf"good{suffix} cannot be decoded as an image") as caught:
            list(image_folder(tmp_path, options))
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_damaged_images_are_an_error_or_an_image(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", noise(20, 20))
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(60):
        raw = bytearray(whole)
        for position in rng.integers(0, min(len(raw), 200), 3):
            raw[position] = int(rng.integers(0, 256))
        path.write_bytes(raw)
        try:
            assert read_image(path, ImageOptions(size=(4, 4))).shape == (1, 3, 4, 4)
        except InputError:
            continue


# -- options -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"size": (4,)}, "size = (4,) is not a size"),
        ({"size": 4}, "size = 4 is not a size"),
        ({"size": (0, 4)}, "size = (0, 4) is not a size"),
        ({"size": (4.0, 4)}, "size = (4.0, 4) is not a size"),
        ({"resize": 3}, "resize = 3 does not cover size (4, 4)"),
        ({"resize": 8, "crop": "none"}, "resize = 8 keeps the proportions"),
        ({"crop": "left"}, "crop = 'left' is not known"),
        ({"layout": "CHW"}, "layout = 'CHW' is not known"),
        ({"color": "rgb"}, "color = 'rgb' is not known"),
        ({"interpolation": "cubic"}, "interpolation = 'cubic' is not known"),
        ({"mean": (0.5, 0.5)}, "mean = (0.5, 0.5) has 2 values"),
        ({"mean": 0.5}, "mean = 0.5 is not made of finite numbers"),
        ({"mean": (0.5, 0.5, 0.5), "color": "gray"}, "mean = (0.5, 0.5, 0.5) has 3 values"),
        ({"std": (1.0, 0.0, 1.0)}, "std = (1.0, 0.0, 1.0) is not positive"),
        ({"std": (float("nan"),)}, "std = (nan,) is not made of finite numbers"),
        ({"scale": 0}, "scale = 0 makes every image the same"),
        ({"scale": "1/255"}, "scale = '1/255' is not made of finite numbers"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError) as caught:
        ImageOptions(**{"size": (4, 4), **options})
    assert caught.value.message == f"image option {found}" or caught.value.message.startswith(f"image option {found}")
    assert caught.value.hint
