from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgeqwt import user_cache
from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converters.cache import Cache, key_of, opened
from edgeqwt.graph import flatbuffer


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def kept(cache: Cache, key: str, place: Path, content: bytes) -> None:
    """An entry of one file in a folder."""
    file = place / "out" / "model.tflite"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    cache.keep(key, place, [file])


def restored(cache: Cache, key: str, place: Path) -> bytes | None:
    place.mkdir(exist_ok=True)
    return (place / "out" / "model.tflite").read_bytes() if cache.restore(key, place) else None


# -- entries -----------------------------------------------------------------------------


def test_what_was_kept_comes_back(cache: Cache, tmp_path: Path) -> None:
    assert restored(cache, "a", tmp_path / "before") is None
    kept(cache, "a", tmp_path / "work", b"model")
    assert restored(cache, "a", tmp_path / "after") == b"model"
    assert restored(cache, "b", tmp_path / "other") is None
    assert [path.name for path in cache.folder.iterdir()] == ["a"]


@pytest.mark.parametrize("damage", ["short", "other", "empty"])
def test_a_damaged_entry_is_not_believed(cache: Cache, tmp_path: Path, damage: str) -> None:
    kept(cache, "a", tmp_path / "work", b"model")
    data = (cache.folder / "a").read_bytes()
    (cache.folder / "a").write_bytes({"short": data[:-1], "other": data[:-9] + b"?" + data[-8:], "empty": b""}[damage])
    assert restored(cache, "a", tmp_path / "after") is None
    assert not (cache.folder / "a").exists()


def test_what_was_used_last_long_ago_goes_first(tmp_path: Path) -> None:
    kept(Cache(tmp_path / "one"), "a", tmp_path / "work", bytes(1000))
    size = (tmp_path / "one" / "a").stat().st_size
    cache = Cache(tmp_path / "cache", most=3 * size)
    for age, key in enumerate("abc"):
        kept(cache, key, tmp_path / "work", bytes(1000))
        os.utime(cache.folder / key, (age, age))
    assert cache.restore("a", tmp_path)  # now it was used last
    kept(cache, "d", tmp_path / "work", bytes(1000))
    assert sorted(path.name for path in cache.folder.iterdir()) == ["a", "c", "d"]
    kept(Cache(cache.folder, most=10), "e", tmp_path / "work", bytes(1000))  # larger than all that may be kept
    assert not (cache.folder / "e").exists()


def test_builds_at_the_same_time(tmp_path: Path) -> None:
    """Each sees an entry whole or not at all, whoever else writes it or makes room."""
    kept(Cache(tmp_path / "one"), "a", tmp_path / "work", bytes(5000))
    cache = Cache(tmp_path / "cache", most=2 * (tmp_path / "one" / "a").stat().st_size)

    def build(n: int) -> None:
        for round in range(20):
            key, place = f"{(n + round) % 3}", tmp_path / f"build{n}"
            found = restored(cache, key, place)
            assert found is None or found == key.encode() * 5000
            kept(cache, key, place, key.encode() * 5000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(build, range(4)))
    assert not [path for path in cache.folder.iterdir() if path.name.startswith(".")]


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    kept(cache, "a", tmp_path / "work", b"model")
    assert restored(cache, "a", tmp_path / "after") is None


# -- keys and folders --------------------------------------------------------------------


def test_a_key_is_of_content_and_options(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    one, same, other = (key_of(tmp_path / name, sys.executable, "onnx2tf") for name in "abc")
    assert one == same != other
    assert key_of(tmp_path / "a", sys.executable, "onnx2tf", "-tb") != one


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(user_cache.VARIABLE, user_cache.OFF)
    assert opened() is None
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path))
    assert opened() == Cache(tmp_path / "conversions")
    assert opened(wanted=False) is None
    monkeypatch.delenv(user_cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert opened() == Cache(tmp_path / "home" / "edgeqwt" / "conversions")


# -- conversions -------------------------------------------------------------------------


@pytest.mark.requires("torch", "onnx2tf")
def test_only_the_same_model_comes_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The module's code is the same each time; what counts are the weights that it has."""
    from torch import nn

    from edgeqwt.converted import ConvertedModel
    from edgeqwt.converters.convert import convert
    from tests import models

    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    samples = from_arrays({"input": np.ones((2, 4), np.float32)})

    def converted(seed: int, folder: str) -> tuple[ConvertedModel, bool]:
        model = convert(models.seeded(lambda: nn.Linear(4, 3), seed), samples, tmp_path / folder)
        return model, model.cached

    first, ran = converted(0, "first")
    again, cached = converted(0, "again")
    _, other = converted(1, "other")
    assert (ran, cached, other) == (False, True, False)
    assert flatbuffer.to_bytes(again.graph) == flatbuffer.to_bytes(first.graph)
    assert again.locations == first.locations
    assert again.log is not None
    assert again.log.read_text() == (tmp_path / "first" / "onnx2tf.log").read_text()
