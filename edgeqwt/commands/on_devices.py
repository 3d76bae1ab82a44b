"""Commands on devices: bench, targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgeqwt
from edgeqwt.commands import panels
from edgeqwt.commands.app import command
from edgeqwt.commands.completion import devices, offered
from edgeqwt.commands.options import Json
from edgeqwt.errors import InputError
from edgeqwt.output import answer


@command(
    "edgeqwt bench out/model.tflite --on host",
    "edgeqwt bench out/plain.tflite --compare out/model.tflite --on tflm-cortex-m4",
    "edgeqwt bench out/model.tflite --on ethos-u55-128 --json > cost.json",
    "edgeqwt bench out/package/firmware --on qemu",
    "edgeqwt bench --calibrate-pace",
)
def bench(
    model: Annotated[
        Path | None, typer.Argument(help="A .tflite file; with qemu a firmware, or its folder.", metavar="FILE")
    ] = None,
    on: Annotated[
        str,
        panels.run(
            "--on",
            help="host (this machine), tflm, qemu, android, browser, or a target with an NPU.",
            metavar="WHERE",
            autocompletion=offered(devices),
        ),
    ] = "host",
    compare: Annotated[
        Path | None,
        panels.run("--compare", help="A second file: run both side by side and print ratios.", metavar="OTHER"),
    ] = None,
    runs: Annotated[int, panels.run(help="Of each model (host, android, browser).", min=1, metavar="N")] = 100,
    threads: Annotated[int, panels.run(help="Of LiteRT's interpreter.", min=1, metavar="N")] = 1,
    seed: Annotated[int, panels.run(help="Of random inputs.", metavar="N")] = 0,
    calibrate_pace: Annotated[
        bool, panels.run("--calibrate-pace", help="Without FILE: measure this machine's op times, for --max-latency.")
    ] = False,
    machine: Annotated[
        str | None,
        panels.run(help="QEMU's board, mps2-an386 or mps3-an547; else by the firmware's processor.", metavar="NAME"),
    ] = None,
    benchmark_model: Annotated[
        Path | None, panels.run(help="LiteRT's benchmark_model program for the Android device.", metavar="FILE")
    ] = None,
    serial: Annotated[
        str | None, panels.run(help="The Android device, as `adb devices` lists it.", metavar="ID")
    ] = None,
    output: Annotated[
        Path | None,
        panels.output("--output", "-o", help="Write what --json prints to this file, too.", metavar="FILE.json"),
    ] = None,
    json: Json = False,
) -> None:
    """Measure latency, memory and cycles of a model.

    And whether runtimes agree. Exit code 1 where a check fails.
    """
    from edgeqwt.benchmark.bench import Options
    from edgeqwt.benchmark.host import HostSettings
    from edgeqwt.benchmark.result import document
    from edgeqwt.benchmark.terminal import show_bench, write_bench
    from edgeqwt.report.folder import check_file

    if calibrate_pace:
        if model is not None:
            raise InputError("--calibrate-pace measures the machine, not a file", "Give one of the two.")
        _show_pace(runs, json)
        return
    if model is None:
        raise InputError("bench needs a FILE", "Or --calibrate-pace, which measures ops without a file.")
    if output is not None:
        check_file(output)
    host = HostSettings(runs=runs, threads=threads, seed=seed)
    options = Options(host, seed=seed, machine=machine, benchmark=benchmark_model, serial=serial)
    results = edgeqwt.bench([model] if compare is None else [model, compare], on, options)
    answer(json, document(*results), lambda out: show_bench(out, results))
    if output is not None:
        write_bench(results, output)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


def _show_pace(runs: int, json: bool) -> None:
    """Measures and prints op times, as a recipe has them."""
    from dataclasses import asdict

    from edgeqwt.benchmark.pace import measure

    found = asdict(measure(runs))
    table = "[mixed.op_times]\n" + "".join(f"{name} = {value}\n" for name, value in found.items())
    answer(json, found, lambda out: out.print(table, markup=False, highlight=False, end=""))


@command("edgeqwt targets", "edgeqwt targets --json")
def targets(json: Json = False) -> None:
    """List the targets that --target knows."""
    from edgeqwt.report.findings import show_targets

    found = edgeqwt.targets()
    answer(json, {profile.name: profile.title for profile in found}, lambda out: show_targets(out, found))
