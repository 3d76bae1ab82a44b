"""What a build is made of, by content: digests that its key is made of, and files on their way to other machines."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from edgeqwt import toml
from edgeqwt.calibration.settings import read_toml
from edgeqwt.errors import InputError
from edgeqwt.extras import versions_of
from edgeqwt.pipeline import versions as core_versions
from edgeqwt.regular_files import regular

PACKAGE = Path(__file__).parents[1]
CONVERTERS = ("torch", "onnx2tf", "onnx")
"""Packages besides the core's whose versions decide what comes out of a conversion."""
_FUNCTION = re.compile(r"(.+\.py):(\w+)")


def digest(value: object) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_of(text: str, folder: Path) -> str:
    """What a plan calls a file, with the path that it stands for: relative to a folder, where it lies there."""
    found = _FUNCTION.fullmatch(text)
    path = folder / (found[1] if found else text)
    return text if not path.exists() else f"{path}:{found[2]}" if found else str(path)


def digest_of(text: str) -> tuple[str, tuple[str, ...]]:
    """The digest of what a text stands for, and the files behind it: the name itself where it is no file.

    Args:
        text: a file, a folder, file.py:function, or the name of something that comes with edgeqwt.

    Raises:
        InputError: it looks like a file, and there is none.
    """
    found = _FUNCTION.fullmatch(text)
    path = Path(found[1] if found else text)
    if path.exists():
        files = [str(path), *_behind(path)]
        return digest([found[2] if found else "", *map(_file_digest, files)]), tuple(files)
    if path.suffix or path.parent != Path():
        hint = "Paths are relative to the plan's folder, where they lie there."
        raise InputError(f"there is no file or folder {path}", hint)
    return text, ()


def _behind(path: Path) -> list[str]:
    """The folder that a description of images names."""
    try:
        if path.suffix != ".toml" or "images" not in toml.read(path):
            return []
    except ValueError:  # whoever reads it says what is wrong
        return []
    return [str(read_toml(path)[0])]


@cache
def _file_digest(text: str) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    path = Path(text)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        return digest([[p.relative_to(path).as_posix(), _content(p)] for p in inside])
    return _content(path)


def _content(path: Path) -> str:
    try:
        with regular(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from None


@cache
def versions(npu: bool = False) -> Mapping[str, str]:
    """Of what decides a build's bytes: packages, and the code of edgeqwt itself, as checkouts have no other version.

    Args:
        npu: whether an NPU's compiler takes part.
    """
    parts = (PACKAGE, PACKAGE / "converters", PACKAGE / "target")  # the last two may be links
    code = sorted(path for part in parts for path in part.rglob("*") if path.suffix in (".py", ".toml"))
    inside = hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()
    packages = (*CONVERTERS, *(["ethos-u-vela"] if npu else []))
    return {**core_versions(), **versions_of(*packages), "code": inside[:16]}


# -- files on their way ---------------------------------------------------------


def packed(path: Path, name: str) -> bytes:
    """A file or folder as an archive, by a name in it; "." is what the folder holds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(path, name)
    return buffer.getvalue()


def unpacked(data: bytes, folder: Path) -> None:
    """Writes what `packed` made into a folder."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(folder, filter="data")


def mirrored(options: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """Options of a build with other paths in place of their files.

    Args:
        options: of `build`.
        files: path to path.
    """

    def other(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = _FUNCTION.fullmatch(value)
        path, end = (found[1], f":{found[2]}") if found else (value, "")
        return files.get(path, path) + end

    return {name: other(value) for name, value in options.items()}
