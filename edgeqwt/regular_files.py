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
