from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeqwt.calibration.images import ImageOptions
from edgeqwt.calibration.samples import InputSpec
from edgeqwt.calibration.sources import open_samples
from edgeqwt.errors import InputError

SPEC = [InputSpec("x", (1, 3, 4, 4), "float32")]
X = np.random.default_rng(0).standard_normal((5, 3, 4, 4)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one source of every kind."""
    monkeypatch.chdir(tmp_path)
    np.savez("s.npz", x=X)
    np.save("s.npy", X)
    (tmp_path / "data.py").write_text(
        "import numpy as np\ndef samples():\n    return list(np.load('s.npy')[:, None])\n"
    )
    (tmp_path / "photos").mkdir()
    for i in range(5):
        Image.fromarray(np.full((6, 8, 3), 40 * i, np.uint8)).save(f"photos/{i}.png")
    (tmp_path / "images.toml").write_text('[images]\nfolder = "photos"\nsize = [4, 4]\n')
    return tmp_path


def values(source: Any, **options: Any) -> np.ndarray[Any, np.dtype[Any]]:
    return np.concatenate([sample["x"] for sample in open_samples(source, SPEC, **options)])


@pytest.mark.parametrize("source", ["s.npz", "s.npy", "data.py:samples", Path("s.npz")])
def test_paths(folder: Path, source: str | Path) -> None:
    np.testing.assert_array_equal(values(source), X)
    assert open_samples(source).origin == str(source)


@pytest.mark.parametrize(
    "source",
    [
        {"x": X},
        X,
        {"x": X.tolist()},
        lambda: ({"x": x[None]} for x in X),
        [x[None] for x in X],
        [{"x": x[None]} for x in X],
    ],
)
def test_python_values(source: Any) -> None:
    np.testing.assert_array_equal(values(source), X)


def test_open_archives_and_samples(folder: Path) -> None:
    with np.load("s.npz") as archive:
        np.testing.assert_array_equal(values(archive), X)
    np.testing.assert_array_equal(values(open_samples("s.npz")), X)


@pytest.mark.requires("torch")
def test_a_torch_tensor() -> None:
    import torch

    np.testing.assert_array_equal(values(torch.from_numpy(X)), X)
    np.testing.assert_array_equal(values({"x": torch.from_numpy(X)}), X)


def test_images_by_options_and_by_toml(folder: Path) -> None:
    by_options = values("photos", images=ImageOptions(size=(4, 4)))
    assert by_options.shape == (5, 3, 4, 4)
    np.testing.assert_allclose(by_options[:, 0, 0, 0], np.arange(5) * 40 / 255, atol=1e-6)  # float32 roundings below 1
    np.testing.assert_array_equal(values("images.toml"), by_options)


def test_without_specs_nothing_is_checked_or_renamed(folder: Path) -> None:
    assert list(open_samples("s.npy").first()) == [""]
    assert open_samples({"y": X.astype(np.float64)}).first()["y"].dtype == np.float64


def test_with_specs_samples_are_checked(folder: Path) -> None:
    with pytest.raises(InputError, match=r"s.npz: input 'y' of sample 0 has shape"):
        open_samples("s.npz", [InputSpec("y", (1, 3, 4, 5), "float32")]).first()
    assert list(open_samples("s.npz", [InputSpec("y", (1, 3, 4, 4), "float32")]).first()) == ["y"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("absent.npz", "there is no file absent.npz"),
        ("absent.npy", "there is no file absent.npy"),
        ("absent.toml", "there is no file absent.toml"),
        ("absent", "there is no file or folder absent"),
        ("absent.py:samples", "there is no file absent.py"),
        ("data.py", "data.py does not say which function"),
        ("data.py:other", "data.py has no function 'other'"),
        ("photos", "photos is a folder: it is not said how"),
        ("photos/0.png", "photos/0.png is a single image"),
        ("data.csv", "samples cannot be read from data.csv"),
        (3, "samples cannot come from an object of type int"),
        (None, "samples cannot come from an object of type NoneType"),
        ({}, "arrays holds no arrays"),
        ({1: X}, "the key 1 is not an input name"),
        ({"x": "text"}, "dtype <U4"),
        (np.zeros((0, 3)), "has no samples"),
        ([], "has no samples"),
    ],
)
def test_what_cannot_be_a_source(folder: Path, source: Any, found: str) -> None:
    (folder / "data.csv").write_text("1,2\n")
    with pytest.raises(InputError) as caught:
        list(open_samples(source))
    assert found in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("source", ["s.npz", "images.toml", "data.py:samples", "absent", X])
def test_image_options_for_something_else(folder: Path, source: Any) -> None:
    with pytest.raises(InputError, match="image options were given"):
        open_samples(source, images=ImageOptions(size=(4, 4)))


def test_a_folder_of_a_toml_that_is_missing(folder: Path) -> None:
    (folder / "other.toml").write_text('[images]\nfolder = "absent"\nsize = [4, 4]\n')
    with pytest.raises(InputError, match="there is no folder absent"):
        open_samples("other.toml")


def test_files_are_checked_before_anything_is_read(folder: Path) -> None:
    Path("bad.npz").write_bytes(Path("s.npz").read_bytes()[:300])
    with pytest.raises(InputError, match="truncated"):
        open_samples("bad.npz")


def test_real_images_stream(shared: Path) -> None:
    # cifar10.npz holds sets of different lengths: refused by name, before anything is unpacked.
    with pytest.raises(InputError, match=r"'calibration_images' 1024.*'test_images' 10000"):
        open_samples(shared / "data" / "cifar10.npz")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("net.onnx", "net.onnx is a model, not samples"),
        ("net.tflite", "net.tflite is a model, not samples"),
        ("tensors.pt", "samples cannot be read from tensors.pt"),
    ],
)
def test_files_that_hold_no_samples(folder: Path, name: str, said: str) -> None:
    (folder / name).write_bytes(b"anything")
    with pytest.raises(InputError, match=said) as caught:
        open_samples(name)
    assert ("numpy.save" if name.endswith(".pt") else "The model comes first") in caught.value.hint


@pytest.mark.requires("torch")
def test_a_model_in_the_place_of_samples() -> None:
    import torch

    with pytest.raises(InputError, match="samples cannot come from a model, here Linear"):
        open_samples(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="returned a model, a Linear, not a stream of samples") as caught:
        open_samples(lambda: torch.nn.Linear(2, 2)).first()
    assert "The model comes first" in caught.value.hint
