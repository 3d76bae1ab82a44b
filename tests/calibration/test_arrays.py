from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.arrays import from_arrays, from_npy, from_npz
from edgeqwt.calibration.samples import Samples
from edgeqwt.errors import InputError


def refused(open_it: Callable[[], Samples]) -> InputError:
    with pytest.raises(InputError) as caught:
        list(open_it())
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


# -- what is read ----------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ">f4", "int64", "uint8", "bool"])
def test_npz_gives_each_sample_with_batch_one(tmp_path: Path, save: Any, dtype: str) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 200, (5, 3, 4, 2)).astype(dtype)
    ids = rng.integers(0, 1000, (5, 7))
    save(tmp_path / "s.npz", pixels=pixels, ids=ids)
    samples = from_npz(tmp_path / "s.npz")
    assert samples.count == 5
    for _ in range(2):  # every pass is the same
        read = list(samples)
        assert len(read) == 5
        for i, sample in enumerate(read):
            assert set(sample) == {"pixels", "ids"}
            np.testing.assert_array_equal(sample["pixels"], pixels[i : i + 1])
            np.testing.assert_array_equal(sample["ids"], ids[i : i + 1])
            assert sample["pixels"].dtype == pixels.dtype.newbyteorder("=")
            assert sample["pixels"].flags.writeable


def test_npy(tmp_path: Path) -> None:
    x = np.random.default_rng(2).standard_normal((4, 2, 3)).astype(np.float32)
    np.save(tmp_path / "s.npy", x)
    samples = from_npy(tmp_path / "s.npy")
    assert samples.count == 4
    np.testing.assert_array_equal(np.concatenate([s[""] for s in samples]), x)


def test_arrays_in_memory_are_copied_sample_by_sample() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    samples = from_arrays({"x": x})
    for sample in samples:
        sample["x"][:] = -1
    assert x.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert [s["x"].shape for s in samples] == [(1, 2)] * 3


def test_one_number_per_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", t=np.arange(3))
    assert [s["t"].tolist() for s in from_npz(tmp_path / "s.npz")] == [[0], [1], [2]]


def test_two_passes_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "s.npz", x=np.arange(20).reshape(10, 2))
    samples = from_npz(tmp_path / "s.npz")
    for a, b in zip(samples, samples, strict=True):
        np.testing.assert_array_equal(a["x"], b["x"])


@pytest.mark.parametrize("kind", ["stored", "compressed", "npy"])
def test_memory_does_not_hold_the_file(tmp_path: Path, kind: str) -> None:
    # 4096 samples of 16 KiB: 64 MiB. What a pass may hold: a few samples and zipfile's buffers.
    x = np.zeros((4096, 64, 64), np.float32)
    x[:, 0, 0] = np.arange(4096)
    path = tmp_path / ("s.npy" if kind == "npy" else "s.npz")
    if kind == "npy":
        np.save(path, x)
    else:
        (np.savez if kind == "stored" else np.savez_compressed)(path, x=x)
    del x
    tracemalloc.start()
    try:
        samples = from_npy(path) if kind == "npy" else from_npz(path)
        total = sum(float(a[0, 0, 0]) for s in samples for a in s.values())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 4096 * 4095 / 2
    assert peak < 1 << 20


# -- what is refused ---------------------------------------------------------------


def test_missing_files(tmp_path: Path) -> None:
    assert "there is no file" in refused(lambda: from_npz(tmp_path / "s.npz")).message
    assert "there is no file" in refused(lambda: from_npy(tmp_path / "s.npy")).message


def test_a_directory_in_place_of_a_file(tmp_path: Path) -> None:
    assert "Is a directory" in refused(lambda: from_npz(tmp_path)).message
    assert "Is a directory" in refused(lambda: from_npy(tmp_path)).message


def test_different_numbers_of_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", a=np.zeros((3, 2)), b=np.zeros((4, 2)))
    assert "different numbers of samples: 'a' 3, 'b' 4" in refused(lambda: from_npz(tmp_path / "s.npz")).message


