"""Commands on devices: bench, targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeqwt.commands import panels
from edgeqwt.commands.app import command
from edgeqwt.commands.options import Json


@command(
    "edgeqwt bench out/model.tflite --on host",
    "edgeqwt bench out/plain.tflite --compare out/model.tflite --on tflm-cortex-m4",
    "edgeqwt bench out/model.tflite --on ethos-u55-128 --json > cost.json",
    "edgeqwt bench out/package/firmware --on qemu",
)
def bench(
    model: Annotated[Path, typer.Argument(help="A .tflite file; with qemu a firmware, or its folder.", metavar="FILE")],
    on: Annotated[
        str,
        typer.Option(
            "--on",
            help="host, tflm, qemu, android, browser, or a target with an NPU.",
            metavar="WHERE",
            rich_help_panel=panels.RUN,
        ),
    ],
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            help="A second file: run both side by side and print ratios.",
            metavar="OTHER",
            rich_help_panel=panels.RUN,
        ),
    ] = None,
    runs: Annotated[
        int,
        typer.Option(help="Of each model (host, android, browser).", min=1, metavar="N", rich_help_panel=panels.RUN),
    ] = 100,
    threads: Annotated[
        int, typer.Option(help="Of LiteRT's interpreter.", min=1, metavar="N", rich_help_panel=panels.RUN)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of random inputs.", metavar="N", rich_help_panel=panels.RUN)] = 0,
    machine: Annotated[
        str | None,
        typer.Option(
            help="QEMU's board, mps2-an386 or mps3-an547; else by the firmware's processor.",
            metavar="NAME",
            rich_help_panel=panels.RUN,
        ),
    ] = None,
    benchmark_model: Annotated[
        Path | None,
        typer.Option(
            help="LiteRT's benchmark_model program for the Android device.", metavar="FILE", rich_help_panel=panels.RUN
        ),
    ] = None,
    serial: Annotated[
        str | None,
        typer.Option(help="The Android device, as `adb devices` lists it.", metavar="ID", rich_help_panel=panels.RUN),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write what --json prints to this file, too.",
            metavar="FILE.json",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure latency, memory and cycles of a model.

    And whether runtimes agree. Exit code 1 where a check fails.
    """
    from edgeqwt import api
    from edgeqwt.benchmark.bench import Options
    from edgeqwt.benchmark.host import HostSettings
    from edgeqwt.benchmark.result import document
    from edgeqwt.benchmark.terminal import show_bench, write_bench
    from edgeqwt.output import console, print_json
    from edgeqwt.report.folder import check_file

    if output is not None:
        check_file(output)
    host = HostSettings(runs=runs, threads=threads, seed=seed)
    options = Options(host, seed=seed, machine=machine, benchmark=benchmark_model, serial=serial)
    results = api.bench([model] if compare is None else [model, compare], on, options)
    if json:
        print_json(document(*results))
    else:
        show_bench(console(), results)
    if output is not None:
        write_bench(results, output)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


@command("edgeqwt targets", "edgeqwt targets --json")
def targets(json: Json = False) -> None:
    """List the targets that --target knows."""
    from edgeqwt import api
    from edgeqwt.output import console, print_json
    from edgeqwt.report.findings import show_targets

    if json:
        print_json({profile.name: profile.title for profile in api.targets()})
    else:
        show_targets(console(), api.targets())
