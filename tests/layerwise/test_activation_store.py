from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array
from edgeqwt.layerwise.activation_store import SPARE, ActivationStore
from edgeqwt.runtime.parallel import ordered


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["int8", "float32", "int64", "bool"])
def test_what_was_put_comes_back(shape: tuple[int, ...], dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 2, (7, *shape)).astype(dtype)
    with ActivationStore() as store:
        store.open("a")
        store.put("a", 4, values[4:])
        store.put("a", 0, values[:4])
        np.testing.assert_array_equal(store.get("a", 0, 7, shape, np.dtype(dtype)), values)
        np.testing.assert_array_equal(store.get("a", 3, 2, shape, np.dtype(dtype)), values[3:5])


def test_keys_are_apart() -> None:
    with ActivationStore() as store:
        for key in ("a", ("a", 1)):
            store.open(key)
        store.put("a", 0, np.array([1.0]))
        store.put(("a", 1), 0, np.array([2.0]))
        assert store.get("a", 0, 1, (), np.dtype(float)) == 1
        store.drop("a")
        assert "a" not in store
        assert store.get(("a", 1), 0, 1, (), np.dtype(float)) == 2


def test_the_next_key_takes_over_the_file_of_one_that_is_dropped() -> None:
    before = open_files()
    with ActivationStore() as store:
        for number in range(3 * SPARE):
            store.open(number)
            store.put(number, 0, np.full((2, 5 - number % 4), number, np.int8))
            wanted = np.full((2, 5 - number % 4), number, np.int8)
            np.testing.assert_array_equal(store.get(number, 0, 2, (5 - number % 4,), np.dtype(np.int8)), wanted)
            store.drop(number)
            assert open_files() == before + 1
        for number in range(2 * SPARE):
            store.open(number)
        for number in range(2 * SPARE):
            store.drop(number)
        assert open_files() == before + SPARE
    assert open_files() == before


def test_what_large_keys_took_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise small ones that are needed for long would each hold the disk space of a large one before them."""
    monkeypatch.setattr("edgeqwt.layerwise.activation_store.LARGEST_SPARE", 1000)
    before = open_files()
    with ActivationStore() as store:
        for size, kept in ((1000, 1), (1001, 0)):
            store.open("a")
            store.put("a", 0, np.zeros((1, size), np.int8))
            store.drop("a")
            assert open_files() == before + kept


def test_arrays_that_are_not_contiguous() -> None:
    values = np.arange(24.0).reshape(2, 3, 4).transpose(0, 2, 1)
    with ActivationStore() as store:
        store.open("a")
        store.put("a", 0, values)
        np.testing.assert_array_equal(store.get("a", 0, 2, (4, 3), values.dtype), values)


def test_threads_write_side_by_side() -> None:
    def work(store: ActivationStore, first: int) -> None:
        store.put("a", first, np.full((4, 100), first, np.int32))

    with ActivationStore() as store:
        store.open("a")
        list(ordered([store] * 4, work, range(0, 400, 4)))
        found = store.get("a", 0, 400, (100,), np.dtype(np.int32))
    np.testing.assert_array_equal(found[:, 0], np.arange(400) // 4 * 4)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_files_vanish(folder: Path, error: type[BaseException] | None) -> None:
    before = open_files()

    def use() -> None:
        with ActivationStore() as store:
            store.open("a")
            store.put("a", 0, np.zeros((10, 10)))
            assert not list(folder.iterdir())  # the file has no name
            if error:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    assert open_files() == before
    assert not list(folder.iterdir())


@pytest.fixture
def small_disk() -> Iterator[int]:
    """Files may not grow beyond a megabyte: the system cuts a write short there, as on a full disk."""
    limit = 1 << 20
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_full_disk_is_an_error(small_disk: int, folder: Path) -> None:
    values: Array = np.zeros((3, small_disk // 2 - 100), np.int8)
    before = open_files()
    with ActivationStore() as store:
        store.open("a")
        store.put("a", 0, values[:2])
        with pytest.raises(InputError, match="activations cannot be kept") as caught:
            store.put("a", 1, values[:2])
    assert str(folder) in caught.value.message
    assert "TMPDIR" in caught.value.hint
    assert open_files() == before


def test_folder_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="No such file or directory"), ActivationStore() as store:
        store.open("a")