def test_no_samples_no_axis_no_elements_no_arrays(tmp_path: Path) -> None:
    assert "has no samples" in refused(lambda: from_arrays({"x": np.zeros((0, 3))})).message
    assert "single number" in refused(lambda: from_arrays({"x": np.array(3.0)})).message
    assert "is empty" in refused(lambda: from_arrays({"x": np.zeros((3, 0))})).message
    assert "holds no arrays" in refused(lambda: from_arrays({})).message
    np.savez(tmp_path / "s.npz", x=np.zeros((0, 3)))
    assert "has no samples" in refused(lambda: from_npz(tmp_path / "s.npz")).message
    np.savez(tmp_path / "e.npz")
    assert "holds no arrays" in refused(lambda: from_npz(tmp_path / "e.npz")).message


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([{"a": 1}], dtype=object), "pickled Python objects"),
        (np.array(["text"]), "dtype <U4"),
        (np.ones((2, 2), np.complex64), "dtype complex64"),
        (np.zeros(2, [("a", "f4")]), "dtype [('a', '<f4')]"),
        (np.asfortranarray(np.arange(12.0).reshape(3, 4)), "Fortran order"),
    ],
)
def test_arrays_that_are_no_plain_numbers(tmp_path: Path, array: Any, found: str) -> None:
    np.savez(tmp_path / "s.npz", x=array)
    np.save(tmp_path / "s.npy", array)
    error = refused(lambda: from_npz(tmp_path / "s.npz"))
    assert found in error.message
    assert "'x'" in error.message
    assert found in refused(lambda: from_npy(tmp_path / "s.npy")).message


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "'readme.txt', which is not an array" in refused(lambda: from_npz(tmp_path / "s.npz")).message


def test_a_member_that_is_no_npy(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("x.npy", "hello")
    assert "corrupt" in refused(lambda: from_npz(tmp_path / "s.npz")).message


def test_a_header_that_claims_more_than_the_file_holds(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.zeros((100, 10), np.float32))
    raw = (tmp_path / "s.npy").read_bytes()
    (tmp_path / "s.npy").write_bytes(raw.replace(b"(100, 10)", b"(10**9,)"))
    assert "corrupt" in refused(lambda: from_npy(tmp_path / "s.npy")).message
    (tmp_path / "s.npy").write_bytes(raw.replace(b"(100, 10), }          ", b"(99999999999999, 1), }"))
    assert "truncated or corrupt" in refused(lambda: from_npy(tmp_path / "s.npy")).message


def test_a_file_that_changes_between_passes(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=np.zeros((3, 2)))
    samples = from_npz(tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", x=np.zeros((3, 4)))
    assert "changed while it was in use" in refused(lambda: samples).message
    (tmp_path / "s.npz").unlink()
    assert "there is no file" in refused(lambda: samples).message


@pytest.mark.parametrize("kind", ["stored", "compressed", "npy"])
def test_truncated_anywhere(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("s.npy" if kind == "npy" else "s.npz")
    x = np.random.default_rng(3).standard_normal((20, 5))
    if kind == "npy":
        np.save(path, x)
    else:
        (np.savez if kind == "stored" else np.savez_compressed)(path, x=x, y=x)
    whole = path.read_bytes()
    for length in [*range(0, 200, 7), *range(200, len(whole) - 1, 53), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(lambda: from_npy(path) if kind == "npy" else from_npz(path))


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_any_changed_byte_is_an_error_or_does_no_harm(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "s.npz"
    x = np.random.default_rng(4).standard_normal((20, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    messages = []
    for position in range(0, len(whole), 3):
        raw = bytearray(whole)
        raw[position] ^= int(rng.integers(1, 256))
        path.write_bytes(raw)
        try:
            read = np.concatenate([next(iter(s.values())) for s in from_npz(path)])
        except InputError as error:
            messages.append(error.message)
        else:
            # Fields that carry no data (times, attributes, the member's name) may differ; the data may not.
            np.testing.assert_array_equal(read, x)
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)


def test_random_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for length in (0, 1, 10, 1000):
        (tmp_path / "s.npz").write_bytes(rng.bytes(length))
        (tmp_path / "s.npy").write_bytes(rng.bytes(length))
        assert "corrupt" in refused(lambda: from_npz(tmp_path / "s.npz")).message
        assert "corrupt" in refused(lambda: from_npy(tmp_path / "s.npy")).message


def test_a_header_that_pythons_tokenizer_fails_on(tmp_path: Path) -> None:
    # From `make fuzz`: a header that runs into the numbers' zeros was a SystemError of Python 3.12.
    np.save(tmp_path / "s.npy", np.arange(8).reshape(4, 2))
    raw = (tmp_path / "s.npy").read_bytes()
    cut = raw.index(b" (4, 2)")
    (tmp_path / "s.npy").write_bytes(raw[:10] + raw[cut:] + bytes(cut))
    assert "corrupt" in refused(lambda: from_npy(tmp_path / "s.npy")).message


def test_random_npy_headers(tmp_path: Path) -> None:
    # numpy parses the header as a Python literal: garbage there must not escape as a SyntaxError or the like.
    rng = np.random.default_rng(7)
    np.save(tmp_path / "good.npy", np.zeros((3, 2), np.float32))
    good = (tmp_path / "good.npy").read_bytes()
    messages = []
    for _ in range(300):
        raw = bytearray(good)
        for position in rng.integers(8, 80, 3):
            raw[position] = int(rng.integers(0, 256))
        (tmp_path / "s.npy").write_bytes(raw)
        try:
            list(from_npy(tmp_path / "s.npy"))
        except InputError as error:
            messages.append(error.message)
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)
