"""One entrance to every backend by which a model can be measured or estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeqwt.benchmark.android import AndroidSettings, bench_android
from edgeqwt.benchmark.browser import bench_browser
from edgeqwt.benchmark.ethos_u import bench_ethos_u
from edgeqwt.benchmark.host import HostSettings, bench_host
from edgeqwt.benchmark.qemu import bench_qemu
from edgeqwt.benchmark.qualcomm import bench_qualcomm
from edgeqwt.benchmark.result import BenchResult
from edgeqwt.benchmark.tflm import SamplesOf, bench_tflm
from edgeqwt.errors import InputError
from edgeqwt.profile import Npu, Plugin
from edgeqwt.web.litertjs import LiteRtJs, how_to_get

BACKENDS = ("host", "tflm", "qemu", "android", "browser")
"""Besides the NPUs, which are named by their target."""


@dataclass(frozen=True)
class Options:
    """The options of a benchmark; each backend reads those that it needs.

    Attributes:
        host: runs, threads and kernels.
        samples: makes the inputs for tflm from its graph; None: random ones.
        seed: of random inputs.
        machine: the board for qemu; None: by the firmware's processor.
        benchmark: LiteRT's benchmark_model for android.
        serial: the Android device, where there are several.
        litertjs: for browser.
        plugin: of a target whose NPU a plugin of LiteRT compiles for.
    """

    host: HostSettings = field(default_factory=HostSettings)
    samples: SamplesOf | None = None
    seed: int = 0
    machine: str | None = None
    benchmark: Path | None = None
    serial: str | None = None
    litertjs: LiteRtJs | None = None
    plugin: Plugin | None = None


MOST_THREADS = 256
"""Of LiteRT's interpreter, each of which waits busily."""


def bench(
    paths: Sequence[Path], where: str, npu: Npu | None = None, options: Options | None = None
) -> tuple[BenchResult, ...]:
    """Benchmarks files on one backend, side by side.

    Args:
        paths: .tflite files; for qemu firmwares, or folders with one.
        where: one of BACKENDS, or the name of a target with an NPU.
        npu: of that target.
        options: None: the defaults.

    Raises:
        InputError: no such backend; a file or an option that the backend needs is missing or wrong.
        ToolError: a program that the backend needs is missing or fails.
        UnsupportedError: Vela would crash on the model.
    """
    options = options or Options()
    if (
        options.host.runs < 1
        or not 1 <= options.host.threads <= MOST_THREADS
        or min(options.seed, options.host.seed) < 0
    ):
        what = f"{options.host.runs} runs on {options.host.threads} threads with seed {options.seed}"
        raise InputError(what, f"Give one run or more, 1 to {MOST_THREADS} threads and no negative seed.")
    if where == "host":
        return bench_host(paths, options.host)
    if where == "tflm":
        return tuple(bench_tflm(path, options.samples, options.seed) for path in paths)
    if where == "qemu":
        return tuple(bench_qemu(path, options.machine) for path in paths)
    if where == "android":
        settings = _android(options)
        return tuple(bench_android(path, settings) for path in paths)
    if where == "browser":
        if options.litertjs is None:
            raise InputError("a benchmark in a browser needs LiteRT.js", how_to_get())
        return bench_browser(paths, options.litertjs, replace(options.host, seed=options.seed))
    if options.plugin is not None:
        return tuple(bench_qualcomm(path, options.plugin, options.seed) for path in paths)
    if npu is None:
        hint = f"Choose {', '.join(BACKENDS)}, or a target with an NPU, such as ethos-u55-128."
        raise InputError(f"nothing can be benchmarked on {where!r}", hint)
    return tuple(bench_ethos_u(path, npu) for path in paths)


def _android(options: Options) -> AndroidSettings:
    if options.benchmark is None:
        hint = "Give LiteRT's benchmark_model for the device's processor with --benchmark-model FILE."
        raise InputError("a benchmark on an Android device needs LiteRT's benchmark_model", hint)
    threads, runs = options.host.threads, options.host.runs
    return AndroidSettings(options.benchmark, options.serial, runs=runs, threads=threads)
