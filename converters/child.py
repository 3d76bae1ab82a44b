"""Programs that convert, run in Python environments of their own.

The pins of the converters exclude each other, and some of them change the process that imports them: each runs as
a child, in its own environment, and ends with this process (`edgeqwt.children`).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeqwt.children import Watched
from edgeqwt.disk import LITTLE, explained

TAIL_LINES = 20
_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
"""What says where this process finds its modules would mislead another environment's interpreter."""


def environment(python: str) -> dict[str, str]:
    """The environment variables for a child of an interpreter: repeatable, plain text, on the processor."""
    variables = {name: value for name, value in os.environ.items() if name not in _OURS}
    # onnx2tf calls the program `onnxsim` by its bare name. Where it is not found, onnx2tf goes on
    # with a model whose constants are not folded, and the graph that comes out cannot be lowered.
    variables["PATH"] = os.pathsep.join((os.path.dirname(python), variables.get("PATH", os.defpath)))
    return variables | {
        "PYTHONHASHSEED": "0",  # same model, same bytes
        "PYTHONIOENCODING": "utf-8",
        "TQDM_DISABLE": "1",
        "NO_COLOR": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def run_logged(command: Sequence[str], folder: Path, variables: Mapping[str, str], log: Path) -> int:
    """Runs a command with its output in a log; whatever stops this process stops the child too.

    Args:
        command: program and arguments.
        folder: to run it in.
        variables: see `environment`.
        log: written as text without colours and overwritten lines.

    Returns:
        The exit status.

    Raises:
        OSError: the program cannot be started.
        InputError: the disk is full.
    """
    with log.open("wb") as output:
        status, _, _ = Watched(command, output, folder=folder, variables=variables).wait()
    text = readable(log.read_text("utf-8", "replace"))
    log.write_text(text, "utf-8")
    if status != 0 and os.strerror(errno.ENOSPC) in text and shutil.disk_usage(folder).free < LITTLE:
        raise explained(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)))
    return status


def readable(text: str) -> str:
    """Without colours, and without the states that a line was overwritten with."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return "\n".join(line.rsplit("\r", 1)[-1] for line in text.splitlines()) + "\n"


def tail(log: Path) -> str:
    """The last lines of a log that are not empty."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return "\n".join(lines[-TAIL_LINES:])
