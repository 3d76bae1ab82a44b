"""Files that may save a later build some work, in the user's cache folder, bounded and believed only where whole.

An entry is one file that begins with the hash of the rest, written beside its place and then moved there: another build
sees it whole or not at all. Those that were used last the longest time ago go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

VARIABLE = "EDGEQWT_CACHE"
"""Environment variable: the folder, or "off"."""
OFF = "off"
MOST = 2 << 30
"""Bytes of all entries of a folder together."""
SPARE = 1 << 30
"""Bytes of the disk that entries leave free."""
_HASH = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Entries:
    """Files by key, in a folder that builds share.

    Attributes:
        folder: need not exist.
        most: bytes of all entries together.
    """

    folder: Path
    most: int = MOST

    @contextmanager
    def read(self, key: str) -> Iterator[IO[bytes] | None]:
        """An entry's content, from where the file stands; None where there is none, or it is not what was written."""
        entry = self.folder / key
        with contextlib.ExitStack() as opened:
            try:
                file = opened.enter_context(entry.open("rb"))
                os.utime(entry)
                expected = file.read(_HASH)
                found = hashlib.file_digest(file, "sha256").digest()
            except OSError:
                yield None
                return
            if found == expected:
                file.seek(_HASH)
                yield file
            else:
                self.remove(key)
                yield None

    def write(self, key: str, write: Callable[[IO[bytes]], object]) -> None:
        """Makes an entry, and room for it; nothing where that cannot be: it would only help.

        Args:
            key: a file name.
            write: gets what the content goes into; what it raises but for errors of the disk is raised.
        """
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < SPARE:
                return
            work = self.folder / f".{key}.{secrets.token_hex(4)}"
            try:
                with work.open("wb") as file:
                    content = _Hashed(file)
                    write(content)  # type: ignore[arg-type]
                    content.finish()
                if work.stat().st_size <= self.most and shutil.disk_usage(self.folder).free >= SPARE:
                    self._make_room(work.stat().st_size, work)
                    os.replace(work, self.folder / key)
            finally:
                work.unlink(missing_ok=True)

    def empty(self) -> bool:
        """Whether there are no entries."""
        try:
            return next(self.folder.iterdir(), None) is None
        except OSError:
            return True

    def remove(self, key: str) -> None:
        """Forgets an entry."""
        with contextlib.suppress(OSError):
            (self.folder / key).unlink()

    def _make_room(self, size: int, new: Path) -> None:
        """Removes what was used last the longest time ago, what a killed build left half written included."""
        found = list[tuple[float, int, Path]]()
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):  # another build has removed it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        excess = sum(length for _, length, path in found if path != new) + size - self.most
        for _, length, path in sorted(entry for entry in found if entry[2] != new):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= length


class _Hashed:
    """A file that is written behind the hash of what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.hash = file, hashlib.sha256()
        file.write(bytes(_HASH))

    def write(self, data: bytes) -> int:
        """See IO."""
        self.hash.update(data)
        return self.file.write(data)

    def finish(self) -> None:
        """Writes the hash."""
        self.file.seek(0)
        self.file.write(self.hash.digest())


def entries(kind: str, wanted: bool = True) -> Entries | None:
    """The user's entries of a kind: below $EDGEQWT_CACHE, else below edgeqwt in the user's cache folder.

    Args:
        kind: name of the folder.
        wanted: whether the user wants any.

    Returns:
        None where the user wants none.
    """
    named = os.environ.get(VARIABLE)
    if not wanted or named == OFF:
        return None
    if named:
        return Entries(Path(named).expanduser().absolute() / kind)
    ours = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Entries(Path(os.environ.get("XDG_CACHE_HOME") or ours).expanduser().absolute() / "edgeqwt" / kind)
