"""A small float .tflite file with samples, and the command line as a test runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeqwt import cli
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from tests.chain import CONV, NONE, Chain, noise

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Small:
    """Files of one small model.

    Attributes:
        model: images (1, 8, 8, 3), named "image", to 4 class probabilities.
        samples: 16 of them, .npz.
        labelled: 8 with labels, .npz.
    """

    model: Path
    samples: Path
    labelled: Path


def graph(edit: Callable[[dict[str, Array]], None] = lambda constants: None) -> Graph:
    """Convolution, mean, dense layer, softmax.

    Args:
        edit: changes the constants "filter" (6, 3, 3, 3), "bias" (6,), "weights" (4, 6) in place.
    """
    constants = {
        "filter": noise(6, 3, 3, 3, seed=1, scale=0.3),
        "bias": noise(6, seed=2),
        "weights": noise(4, 6, seed=3),
    }
    edit(constants)
    chain = Chain()
    x = chain.input((1, 8, 8, 3), "image")
    filters, bias = chain.constant(constants["filter"], "filter"), chain.constant(constants["bias"], "bias")
    x = chain.op("CONV_2D", x, filters, bias, name="features", **{**CONV, "fusedActivationFunction": "RELU"})
    x = chain.op("MEAN", x, chain.constant(np.array([1, 2])), name="mean", keepDims=False)
    weights = chain.constant(constants["weights"], "weights")
    logits = chain.op("FULLY_CONNECTED", x, weights, -1, name="logits", keepNumDims=False, **NONE)
    return chain.graph(chain.op("SOFTMAX", logits, name="classes", beta=1.0))


def images(count: int, seed: int = 0) -> Array:
    """Normally distributed images."""
    return noise(count, 8, 8, 3, seed=seed)


def write(folder: Path) -> Small:
    """Writes the model and its samples."""
    small = Small(folder / "float.tflite", folder / "samples.npz", folder / "labelled.npz")
    flatbuffer.write(graph(), small.model)
    np.savez(small.samples, image=images(16))
    np.savez(small.labelled, image=images(8, seed=1), labels=np.arange(8) % 4)
    return small


def with_custom_op(model: Graph) -> Graph:
    """The model with its softmax turned into a custom op."""
    *ops, last = model.ops
    return replace(model, ops=(*ops, replace(last, kind="CUSTOM", custom_code="MyOp", options={}, extra={})))


@dataclass(frozen=True)
class Command:
    """Runs the command line in this process, in a folder of its own.

    Attributes:
        folder: the working folder.
        temporary: where temporary files go.
    """

    folder: Path
    temporary: Path
    captured: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.captured.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        out, err = self.captured.readouterr()
        return code, out, err

    def refused(self, code: int, *arguments: object) -> str:
        """Runs a command that must fail with this exit code, and tell it as everything here does.

        Returns:
            The message and the hint, in one line each.
        """
        before = tree(self.folder)
        found, out, err = self(*arguments)
        message, hint = err.splitlines()
        assert (found, out) == (code, ""), err
        assert message.startswith("edgeqwt: error: ")
        assert hint.startswith("  hint: ")
        assert len(hint) > len("  hint: ")
        assert tree(self.folder) == before, "something was written"
        assert leftovers(self.temporary) == []
        return err


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> Command:
    """Makes a Command for a test."""
    temporary = folder / "tmp"
    temporary.mkdir()
    (folder / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(folder / "here")
    monkeypatch.delenv("EDGEQWT_DEBUG", raising=False)
    return Command(folder / "here", temporary, captured)


def tree(folder: Path) -> dict[str, bytes | None]:
    """All there is in a folder: path to content, None for folders. What Python caches does not count."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def leftovers(temporary: Path) -> list[str]:
    """What is left of temporary files, besides the cache that torch keeps there."""
    return [path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor")]


def alive(process: int) -> bool:
    """Whether a process runs; a dead one that nobody has taken notice of does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] not in "ZX"


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Until something holds; fails where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def process(
    arguments: Sequence[object], folder: Path, variables: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """The command line as a process of its own, with its temporary files in `folder`/tmp."""
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    environment |= variables or {}
    environment.pop("EDGEQWT_DEBUG", None)
    code = "import sys; sys.argv[0] = 'edgeqwt'; from edgeqwt.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        env=environment,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
