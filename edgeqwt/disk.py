"""Files that are there whole or not at all, temporary ones that do not outlive their build, and errors of the disk.

What a killed process leaves is found by the lock that it held: locks (`flock`) end with their process, whatever
ends it. Where the system has no such locks, nothing is swept.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgeqwt.errors import InputError
from edgeqwt.signals import held

try:
    import fcntl

    LOCKS = True
except ImportError:  # Windows
    LOCKS = False

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FREE_SPACE = "Free space where the output goes, and for temporary files ($TMPDIR names their folder)."
OTHER_FOLDER = "Name a folder with more free space in the environment variable TMPDIR."
MARK = "edgeqwt"
DEEPEST = 100  # folders that are made for one path: Python makes each inside the call that makes the one above
LITTLE = 1 << 20  # bytes: a disk with less is full, whatever a small file may still find


# -- errors ----------------------------------------------------------------------


def cannot_write(path: Path | str, error: OSError) -> InputError:
    """The error of a path that cannot be written to, or whose disk is full."""
    hint = FREE_SPACE if error.errno in FULL else "Choose another path."
    return InputError(f"{path} cannot be written: {error.strerror or error}", hint)


def explained(error: OSError, then: str = "") -> InputError:
    """An error of the operating system's that nobody expected, in words; names the temporary folder where that is full.

    Args:
        error: with an error number.
        then: a sentence that ends the hint.
    """
    name = error.filename2 or error.filename
    folder = Path(os.environ.get("TMPDIR") or tempfile.gettempdir()).absolute()
    if error.errno in FULL and folder.is_dir():
        inside = name is not None and Path(os.fsdecode(name)).absolute().is_relative_to(folder)
        if inside or (name is None and error.errno != errno.EFBIG and shutil.disk_usage(folder).free < LITTLE):
            return InputError(f"{folder}, the folder for temporary files, is full", f"{OTHER_FOLDER} {then}".strip())
    where = f" ({os.fsdecode(name)})" if name else ""
    hint = FREE_SPACE if error.errno in FULL else "Choose another path."
    return InputError(f"{error.strerror}{where}", f"{hint} {then}".strip())


def out_of_space(folder: Path) -> InputError | None:
    """The error of a folder for a program's files, where its disk is full; None where it is not.

    Programs of others say so in as many ways as there are, or not at all, as their log is cut off, too.
    """
    if shutil.disk_usage(folder).free >= LITTLE:
        return None
    return InputError(f"the disk of {folder}, where a converter writes its files, is full", OTHER_FOLDER)


def keep_apart(output: Path, read: Iterable[object]) -> None:
    """Refuses to write over a file that is read.

    Args:
        output: file or folder that will be written.
        read: paths, whatever else it holds is no path.

    Raises:
        InputError: naming it.
    """
    for other in read:
        with contextlib.suppress(OSError, ValueError):  # names that are too long, or hold what no name holds
            if isinstance(other, str | Path) and output.exists() and Path(other).exists() and output.samefile(other):
                raise InputError(f"{output} is read, too: it would be lost", "Write to another place.")


# -- temporary files -------------------------------------------------------------


def temporary_folder_path() -> Path:
    """The folder for temporary files.

    Python passes over one that cannot be used and takes another, at worst the working folder; somebody who named one
    in TMPDIR had a reason.

    Raises:
        InputError: TMPDIR names a folder that is full or cannot be written to, or there is none at all.
    """
    named = os.environ.get("TMPDIR")
    try:
        found = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        if named:
            _require(Path(named))
        raise InputError(f"there is no folder for temporary files: {error.strerror}", OTHER_FOLDER) from None
    if named and Path(named).absolute() != found:
        _require(Path(named))
    return found


def _require(named: Path) -> None:
    """Raises InputError unless a file can be written in a folder."""
    try:
        with tempfile.TemporaryFile(dir=named) as file:
            file.write(b"edgeqwt")
    except OSError as error:
        if not named.is_dir():
            why = "is no folder" if named.exists() else "does not exist"
        else:
            why = "is full" if error.errno in FULL else "cannot be written to"
        raise InputError(f"{named}, which TMPDIR names for temporary files, {why}", OTHER_FOLDER) from None


def temporary_file() -> IO[bytes]:
    """A file without a name: it vanishes with the process, whatever ends it.

    Raises:
        InputError: as `temporary_folder_path`.
        OSError: it cannot be made.
    """
    return tempfile.TemporaryFile(dir=temporary_folder_path())


class TemporaryFolder:
    """A folder that goes with this object or, where the process is killed, with the next build.

    Attributes:
        path: of the folder.
    """

    def __init__(self) -> None:
        folder = temporary_folder_path()
        sweep(folder)
        self.path, self._lock = _locked_folder(folder)
        self.cleanup = weakref.finalize(self, _remove, self.path, self._lock)
        """Removes the folder; may be called twice."""

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()


def _locked_folder(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / f"{MARK}-{secrets.token_hex(4)}"
        lock = os.open(f"{path}.lock", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if take(lock, wait=True) is not False:  # not where a sweeping process came between
            path.mkdir(0o700)
            return path, lock
        os.close(lock)


def _remove(path: Path, lock: int) -> None:
    with held():
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.lock")
        os.close(lock)


def sweep(folder: Path) -> None:
    """Removes the temporary folders of processes that were killed."""
    for lock in folder.glob(f"{MARK}-*.lock"):
        if re.fullmatch(MARK + r"-[0-9a-f]{8}\.lock", lock.name):
            with dead(lock) as gone:
                if gone:
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)


# -- locks -----------------------------------------------------------------------


def take(descriptor: int, wait: bool = False) -> bool | None:
    """Locks an open file until it is closed, or its process ends.

    Returns:
        Whether it is locked now, and has a name still: who sweeps may have taken that away before. None where there
        are no locks: everybody goes on, and nobody sweeps.
    """
    if not LOCKS:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return os.fstat(descriptor).st_nlink > 0


@contextmanager
def dead(path: Path) -> Iterator[bool]:
    """Whether a file of ours belongs to no living process; it is then removed at the end of the block."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # gone by now, or somebody else's
        yield False
        return
    try:
        gone = _free(descriptor)
        yield gone
        if gone:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _free(descriptor: int) -> bool:
    if not LOCKS or os.fstat(descriptor).st_uid != os.getuid():
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# -- whole files -----------------------------------------------------------------


