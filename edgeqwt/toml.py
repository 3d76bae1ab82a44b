"""TOML files within limits: what a person writes is short and flat."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from edgeqwt.errors import EdgeqwtError, InputError
from edgeqwt.regular_files import regular

LARGEST = 1 << 20
"""Bytes of a file."""
DEEPEST = 20
"""Tables and lists within each other."""


def read(path: Path) -> dict[str, Any]:
    """A file's table.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML of a sensible size and depth; the message says what is wrong.
    """
    return parse(text(path))


def table(
    path: Path, hint: str, missing: tuple[str, str] | None = None, raised: type[EdgeqwtError] = InputError
) -> dict[str, Any]:
    """A file's table; what is wrong with a file is an error for the person who named it.

    Args:
        path: of the file.
        hint: what to do about one that cannot be read.
        missing: message and hint where there is none, if these are others.
        raised: the error's class.
    """
    try:
        return read(path)
    except OSError as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise raised(*missing) from None
        raise raised(f"{path} cannot be read: {error.strerror}", hint) from None
    except ValueError as error:
        raise raised(f"{path}: {error}", "Correct the TOML.") from None


def text(path: Path) -> str:
    """A file's text, if it is not longer than `LARGEST`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is longer, or no UTF-8.
    """
    with regular(path).open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST} bytes")
    return data.decode("utf-8")


def parse(written: str) -> dict[str, Any]:
    """A text's table.

    Raises:
        ValueError: as `read`.
    """
    deep = f"tables or lists lie more than {DEEPEST} deep in each other"
    try:
        table = tomllib.loads(written)
    except RecursionError:
        raise ValueError(deep) from None
    level: list[Any] = [table]
    for _ in range(DEEPEST):
        level = [v for item in level for v in (item.values() if isinstance(item, dict) else item) if _holds(v)]
        if not level:
            return table
    raise ValueError(deep)


def _holds(value: object) -> bool:
    return isinstance(value, dict | list)
