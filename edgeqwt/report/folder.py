"""Output that is there whole or not at all.

A build works in a folder beside its output's place, which then changes places with what was there: in one step where
the system has it (Linux's renameat2), so that there is no moment without a whole folder. What a killed build leaves
lies beside it under names that only builds use; the next build into that path, which holds its lock, removes it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgeqwt.disk import FULL, LITTLE, MARK, cannot_write, expect, made_parents, take
from edgeqwt.disk import sync as sync_path
from edgeqwt.errors import EdgeqwtError, InputError
from edgeqwt.report.manifest import MANIFEST, strange, write_manifest
from edgeqwt.signals import held

AT_FDCWD, RENAME_EXCHANGE = -100, 2
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def check_file(path: Path) -> None:
    """Finds out before the work begins whether a file can be written.

    Raises:
        InputError: the path is a folder or is not writable.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder", "Name the file to write.")
    _check_parent(path)


def check_folder(path: Path, overwrite: bool) -> None:
    """Finds out before the work begins whether a folder can be made or replaced.

    Raises:
        InputError: the path is a file, is not writable, or holds something that no build made, or that was edited.
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
    if found := strange(path):
        raise InputError(
            found.sentence(path), "Choose another folder, move it away, or replace this folder with --overwrite."
        )


@contextmanager
def whole_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well.

    When it does not, `path` is what it was before. Folders that it is to lie in are made. One build at a time: a second
    one is refused.

    Raises:
        InputError: as `check_folder`, or another build is writing there; or somebody changed what is there while this
            one ran: that stays, and what this one made lies beside it.
    """
    check_folder(path, overwrite)
    shown, path = path, path.resolve()  # where `path` is a link, what it leads to is replaced, and the link stays
    with _parents(path), _lock(path, shown) as alone:
        if alone:
            _sweep(path)
        check_folder(path, overwrite)  # again: another build may have ended in between
        work = _beside(path)
        try:
            _make(work, path)
            yield work
            _finish(work, path)
            with held():
                _put_in_place(work, path, shown, overwrite)
        except EdgeqwtError as error:  # of builds within this one: people know the place, not this folder
            error.message, error.hint = (t.replace(str(work), str(shown)) for t in (error.message, error.hint))
            error.args = (error.message,)
            raise
        except OSError as error:  # writing to an open file fails without a name
            if error.errno in FULL and error.filename is None and shutil.disk_usage(path.parent).free < LITTLE:
                raise cannot_write(shown, error) from None
            raise
        finally:
            with held():
                shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(made_parents(path))
        except OSError as error:
            raise InputError(f"{path} cannot be made: {error.strerror}", "Choose another path.") from None
        yield


def _make(work: Path, path: Path) -> None:
    try:
        work.mkdir()
    except OSError as error:
        raise InputError(f"{path} cannot be made: {error.strerror}", "Choose another path.") from None


def _finish(work: Path, path: Path) -> None:
    """Writes the manifest, and sees to it that everything is on the disk before it takes its place."""
    try:
        write_manifest(work)
        with ThreadPoolExecutor(8) as pool:  # which the disk does together
            list(pool.map(sync_path, [*work.rglob("*"), work]))
    except OSError as error:
        raise cannot_write(path, error) from None


def _put_in_place(work: Path, path: Path, shown: Path, overwrite: bool) -> None:
    """Lets the finished folder take the place of what is there; that is looked at once more when it lies aside."""
    expect(path, work)
    if not path.exists():
        os.rename(work, path)
        sync_path(path.parent)
        return
    old = work if _exchanged(work, path) else _renamed(work, path)
    if not overwrite and (found := strange(old)):
        aside = _free(path)
        expect(aside, path)
        os.rename(path, aside)
        os.rename(old, path)
        sync_path(path.parent)
        raise InputError(
            f"{found.sentence(shown)}, while this build ran; that stays, and the new build is in {aside}",
            f"Keep what you need of {shown}, and move {aside.name} there.",
        )
    sync_path(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(a: Path, b: Path) -> bool:
    """Lets two folders change places in one step; says no where the system cannot do that.

    Raises:
        OSError: it can, and failed.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(b))


def _renamed(work: Path, path: Path) -> Path:
    """The same in two steps. A process that is killed between them leaves `old`, which `_sweep` puts back."""
    old = _old(path)
    os.rename(path, old)
    try:
        os.rename(work, path)
    except BaseException:
        if not path.exists():
            os.rename(old, path)
        raise
    return old


def _free(path: Path) -> Path:
    """A name beside a path that nothing has."""
    names = (path.with_name(f"{path.name}.new{n or ''}") for n in range(10_000))
    return next(candidate for candidate in names if not candidate.exists())


# -- one build at a time, and what killed ones left ---------------------------------

PATIENCE = 0.5  # seconds


@contextmanager
def _lock(path: Path, shown: Path) -> Iterator[bool]:
    """Holds the lock of an output folder, which ends with the process; false where the system has none."""
    name, end = path.with_name(f".{path.name}.{MARK}-lock"), time.monotonic() + PATIENCE
    while True:
        try:
            lock = os.open(name, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise InputError(f"{path} cannot be made: {error.strerror}", "Choose another path.") from None
        taken = take(lock)
        if taken is not False:
            break
        holder = os.read(lock, 32).decode("ascii", "replace").strip()
        gone = os.fstat(lock).st_nlink == 0  # the other one just ended
        os.close(lock)
        if not gone and time.monotonic() < end:  # of a build that was killed: it frees its memory, and then the lock
            time.sleep(PATIENCE / 25)
        elif not gone:
            who = f" (process {holder})" if holder else ""
            raise InputError(f"another build is writing to {shown}{who}", "Wait until it ends, or name another folder.")
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield taken is True
    finally:
        with held():
            name.unlink(missing_ok=True)
            os.close(lock)


def _sweep(path: Path) -> None:
    """Removes what killed builds left, and puts back what one had moved away. The lock is held.

    An output that somebody edited while that build ran, and that had just left its place, is kept beside it.
    """
    old = _old(path)
    if old.is_dir() and not path.exists():
        os.rename(old, path)
    pattern = re.compile(re.escape(f".{path.name}.{MARK}-") + "([0-9a-f]{8}|old)")
    for left in path.parent.iterdir():
        if pattern.fullmatch(left.name) and not left.is_symlink() and left.is_dir():
            if (left / MANIFEST).is_file() and strange(left):
                os.rename(left, _free(path))
            else:
                shutil.rmtree(left, ignore_errors=True)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.{MARK}-old")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{MARK}-{secrets.token_hex(4)}")


def unused(name: str) -> str:
    """A name that nothing has in the working folder, for a command that is proposed: it must not replace a build."""
    names = (f"{name}{n or ''}" for n in (0, *range(2, 10_000)))
    return next((candidate for candidate in names if not os.path.lexists(candidate)), name)


def within_work(path: Path) -> bool:
    """Whether a path lies in a folder that is being made, and goes where that fails."""
    return any(re.fullmatch(rf"\..*\.{MARK}-[0-9a-f]{{8}}", parent.name) for parent in path.absolute().parents)


def _check_parent(path: Path) -> None:
    """Whether a path's folder is there and can be written to, or can be made."""
    place = path.resolve()
    parent = next((parent for parent in place.parents if parent.exists()), place)  # the root has none
    if not parent.is_dir():
        raise InputError(f"{parent} is a file, not a folder", "Choose another path.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {parent} cannot be written to", "Choose another path.")
