"""The packaged firmware on a board that QEMU emulates: the test vectors' verdict, and instructions per inference."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edgeqwt.benchmark.describe import of_file
from edgeqwt.benchmark.elf import Elf, read_elf
from edgeqwt.benchmark.program import run_program
from edgeqwt.benchmark.result import EMULATED, NOT_ON_HARDWARE, BenchResult, Check, Figure
from edgeqwt.errors import InputError, ToolError

PROGRAM = "qemu-system-arm"
INSTRUCTIONS_PER_TICK: Mapping[str, float] = MappingProxyType({"mps2-an386": 40.0, "mps3-an547": 31.25})
"""With -icount shift=0 an instruction takes 1 ns; SysTick counts at 25 MHz on the M4 board, at 32 MHz on the M55's."""
MACHINE_OF: Mapping[str, str] = MappingProxyType({"v7E-M": "mps2-an386", "v8.1-M": "mps3-an547"})
"""A board with a processor of that architecture: a Cortex-M4, a Cortex-M55."""
TIMEOUT = 600.0


@dataclass(frozen=True)
class FirmwareOutput:
    """What the firmware printed.

    Attributes:
        ticks: of each inference.
        vectors: how many test vectors it ran.
        failures: how many gave other bytes than expected.
        arena: bytes of the arena that it used; None where it does not say.
    """

    ticks: tuple[int, ...]
    vectors: int
    failures: int
    arena: int | None = None


def bench_qemu(path: Path, machine: str | None = None, timeout: float = TIMEOUT) -> BenchResult:
    """Runs a firmware that the user built from a package.

    Args:
        path: the firmware (an ELF file), or a folder with one .elf below it.
        machine: a key of INSTRUCTIONS_PER_TICK; None: the one for the firmware's processor.
        timeout: seconds after which the run is given up.

    Raises:
        InputError: there is no firmware, it is for another processor, or it does not print its results.
        ToolError: QEMU is missing, fails, or does not end in time.
    """
    firmware = find_firmware(path)
    machine = _machine(firmware, read_elf(firmware), machine)
    printed, version = _run(firmware, machine, timeout)
    output = parse(printed, firmware)
    rate = INSTRUCTIONS_PER_TICK[machine]
    figures = [
        Figure("instructions_min", "tflm", rate * min(output.ticks), "instructions"),
        Figure("instructions_max", "tflm", rate * max(output.ticks), "instructions"),
        Figure("ticks_min", "tflm", min(output.ticks), "ticks"),
    ]
    if output.arena is not None:
        figures.append(Figure("arena", "tflm", output.arena, "B"))
    return BenchResult(
        **of_file(firmware),
        where="qemu",
        evidence=EMULATED,
        figures=tuple(figures),
        checks=(
            Check(
                "the firmware's outputs have the expected bytes",
                output.failures == 0 and output.vectors > 0,
                f"{output.vectors - output.failures} of {output.vectors} test vectors",
            ),
        ),
        notes=(
            f"Instructions, not cycles: {rate:g} for each tick of the emulated timer; {NOT_ON_HARDWARE}.",
            "The firmware's kernels are those of the TFLite Micro library that it was linked with.",
        ),
        settings={"machine": machine, "icount": "shift=0"},
        versions={"qemu": version},
        machine=f"QEMU {machine}",
    )


def find_firmware(path: Path) -> Path:
    """The ELF file that a path means.

    Raises:
        InputError: there is none, or there are several.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise InputError(f"{path} does not exist", "Name the firmware that you built, or the folder that holds it.")
    found = sorted(path.rglob("*.elf"))
    if not found:
        hint = "Build the package's firmware first, as its README says, then name its build folder."
        raise InputError(f"{path} holds no .elf file", hint)
    if len(found) > 1:
        names = ", ".join(str(one.relative_to(path)) for one in found[:5])
        raise InputError(f"{path} holds {len(found)} .elf files: {names}", "Name one of them.")
    return found[0]


def parse(printed: str, firmware: Path) -> FirmwareOutput:
    """The results in what the firmware printed.

    Raises:
        InputError: it did not come to its end, or it is another program.
    """
    verdict = re.search(r"^edgeqwt vectors=(\d+) failures=(\d+)\s*$", printed, re.MULTILINE)
    ticks = tuple(int(t) for t in re.findall(r"^edgeqwt ticks=(\d+)\s*$", printed, re.MULTILINE))
    arena = re.search(r"^edgeqwt arena=(\d+)\s*$", printed, re.MULTILINE)
    if verdict is not None and not ticks:
        first = next((line.strip() for line in printed.splitlines() if line.strip()), "")[:300]
        hint = "Its TFLite Micro library refuses the model; build the package for that library's kernels and size."
        raise InputError(f"{firmware.name} could not run the model: {first}", hint)
    if verdict is None:
        last = [line.strip() for line in printed.splitlines() if line.strip()][-3:]
        said = "; ".join(last)[:300] or "nothing"
        hint = "It must be the self-test of a package that edgeqwt made, built for this board."
        raise InputError(f"{firmware.name} did not print its results; it printed: {said}", hint)
    return FirmwareOutput(ticks, int(verdict[1]), int(verdict[2]), int(arena[1]) if arena else None)


def _machine(firmware: Path, elf: Elf, machine: str | None) -> str:
    if elf.machine != "arm":
        raise InputError(f"{firmware} is a program for {elf.machine}, not for Arm", "Build it with the Arm toolchain.")
    wanted = machine or MACHINE_OF.get(elf.architecture)
    if wanted is None:
        hint = f"Name the board with --machine: {', '.join(INSTRUCTIONS_PER_TICK)}."
        raise InputError(
            f"{firmware} does not say for which processor it is (found {elf.architecture or 'nothing'})", hint
        )
    if wanted not in INSTRUCTIONS_PER_TICK:
        raise InputError(f"there is no machine {wanted!r}", f"Choose {' or '.join(INSTRUCTIONS_PER_TICK)}.")
    if elf.architecture in MACHINE_OF and MACHINE_OF[elf.architecture] != wanted:
        hint = f"Use --machine {MACHINE_OF[elf.architecture]}, or build with the other toolchain file."
        raise InputError(f"{firmware} is built for {elf.architecture}, which {wanted} does not have", hint)
    return wanted


def _run(firmware: Path, machine: str, timeout: float) -> tuple[str, str]:
    """What the firmware printed, and QEMU's version."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise ToolError(PROGRAM, None, "", "Install QEMU's Arm system emulator (Debian: qemu-system-arm).")
    version = run_program([program, "--version"], timeout).stdout.splitlines()
    command = [program, "-M", machine, "-nographic", "-monitor", "none", "-serial", "none", "-kernel", str(firmware),
               "-semihosting-config", "enable=on,target=native", "-icount", "shift=0"]  # fmt: skip
    done = run_program(command, timeout, f"Is the firmware linked for {machine}, and does it end by semihosting?")
    printed = done.stdout + done.stderr  # semihosting writes to either
    if "edgeqwt vectors=" not in printed and done.returncode != 0:
        lines = printed.splitlines()
        hint = f"It said: {_tail(lines)[-300:]}" if lines else f"Is the firmware linked for {machine}?"
        raise ToolError(PROGRAM, done.returncode, _tail(lines), hint)
    return printed, version[0].removeprefix("QEMU emulator version ") if version else ""


def _tail(lines: Sequence[str]) -> str:
    return "\n".join(lines[-10:])
