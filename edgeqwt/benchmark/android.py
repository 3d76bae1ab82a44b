"""An Android device over adb, with LiteRT's own benchmark_model program, which the user brings.

Everything lies in one temporary folder of the device while it runs, and that folder is removed
whatever happens. Written for LiteRT's documented command line and output; no device was at hand.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edgeqwt.benchmark.benchmark_model import parse, parse_ops
from edgeqwt.benchmark.describe import of_model, read_model
from edgeqwt.benchmark.elf import read_elf
from edgeqwt.benchmark.program import run_program
from edgeqwt.benchmark.result import MEASURED, NOT_ON_HARDWARE, BenchResult
from edgeqwt.errors import InputError, ToolError
from edgeqwt.extras import versions_of

FOLDER = "/data/local/tmp"
"""Where adb's shell may write and run programs."""
ABIS: Mapping[str, str] = MappingProxyType(
    {"arm64-v8a": "arm64", "armeabi-v7a": "arm", "x86_64": "x86_64", "x86": "x86", "riscv64": "riscv"}
)
"""Android's names of processors, and those of `elf`."""
USB = "Connect a device with USB debugging switched on, and confirm this computer on its screen."


@dataclass(frozen=True)
class AndroidSettings:
    """How to measure on a device.

    Attributes:
        benchmark: LiteRT's benchmark_model for the device's processor.
        serial: the device, where there are several; as `adb devices` lists it.
        runs: at least.
        threads: of the interpreter.
        timeout: seconds for one adb command.
    """

    benchmark: Path
    serial: str | None = None
    runs: int = 50
    threads: int = 1
    timeout: float = 600.0


@dataclass(frozen=True)
class _Device:
    """adb, bound to one device."""

    adb: str
    serial: str
    timeout: float

    def run(self, *arguments: str) -> str:
        """One adb command; what it prints on standard output."""
        done = run_program([self.adb, "-s", self.serial, *arguments], self.timeout, USB)
        if done.returncode != 0:
            said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            hint = f"adb said: {said[-1][:200]}" if said else f"It printed nothing. {USB}"
            raise ToolError(f"adb {' '.join(arguments)[:120]}", done.returncode, "\n".join(said[-20:]), hint)
        return done.stdout

    def shell(self, *words: str) -> str:
        """One command of the device's shell."""
        return self.run("shell", shlex.join(words))


def bench_android(path: Path, settings: AndroidSettings) -> BenchResult:
    """Measures a model on a connected device.

    Raises:
        InputError: no model; no device, several, or one that is not ready; the program is for another processor.
        ToolError: adb is missing, or a command fails on the device.
    """
    data, graph = read_model(path)
    program = read_elf(settings.benchmark).machine
    device = _device(settings)
    about = {name: device.shell("getprop", f"ro.{name}").strip() for name in PROPERTIES}
    abi = about["product.cpu.abi"]
    if ABIS.get(abi, abi) != program:
        hint = f"Take LiteRT's benchmark_model for {abi}."
        raise InputError(f"{settings.benchmark} is a program for {program}, the device is {abi}", hint)
    with _folder(device) as folder:
        device.run("push", str(settings.benchmark), f"{folder}/benchmark_model")
        device.run("push", str(path), f"{folder}/model.tflite")
        device.shell("chmod", "755", f"{folder}/benchmark_model")
        # Its report goes to standard output or standard error, by its version.
        printed = device.run("shell", f"{shlex.join(_command(folder, settings))} 2>&1")
    return BenchResult(
        **of_model(path, data, graph),
        where="android",
        evidence=MEASURED,
        figures=parse(printed),
        op_costs=parse_ops(printed),
        notes=(
            "Measured by LiteRT's benchmark_model with XNNPACK on the device that adb names.",
            f"That edgeqwt reads adb and benchmark_model rightly was tried with stand-ins only: {NOT_ON_HARDWARE}.",
        ),
        settings={"threads": str(settings.threads), "runs at least": str(settings.runs)},
        versions={**versions_of("edgeqwt"), "android": about["build.version.release"]},
        machine=f"{about['product.manufacturer']} {about['product.model']} ({abi})",
    )


PROPERTIES = ("product.cpu.abi", "product.manufacturer", "product.model", "build.version.release")
"""Android's properties that a result names, without `ro.`."""


def _command(folder: str, settings: AndroidSettings) -> list[str]:
    return [
        f"{folder}/benchmark_model",
        f"--graph={folder}/model.tflite",
        f"--num_runs={settings.runs}",
        f"--num_threads={settings.threads}",
        "--use_xnnpack=true",
        "--enable_op_profiling=true",
        "--report_peak_memory_footprint=true",
    ]


# -- the device --------------------------------------------------------------------


def _device(settings: AndroidSettings) -> _Device:
    adb = shutil.which("adb")
    if adb is None:
        raise ToolError("adb", None, "", "Install Android's platform tools and put adb on your PATH.")
    done = run_program([adb, "devices"], settings.timeout, USB)
    if done.returncode != 0:
        raise ToolError("adb devices", done.returncode, done.stderr[-2000:], USB)
    # A device is a line with a tab; the title and what the server's start prints have none.
    listed = [line.partition("\t") for line in done.stdout.splitlines() if "\t" in line]
    states = {name.strip(): state.strip() for name, _, state in listed}
    serial = _chosen(states, settings.serial)
    if states[serial] != "device":
        raise InputError(f"the device {serial} is not ready: adb says {states[serial]!r}", USB)
    return _Device(adb, serial, settings.timeout)


def _chosen(states: Mapping[str, str], serial: str | None) -> str:
    names = ", ".join(states)
    if not states:
        raise InputError("adb lists no device", USB)
    if serial is not None and serial not in states:
        raise InputError(f"adb lists no device {serial!r}", f"It lists {names}.")
    if serial is None and len(states) > 1:
        raise InputError(f"adb lists {len(states)} devices: {names}", "Name one with --serial.")
    return serial or next(iter(states))


@contextmanager
def _folder(device: _Device) -> Iterator[str]:
    """A folder of our own on the device, removed at the end, also after a failure or Control-C."""
    folder = f"{FOLDER}/edgeqwt-{secrets.token_hex(4)}"
    device.shell("mkdir", folder)
    try:
        yield folder
    except BaseException as failure:
        try:
            device.shell("rm", "-rf", folder)
        except ToolError as left:  # the device may be gone; the first failure says more
            failure.add_note(f"{folder} may be left on the device: {left.message}")
        raise
    device.shell("rm", "-rf", folder)
