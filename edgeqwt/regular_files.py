"""Files that have an end, and what some hold: users name pipes and devices by mistake, whose reading may have none."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeqwt.errors import InputError


def json_object(path: Path) -> Mapping[str, Any]:
    """The object that a JSON file holds; an empty one where there is no such file, or something else in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def regular(path: Path) -> Path:
    """The path, unless it is a pipe, a device or a socket; what is missing or a folder, its reader tells better.

    Raises:
        InputError: it is one of these.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return path
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return path
    raise InputError(f"{path} is no regular file", "Name a file; what a pipe or a device gives, write into one first.")


_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run `git lfs pull` where it came from."),
    (b"<!doctype html", "a web page", "Its download went wrong: take the file itself, not the page that shows it."),
    (b"<html", "a web page", "Its download went wrong: take the file itself, not the page that shows it."),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it: gunzip, or tar xzf."),
)
_ARCHIVE = (b"PK\x03\x04", "a zip archive", "Unpack it, and name the model inside.")
ARCHIVES = (".keras", ".pt2", ".pt", ".pth", ".ts", ".torchscript", ".jit", ".ptl", ".ckpt")
"""Files of models that are zip archives."""


def of_its_kind(path: Path) -> Path:
    """The path of a file of a model, unless its first bytes are those of something that is none.

    Raises:
        InputError: it is empty, a pointer of Git LFS, a web page, or packed; saying what to do about it.
    """
    if not path.is_file():
        return path
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise InputError(f"{path} is empty", "Copy or save it again.")
    packed = () if path.suffix in ARCHIVES else (_ARCHIVE,)
    for beginning, what, way_out in (*_OTHERS, *packed):
        if start.lstrip().lower().startswith(beginning.lower()):
            raise InputError(f"{path} is {what}", way_out)
    return path
