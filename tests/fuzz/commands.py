"""Mutants that the reader accepts, through the command line: exit codes of the table only, and never a bug."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import typer

from edgeqwt import cli
from edgeqwt.errors import EdgeqwtError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import DTYPES, Graph
from edgeqwt.runtime import subprocess_runners

CODES = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8})
COMMANDS = ("check", "compare", "compensate", "build")
SAMPLES = 2
ACCEPTED = "\t"
"""What is said of a mutant that was accepted, and with which nothing is wrong."""
LARGEST = 1 << 22  # elements of an input that samples are made for


def one_command_fault(data: bytes, folder: Path) -> str:
    """As `command_fault`, with one of the commands, which the file's bytes choose."""
    return command_fault(data, folder, (COMMANDS[zlib.crc32(data) % len(COMMANDS)],))


def command_fault(data: bytes, folder: Path, commands: Sequence[str] = COMMANDS) -> str:
    """What commands do with a file that they must not do, in words.

    Args:
        data: of a .tflite file.
        folder: for it and its samples.
        commands: which.
    """
    try:
        graph = flatbuffer.from_bytes(data)
    except EdgeqwtError:  # the commands say the same; tests/fuzz/readers.py looks at it
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
            typer.main.get_command = _commands  # to read their options anew takes a fifth of a second
            subprocess_runners.SECONDS = 30.0  # for models that loop for ever: they are ended after that
            code = cli.run([str(argument) for argument in arguments[command]])
        if code not in CODES or "bug in edgeqwt" in said.getvalue():
            return f"{command} ends with {code}: {said.getvalue()}"
    return ACCEPTED


_commands = cache(typer.main.get_command)


def write_samples(graph: Graph, path: Path) -> bool:
    """Writes samples that fit the inputs, where that is possible."""
    from edgeqwt.converters.from_tflite.source import bindings

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
