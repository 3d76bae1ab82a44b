"""What converters wrote, kept by the content of what they were given.

A converter is a program whose files follow from its input file, its options and its environment, and which takes most
of a conversion's time. What it is given holds the whole model: graph, weights, shapes. So the key needs no knowledge
of the user's code: a module that imports other files, reads weights or draws them at random is exported first, and only
what came of that counts.

Nothing that comes from here is believed: an entry whose hash is wrong is thrown away, and what an entry holds is held
against the source model as if the converter had just run.
"""

from __future__ import annotations

import hashlib
import io
import platform
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path

from edgeqwt.converters import child
from edgeqwt.extras import versions_of
from edgeqwt.user_cache import Entries, entries

_PACKAGES = """
import os, sys
folders = [folder for folder in sys.path if os.path.isdir(folder)]
names = {name for folder in folders for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info"))}
print(sys.version, *sorted(names), sep="\\n")
"""


class Cache(Entries):
    """What converters wrote, by what they were given."""

    def restore(self, key: str, folder: Path) -> bool:
        """Writes an entry's files below a folder; False where there is none, or it is not what was written."""
        with self.read(key) as file:
            if file is None:
                return False
            with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
                archive.extractall(folder)
        return True

    def keep(self, key: str, folder: Path, files: Iterable[Path]) -> None:
        """Makes an entry of files below a folder, where there is room for it."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
        self.write(key, lambda file: file.write(packed.getbuffer()))


def opened(wanted: bool = True) -> Cache | None:
    """The user's cache of conversions; None where it is off."""
    found = entries("conversions", wanted)
    return None if found is None else Cache(found.folder)


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
