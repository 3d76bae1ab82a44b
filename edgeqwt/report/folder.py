"""An output folder that is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeqwt.errors import InputError

REPORT = "report.json"  # what tells a folder of ours from somebody's
SCHEMA = "edgeqwt.report"


def check_destination(path: Path, overwrite: bool) -> None:
    """Finds out before the work begins whether the folder can be made.

    Raises:
        InputError: the place is a file, is not writable, or holds something that no build made.
    """
    parent = path.absolute().parent
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", "Name a folder to make.")
    if not parent.is_dir():
        raise InputError(f"{parent} does not exist", "Make it first.")
    if not os.access(parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"{path} is in a place that cannot be written to", "Choose another place.")
    if path.is_dir() and any(path.iterdir()) and not _is_ours(path) and not overwrite:
        raise InputError(
            f"{path} is not empty, and no build made it", "Choose another folder, or replace this one with --overwrite."
        )


@contextmanager
def whole_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well.

    When it does not, `path` is what it was before.
    """
    check_destination(path, overwrite)
    path = path.absolute()
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        work.chmod(0o755)
        yield work
        _put_in_place(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put_in_place(work: Path, path: Path) -> None:
    if not path.exists():
        os.rename(work, path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    os.rename(path, old / "it")
    try:
        os.rename(work, path)
    except BaseException:
        os.rename(old / "it", path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    try:
        found = json.loads((path / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("schema") == SCHEMA
