"""Mutants that the reader accepts, through the command line: exit codes of the table only, and never a bug."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np

from edgeqwt import cli
from edgeqwt.errors import EdgeqwtError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import DTYPES, Graph

CODES = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8})
SAMPLES = 4
LARGEST = 1 << 22  # elements of an input that samples are made for


def command_fault(
    data: bytes, folder: Path, commands: tuple[str, ...] = ("check", "compare", "compensate", "build")
) -> str:
    """What commands do with a file that they must not do, in words.

    Args:
        data: of a .tflite file.
        folder: for it and its samples.
        commands: which.
    """
    try:
        graph = flatbuffer.from_bytes(data)
    except EdgeqwtError:
        return ""
    model, samples = folder / "mutant.tflite", folder / "samples.npz"
    model.write_bytes(data)
    if not write_samples(graph, samples):
        commands = ("check",)
    arguments = {
        "check": ["check", model, "--target", "tflm-cortex-m55"],
        "compare": ["compare", model, model, "-c", samples],
        "compensate": ["compensate", model, "--reference", model, "-c", samples, "-o", folder / "better.tflite"],
        "build": ["build", model, "-c", samples, "--recipe", "fast", "-o", folder / "out", "--overwrite", "--accept"],
    }
    for command in commands:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = cli.run([str(argument) for argument in arguments[command]])
        if code not in CODES or "bug in edgeqwt" in said.getvalue():
            return f"{command} ends with {code}: {said.getvalue()}"
    return ""


def write_samples(graph: Graph, path: Path) -> bool:
    """Writes samples that fit the inputs, where that is possible."""
    from edgeqwt.converters.tflite_source import bindings

    rng = np.random.default_rng(0)
    arrays = {}
    for binding in bindings(graph)[0]:
        tensor = graph.tensors[binding.tensor]
        shape = (SAMPLES, *(n if n and n > 0 else 1 for n in binding.spec.shape[1:]))
        name = binding.spec.name
        if int(np.prod(shape)) > LARGEST or tensor.dtype not in DTYPES or not name or "\0" in name or "/" in name:
            return False
        arrays[name] = rng.standard_normal(shape).astype(np.float32)
        if tensor.quantization is None and not tensor.is_float:
            arrays[name] = np.abs(arrays[name] * 3).astype(DTYPES[tensor.dtype])
    if not arrays:
        return False
    try:
        np.savez(path, **arrays)
    except (ValueError, TypeError, OSError, UnicodeError):  # a name that no member can have
        return False
    return True
