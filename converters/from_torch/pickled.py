"""What a file that torch.save wrote holds, found without unpickling it: unpickling runs code."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

LARGEST = 64 << 20  # of the pickle; weights lie beside it
PLAIN = ("torch", "collections", "builtins", "__builtin__", "numpy", "argparse", "pathlib", "datetime", "_codecs")
MODULES = "torch.nn.modules."


def pickled_class(path: Path) -> str | None:
    """The first class of a module in a file of torch.save, as "package.Class"; None where it holds weights alone.

    Args:
        path: any file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = next(name for name in archive.namelist() if name.partition("/")[2] == "data.pkl")
            data = archive.read(found) if archive.getinfo(found).file_size <= LARGEST else b""
        return next((f"{where}.{name}" for where, name in _globals(data) if _is_module(where)), None)
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError):  # pickletools raises ValueError
        return None


def _globals(data: bytes) -> Iterator[tuple[str, str]]:
    """Module and name of what a pickle of torch's protocol, 2, refers to."""
    for op, argument, _ in pickletools.genops(data):
        if op.name == "GLOBAL" and isinstance(argument, str):
            where, _, name = argument.partition(" ")
            yield where, name


def _is_module(where: str) -> bool:
    return where.startswith(MODULES) or where.partition(".")[0] not in PLAIN
