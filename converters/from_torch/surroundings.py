"""What is around torch while it exports: its fused layers, its weights, what it prints."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch.nn.utils import parametrize

from edgeqwt.runtime.native_log import captured_stderr


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Keeps torch's fused transformer layers out of the trace: no exporter knows them."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def computed_weights(module: torch.nn.Module) -> Iterator[None]:
    """While this is entered, weights that parametrizations compute are constants."""
    parts = [part for part in module.modules() if parametrize.is_parametrized(part)]
    made = [each for part in parts for each in part.get_submodule("parametrizations").children()]
    try:
        with torch.no_grad():
            for each in made:
                each.forward = partial(torch.Tensor.detach, each())
        yield
    finally:
        for each in made:
            vars(each).pop("forward", None)


@contextlib.contextmanager
def _native_stdout_as_stderr() -> Iterator[None]:
    """Torch's C++ side prints graphs that it cannot export on file descriptor 1."""
    flush = ctypes.CDLL(None).fflush  # what C has buffered would come out after descriptor 1 is back
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        flush(None)
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Sends what torch and the user's model print and warn, natively too, to the end of a log."""
    printed = io.StringIO()
    try:
        with (
            captured_stderr() as native,
            _native_stdout_as_stderr(),
            contextlib.redirect_stdout(printed),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            yield
    finally:
        lines = [printed.getvalue(), *native, *(f"{w.category.__name__}: {w.message}" for w in caught)]
        with log.open("a", encoding="utf-8") as file:
            file.writelines(f"{line.rstrip()}\n" for line in lines if line.strip())
