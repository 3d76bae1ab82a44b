"""Output that is there whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeqwt.errors import InputError

MODEL, FLOAT_MODEL, LOG, REPORT = "model.tflite", "float.tflite", "conversion.log", "report.json"
FILES = frozenset({MODEL, FLOAT_MODEL, LOG, REPORT})
PACKAGE = "package"  # a folder; the report lists its files
SCHEMA = "edgeqwt.report"  # in the report: what tells a folder of ours from somebody's


def check_file(path: Path) -> None:
    """Finds out before the work begins whether a file can be written.

    Raises:
        InputError: the place is a folder or is not writable.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder", "Name the file to write.")
    _check_parent(path)


def copy_file(source: Path, path: Path) -> None:
    """Copies a file whole or not at all.

    Raises:
        InputError: the place cannot be written to, or the disk is full.
    """
    work = _beside(path.resolve())
    try:
        shutil.copyfile(source, work)
        os.replace(work, path.resolve())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "Choose another place.") from None
    finally:
        work.unlink(missing_ok=True)


def check_folder(path: Path, overwrite: bool) -> None:
    """Finds out before the work begins whether a folder can be made or replaced.

    Raises:
        InputError: the place is a file, is not writable, or holds something that no build made.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", "Name a folder to make.")
    _check_parent(path)
    if not path.is_dir():
        return
    if os.path.ismount(path):
        raise InputError(f"{path} is a mount point, which cannot be replaced", f"Name a folder inside it: {path}/out.")
    if Path.cwd().is_relative_to(path.resolve()):
        raise InputError(f"{path} is the working folder, or around it", "Name a folder inside it.")
    if overwrite:
        return
    strange = sorted({str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()} - _ours(path))
    if strange:
        raise InputError(
            f"{path} holds {strange[0]!r}, which no build made",
            "Choose another folder, or replace this one with --overwrite.",
        )


@contextmanager
def whole_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well.

    When it does not, `path` is what it was before.
    """
    check_folder(path, overwrite)
    path = path.resolve()  # where `path` is a link, what it leads to is replaced, and the link stays
    work = _beside(path)
    try:
        _make(work, path)
        yield work
        _put_in_place(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make(work: Path, path: Path) -> None:
    try:
        work.mkdir()
    except OSError as error:
        raise InputError(f"{path} cannot be made: {error.strerror}", "Choose another place.") from None


def _put_in_place(work: Path, path: Path) -> None:
    if not path.exists():
        os.rename(work, path)
        return
    old = _beside(path)
    try:
        os.rename(path, old)
        os.rename(work, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _check_parent(path: Path) -> None:
    parent = path.resolve().parent
    if not parent.is_dir():
        raise InputError(f"the folder {parent} does not exist", "Make it first.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {parent} cannot be written to", "Choose another place.")


def _ours(path: Path) -> frozenset[str]:
    """What the builds that made a folder wrote into it: one, or one per length of sequences in folders of it."""
    apart = {f"{folder.name}/{name}" for folder in path.glob("seq*") for name in _written(folder)}
    return _written(path) | apart


def _written(path: Path) -> frozenset[str]:
    """What the build that made a folder wrote into it; nothing where no build made it."""
    try:
        found = json.loads((path / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return frozenset()
    package = found.get("package")
    files = [f"{PACKAGE}/{name}" for name in package if isinstance(name, str)] if isinstance(package, list) else []
    return FILES | frozenset(files)
