"""Integer graphs in Qualcomm's simulation of its NPU (HTP): the NPU's arithmetic, on this processor.

Each graph is written as QDQ ONNX and runs in onnxruntime with Qualcomm's execution provider, in a process of the
environment that has it. Nothing falls back to the processor's kernels: a graph that the provider does not take
as a whole is refused. Seconds that this takes say nothing about a phone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeqwt.children import Watched
from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import ToolError
from edgeqwt.graph.graph import Array
from edgeqwt.runtime.qualcomm import Toolchain

SOC_NUMBERS: Mapping[str, str] = {"SM8550": "43", "SM8650": "57", "SM8750": "69"}
"""Qualcomm's numbers of its chips (QNN's HTP documentation, supported Snapdragon devices)."""
SECONDS = 1800.0


@dataclass(frozen=True, eq=False)
class Job:
    """A model and what it is fed.

    Attributes:
        model: QDQ ONNX.
        feeds: for each sample the inputs by name.
    """

    model: bytes
    feeds: Sequence[Mapping[str, Array]]


@dataclass(frozen=True, eq=False)
class Simulated:
    """What came of a job.

    Attributes:
        outputs: for each sample the outputs in their order; none where it was refused.
        refused: what the provider said; empty where it ran.
    """

    outputs: Sequence[Sequence[Array]]
    refused: str = ""


def simulate(jobs: Sequence[Job], soc: str, toolchain: Toolchain) -> list[Simulated]:
    """Runs models in the simulation.

    Args:
        jobs: the models.
        soc: the chip, such as SM8650.
        toolchain: where everything is.

    Raises:
        ToolError: the toolchain has no simulation, or the process fails.
    """
    if not toolchain.simulation:
        hint = "It is in onnxruntime-qnn, not in the vendor's SDK: install it with `edgeqwt tools install qualcomm`."
        raise ToolError("the NPU's simulation", None, "", hint)
    with TemporaryFolder() as folder:
        for k, job in enumerate(jobs):
            (folder / f"{k:05}.onnx").write_bytes(job.model)
            arrays = {f"{n}.{name}": array for n, feed in enumerate(job.feeds) for name, array in feed.items()}
            np.savez(folder / f"{k:05}.npz", **arrays)  # type: ignore[arg-type]
        script = str(Path(__file__).with_name("htp_child.py"))
        command = [toolchain.python, "-P", script, str(folder), SOC_NUMBERS.get(soc, "0")]
        try:
            status, printed, _ = Watched(
                command, folder=folder, variables=toolchain.variables(*toolchain.simulation)
            ).wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise ToolError("the NPU's simulation", None, "", f"It did not end within {SECONDS:g} s.") from None
        if status != 0:
            raise ToolError("the NPU's simulation", status, printed.decode("utf-8", "replace")[-4000:])
        return [_read(folder / f"{k:05}.onnx", len(job.feeds)) for k, job in enumerate(jobs)]


def _read(path: Path, count: int) -> Simulated:
    error = path.with_suffix(".error")
    if error.is_file():
        return Simulated((), " ".join(error.read_text(encoding="utf-8").split()))
    with np.load(path.with_suffix(".out.npz")) as found:
        ports = len(found.files) // max(count, 1)
        return Simulated([[found[f"{k}.{i}"] for i in range(ports)] for k in range(count)])
