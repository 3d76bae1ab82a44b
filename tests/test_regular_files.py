from __future__ import annotations

from pathlib import Path

import pytest

from edgeqwt.errors import InputError
from edgeqwt.regular_files import of_its_kind


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("model.onnx", b"", "empty"),
        ("model.tflite", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        ("model.keras", b"\n<!DOCTYPE html><html>", "web page"),
        ("model.pt", b"\x1f\x8b\x08\x00", "gzip"),
        ("model.onnx", b"PK\x03\x04 ", "zip archive"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=what) as caught:
        of_its_kind(tmp_path / name)
    assert caught.value.hint


@pytest.mark.parametrize(("name", "content"), [("model.keras", b"PK\x03\x04 "), ("model.onnx", b"\x08\x03\x12\x07")])
def test_files_that_may_be_what_they_are_called(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert of_its_kind(tmp_path / name) == tmp_path / name