@contextmanager
def made_parents(path: Path) -> Iterator[None]:
    """Makes the folders that `path` is to lie in; where the block fails, those that it made go again.

    Raises:
        OSError: they cannot be made.
    """
    missing = [parent for parent in path.parents if not parent.exists()]  # the innermost first
    if len(missing) > DEEPEST:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for parent in missing:
            with contextlib.suppress(OSError):  # somebody put something there meanwhile
                parent.rmdir()
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when the block ends well; otherwise `path` stays as it was.

    Folders that `path` is to lie in are made. To a pipe or a device is written as it is.

    Raises:
        InputError: the path cannot be written to, or the disk is full.
    """
    if not path.resolve().name:
        raise InputError(f"{path} is a folder", "Name the file to write.")
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            # Pipes and devices stay what they are: a file in the place of /dev/null would break the whole system. Links
            # to them may lead to no name, as /dev/stdout does before a pipe.
            with path.open("wb") as device:
                yield device
            return
        path = path.resolve()  # where `path` is a link, it stays one
        for left in path.parent.glob(f".{glob.escape(path.name)}.{MARK}-*"):
            with dead(left):
                pass
        with made_parents(path), _beside(path) as (work, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            with held():
                expect(path, work)
                os.replace(work, path)
            sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all; raises as `whole_file`."""
    with whole_file(path) as file:
        file.write(data)


@contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    while True:
        work = path.with_name(f".{path.name}.{MARK}-{secrets.token_hex(4)}")
        descriptor = os.open(work, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if take(descriptor, wait=True) is not False:
            break
        os.close(descriptor)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield work, file
    finally:
        work.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Sees to it that a file, or the names in a folder, outlive a power cut; quietly nothing where that cannot be."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # a folder on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


# -- what was written ------------------------------------------------------------

_expected: list[tuple[Path, int, int]] = []


def expect(path: Path, work: Path) -> None:
    """Notes that `work` is about to take the place of `path`."""
    status = work.stat()
    _expected.append((path, status.st_dev, status.st_ino))


def written(start: int = 0) -> list[Path]:
    """What took its place, as the file system says: true also where a signal came just before a note could be made.

    Args:
        start: how many notes to pass over; see `noted`.
    """
    found: list[Path] = []
    for path, device, node in _expected[start:]:
        status: Any = None
        with contextlib.suppress(OSError):
            status = path.stat()
        if status is not None and (status.st_dev, status.st_ino) == (device, node):
            found.append(path)
    return list(dict.fromkeys(found))


def noted() -> int:
    """How many notes there are by now."""
    return len(_expected)
