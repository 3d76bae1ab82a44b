"""What every result says of its model and its machine."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path
from typing import Any

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph

VELAS = b"ethos-u"
"""The name of the op that Vela leaves; such files' scratch tensors are written by nothing, and are refused."""


def read_model(path: Path) -> tuple[bytes, Graph]:
    """A model file's bytes and its graph.

    Raises:
        InputError: the file is missing, holds no TFLite model, or is what Vela made of one.
    """
    try:
        graph = flatbuffer.read(path)
    except InputError:
        if path.is_file() and VELAS in path.read_bytes():
            hint = "Name the file that Vela was given: a build's model.tflite."
            raise InputError(
                f"{path} was compiled by Vela for an Ethos-U and cannot be read as a graph", hint
            ) from None
        raise
    return path.read_bytes(), graph


def of_model(path: Path, data: bytes, graph: Graph) -> dict[str, Any]:
    """The fields of `BenchResult` that describe a model."""
    return {"file": path.name, "bytes": len(data), "ops": dict(Counter(op.kind for op in graph.ops))}


def of_file(path: Path) -> dict[str, Any]:
    """The fields of `BenchResult` that describe a file that is no model."""
    try:
        return {"file": path.name, "bytes": path.stat().st_size, "ops": {}}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "Check the path.") from None


def this_machine() -> str:
    """System and processor type; nothing that names the machine itself."""
    return f"{platform.system()} {platform.machine()}"
