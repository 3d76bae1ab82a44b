"""What converters wrote, kept by the content of what they were given.

A converter is a program whose files follow from its input file, its options and its environment, and which takes most
of a conversion's time. What it is given holds the whole model: graph, weights, shapes. So the key needs no knowledge
of the user's code: a module that imports other files, reads weights or draws them at random is exported first, and only
what came of that counts.

Nothing that comes from here is believed: an entry whose hash is wrong is thrown away, and what an entry holds is held
against the source model as if the converter had just run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import platform
import secrets
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeqwt.converters import child
from edgeqwt.extras import versions_of

VARIABLE = "EDGEQWT_CACHE"
"""Environment variable: the folder, or "off"."""
OFF = "off"
MOST = 2 << 30
"""Bytes of all entries together: beyond them those go first that were used last the longest time ago."""
SPARE = 1 << 30
"""Bytes of the disk that entries leave free."""
_HASH = hashlib.sha256().digest_size
_PACKAGES = """
import os, sys
folders = [folder for folder in sys.path if os.path.isdir(folder)]
names = {name for folder in folders for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info"))}
print(sys.version, *sorted(names), sep="\\n")
"""


@dataclass(frozen=True)
class Cache:
    """Files by key, in a folder that builds share.

    An entry is one file, written beside its place and then moved there: another build sees it whole or not at all.

    Attributes:
        folder: need not exist.
        most: bytes of all entries together.
    """

    folder: Path
    most: int = MOST

    def restore(self, key: str, folder: Path) -> bool:
        """Writes an entry's files below a folder; False where there is none, or it is not what was written."""
        entry = self.folder / key
        try:
            data = entry.read_bytes()
            os.utime(entry)
        except OSError:
            return False
        if hashlib.sha256(data[_HASH:]).digest() != data[:_HASH]:
            with contextlib.suppress(OSError):
                entry.unlink()
            return False
        with zipfile.ZipFile(io.BytesIO(data[_HASH:])) as archive:
            archive.extractall(folder)
        return True

    def keep(self, key: str, folder: Path, files: Iterable[Path]) -> None:
        """Makes an entry of files below a folder, and room for it; nothing where that cannot be: it would only help."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
        data = packed.getvalue()
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if len(data) > self.most or len(data) + SPARE > shutil.disk_usage(self.folder).free:
                return
            self._make_room(len(data) + _HASH)
            work = self.folder / f".{key}.{secrets.token_hex(4)}"
            try:
                work.write_bytes(hashlib.sha256(data).digest() + data)
                os.replace(work, self.folder / key)
            finally:
                work.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Removes what was used last the longest time ago, what a killed build left half written included."""
        found = list[tuple[float, int, Path]]()
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):  # another build has removed it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        excess = sum(length for _, length, _ in found) + size - self.most
        for _, length, path in sorted(found):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= length


def opened(wanted: bool = True) -> Cache | None:
    """The user's cache: $EDGEQWT_CACHE, else edgeqwt/conversions in the user's cache folder; None where it is off."""
    named = os.environ.get(VARIABLE)
    if not wanted or named == OFF:
        return None
    if named:
        return Cache(Path(named).expanduser().absolute() / "conversions")
    ours = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Cache(Path(os.environ.get("XDG_CACHE_HOME") or ours).expanduser().absolute() / "edgeqwt" / "conversions")


def key_of(given: Path, python: str, *options: str) -> str:
    """What a converter's files follow from, as one hash.

    Args:
        given: the file that the converter reads.
        python: the interpreter that it runs in, whose packages count, all of them with their versions.
        options: its name and its other settings.

    Raises:
        OSError, CalledProcessError: the interpreter does not run, or the file cannot be read.
    """
    listed = subprocess.run(
        [python, "-c", _PACKAGES], env=child.environment(python), cwd=given.parent, capture_output=True, check=True
    )
    found = hashlib.sha256(repr((versions_of("edgeqwt"), platform.machine(), options)).encode())
    found.update(listed.stdout)
    with given.open("rb") as file:
        found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
