"""Files that have an end: of pipes and devices, which users name by mistake, reading may have none."""

from __future__ import annotations

import stat
from pathlib import Path

from edgeqwt.errors import InputError


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
