"""Files of one network at other widths and by other recipes in XNNPACK: bytes, latency, time by kind of op.

Runs of the files alternate, so that what else the machine does hits all of them alike; figures are ratios to the first
file. Weights may be random (`--seeded`): time does not depend on them. Files may be built while the machine is busy
(`--keep FOLDER --build`, which goes on where it was stopped) and timed when it is not (`--keep FOLDER`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from common import show
from qualcomm import NETWORKS, first, model_of

import edgeqwt
from edgeqwt.benchmark.host import HostSettings, bench_host
from edgeqwt.benchmark.result import BenchResult
from edgeqwt.graph import flatbuffer
from edgeqwt.output import progress_display

NAMES = ("vit", "hybrid", "mobilenetv2", "minilm", "resnet20")
FILES = ("plain:w8a8", "plain:w4a8")
KINDS = 8


def main() -> None:
    """Builds, runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=NAMES, help="all of them by default")
    parser.add_argument("--files", nargs="+", default=FILES, metavar="RECIPE:PRECISION", help="'float' is one, too")
    parser.add_argument("--samples", type=int, default=16, help="for calibration")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=40.0, help="at most, for all runs of a network")
    parser.add_argument("--ops", action="store_true", help="time by kind of op")
    parser.add_argument("--seeded", action="store_true", help="random weights where there are no trained ones")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for the files, which are not built again")
    parser.add_argument("--build", action="store_true", help="only build what is missing in that folder")
    arguments = parser.parse_args()
    if arguments.build and arguments.keep is None:
        parser.error("--build needs --keep FOLDER")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.names or NAMES:
            paths = [built(name, label, folder, arguments) for label in arguments.files]
            if arguments.build:
                continue
            settings = HostSettings(
                runs=arguments.runs, seconds=arguments.seconds, kernels=("xnnpack",), profile=arguments.ops
            )
            compare(name, arguments.files, paths, bench_host(paths, settings))


def built(name: str, label: str, folder: Path, arguments: argparse.Namespace) -> Path:
    """One file of a network; those that are there stay."""
    path, floating = (folder / f"{name}-{part}.tflite" for part in (label.replace(":", "-"), "float"))
    if path.is_file():
        return path
    recipe, _, precision = label.partition(":")
    source: object = str(floating) if floating.is_file() else model_of(name, NETWORKS[name], arguments.seeded)
    samples = first(NETWORKS[name].calibration(), arguments.samples)
    if isinstance(source, str):  # the converted file takes pictures with channels last
        samples = np.ascontiguousarray(samples.transpose(0, 2, 3, 1)) if isinstance(samples, np.ndarray) else samples
    result = edgeqwt.build(
        source,
        calibration=samples,
        recipe="plain" if label == "float" else recipe,
        precision=precision or None,
        accept=True,
        display=progress_display(),
    )
    if not floating.is_file():
        flatbuffer.write(result.model.graph, floating)
    if label != "float":
        flatbuffer.write(result.graph, path)
    return path


def compare(name: str, labels: list[str], paths: list[Path], found: tuple[BenchResult, ...]) -> None:
    """Prints bytes and latencies by those of the first file, and where the time goes."""
    least = [result.value("latency_min", "xnnpack") for result in found]
    middle = [result.value("latency_median", "xnnpack") for result in found]
    sizes = [path.stat().st_size for path in paths]
    rows = [
        (
            label,
            f"{size:,}",
            f"{size / sizes[0]:.3f}",
            f"{1e3 * low:.3f}",
            f"{low / least[0]:.3f}",
            f"{m / middle[0]:.3f}",
        )
        for label, size, low, m in zip(labels, sizes, least, middle, strict=True)
    ]
    header = ("file", "bytes", "by the first", "least, ms", "by the first", "medians")
    show(f"{name}: {found[0].value('runs', 'xnnpack'):.0f} runs of each file in turn", header, rows)
    for label, result in zip(labels, found, strict=True):
        spent: dict[tuple[str, str], float] = defaultdict(float)
        for cost in result.op_costs:
            spent[cost.kind, cost.where] += cost.value
        largest = sorted(spent.items(), key=lambda item: -item[1])[:KINDS]
        if largest:
            print(f"  {label}: " + ", ".join(f"{kind} ({where}) {1e3 * s:.2f} ms" for (kind, where), s in largest))


if __name__ == "__main__":
    main()
