"""Runs Vela, Arm's compiler for the Ethos-U NPUs: int8 TFLite to TFLite with the NPU's commands in it.

Vela compiles and estimates; nothing here runs on an NPU. It is a subprocess in a temporary folder:
it writes its results into files, and a crash of its native part ends only that process.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeqwt.children import Watched, limit_memory
from edgeqwt.disk import TemporaryFolder
from edgeqwt.errors import ToolError, UnsupportedError
from edgeqwt.extras import need
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph

CONFIG = "Arm/vela.ini"
"""The configuration file that comes with Vela; it defines the system configs and memory modes."""
TAIL_LINES = 20
MEMORY, SECONDS = 16 << 30, 1800.0
"""Bytes and time that Vela may take: the largest models that were tried take 3 GB and a minute."""
_CYCLES = ("total", "npu", "sram_access", "dram_access", "on_chip_flash_access", "off_chip_flash_access")
_MEMORY = ("sram", "dram", "on_chip_flash", "off_chip_flash")


class Accelerator(Protocol):
    """What Vela compiles for, in its own names; `edgeqwt.profile.Npu` is one."""

    @property
    def accelerator(self) -> str:
        """Such as ethos-u55-128."""
        ...

    @property
    def system_config(self) -> str:
        """Clock and memories, such as Ethos_U55_High_End_Embedded."""
        ...

    @property
    def memory_mode(self) -> str:
        """Which memory holds what, such as Shared_Sram."""
        ...

    @property
    def system(self) -> tuple[tuple[str, str], ...]:
        """Keys and values of the system config; empty where Vela's own file has it."""
        ...


@dataclass(frozen=True)
class Placement:
    """Where an op runs.

    Attributes:
        kind: Vela's name of the op, such as Conv2D.
        name: of the op's output tensor.
        where: "NPU" or "CPU".
        cycles: Vela's estimate; 0 on the CPU, which Vela does not estimate.
    """

    kind: str
    name: str
    where: str
    cycles: float


@dataclass(frozen=True)
class Compiled:
    """A model as Vela compiled it, and Vela's estimates; nothing of this was measured on an NPU.

    Attributes:
        model: the compiled model, a TFLite file.
        cycles: per inference: "total", and by what they are spent on: "npu", "sram_access",
            "dram_access", "on_chip_flash_access", "off_chip_flash_access". They overlap, so the parts
            are no summands. The CPU's ops are not in it.
        seconds: per inference at `clock`.
        clock: of the NPU in the system config, Hz.
        memory: bytes used of "sram", "dram", "on_chip_flash" and "off_chip_flash".
        macs: multiply-accumulates per inference on the NPU.
        ops: in the order in which they run. Parts that Vela made of one op are one entry.
        log: everything that Vela printed.
    """

    model: bytes
    cycles: Mapping[str, float]
    seconds: float
    clock: float
    memory: Mapping[str, float]
    macs: int
    ops: tuple[Placement, ...]
    log: str


def compile_model(model: bytes, npu: Accelerator) -> Compiled:
    """Compiles a TFLite model with Vela.

    Args:
        model: the file's bytes.
        npu: accelerator, system config and memory mode, all pinned: Vela's defaults differ per family.

    Raises:
        InputError: the bytes are no TFLite model.
        UnsupportedError: the model holds what crashes Vela: 4-bit integers.
        ToolError: Vela is not installed, or fails.
    """
    refuse_what_crashes(flatbuffer.from_bytes(model), npu.accelerator)
    need("ethosu")
    with TemporaryFolder() as folder:
        log = _run(model, npu, folder)
        return _read(folder / "out", log)


def refuse_what_crashes(graph: Graph, target: str) -> None:
    """Raises UnsupportedError where Vela would crash: 5.2.0 divides by zero on 4-bit integers (SIGFPE)."""
    for part in (graph, *graph.others):
        for i, op in enumerate(part.ops):
            if any(part.tensors[t].dtype == "int4" for t in op.tensors):
                raise UnsupportedError(
                    part.describe(i),
                    target,
                    "it has 4-bit weights, and Vela crashes on them",
                    "Build with 8-bit weights, for example `--precision w8a8`.",
                )


def _run(model: bytes, npu: Accelerator, folder: Path) -> str:
    (folder / "model.tflite").write_bytes(model)
    # Vela takes several files and wants whole paths of those that are not its own.
    own = folder / "system.ini"
    lines = [f"[System_Config.{npu.system_config}]", *(f"{key}={value}" for key, value in npu.system)]
    own.write_text("\n".join(lines) + "\n", encoding="utf-8")
    configs = ["--config", CONFIG, *(["--config", str(own)] if npu.system else [])]
    command = [sys.executable, "-m", "ethosu.vela", "model.tflite", "--output-dir", "out", *configs,
               "--accelerator-config", npu.accelerator, "--system-config", npu.system_config,
               "--memory-mode", npu.memory_mode, "--verbose-performance", "--show-cpu-operations"]  # fmt: skip
    watched = Watched(command, folder=folder)
    limit_memory(watched.process.pid, MEMORY)
    try:
        status, printed, _ = watched.wait(SECONDS)
    except subprocess.TimeoutExpired:
        raise ToolError("vela", None, "", f"It did not end within {SECONDS:g} s: is the model damaged?") from None
    log = printed.decode("utf-8", "replace")
    if status != 0:
        raise _failed(npu, status, log)
    return log


def _failed(npu: Accelerator, status: int, log: str) -> ToolError:
    tail = [line for line in log.splitlines() if line.strip()][-TAIL_LINES:]
    hint = f"Vela's last line: {tail[-1].strip()[:200]}" if tail else "It printed nothing."
    setting = f"--accelerator-config {npu.accelerator} --system-config {npu.system_config}"
    return ToolError(f"vela {setting} --memory-mode {npu.memory_mode}", status, "\n".join(tail), hint)


def _read(out: Path, log: str) -> Compiled:
    summaries, layers, models = (
        sorted(out.glob(f"model_{name}")) for name in ("summary_*.csv", "per-layer.csv", "vela.tflite")
    )
    if not (len(summaries) == len(layers) == len(models) == 1):
        found = ", ".join(sorted(path.name for path in out.glob("*"))) or "nothing"
        raise ToolError(
            "vela", 0, log[-2000:], f"It should write a model, a summary and a list of layers; it wrote {found}."
        )
    (summary,) = _rows(summaries[0])
    return Compiled(
        model=models[0].read_bytes(),
        cycles={name: float(summary[f"cycles_{name}"]) for name in _CYCLES},
        seconds=float(summary["inference_time"]),
        clock=float(summary["core_clock"]),
        memory={name: 1024 * float(summary[f"{name}_memory_used"]) for name in _MEMORY},
        macs=int(float(summary["nn_macs"])),
        ops=placements(_rows(layers[0])),
        log=log,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def placements(rows: Iterable[Mapping[str, str]]) -> tuple[Placement, ...]:
    """Vela's rows, one per step of the NPU, as one entry per op.

    An op's rows follow each other and name it as their original operator; where a step has the op's
    own kind, or is handed to the CPU as it is, it begins a new one.
    """
    found: list[Placement] = []
    for row in rows:
        step = Placement(row["Original Operator"], row["Name"], row["Target"], float(row["Op Cycles"]))
        begins = row["NNG Operator"] in (step.kind, "Passthrough")
        last = found[-1] if found else None
        if last is None or begins or (last.kind, last.where) != (step.kind, step.where):
            found.append(step)
        else:
            found[-1] = Placement(step.kind, step.name, step.where, last.cycles + step.cycles)
    return tuple(found)
