"""All 10 000 CIFAR-10 test images: LiteRT's reference kernels against TFLite Micro, byte by byte, op by op."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from queue import Empty, Queue

import numpy as np
from common import CALIBRATION, cifar10, equal, finish, normalized, show
from models.resnet20_cifar10 import create

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.output import progress_display
from edgeqwt.runtime.parallel import THREADS
from edgeqwt.verify.bitexact import BitExactness, Difference, compare_runtimes


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="use the first N test images (default: all)")
    parser.add_argument("--precision", default="w8a8", help="widths of weights and activations (default: w8a8)")
    options = parser.parse_args()
    images = normalized(cifar10()["test_images"][: options.images])
    calibration = {"x": normalized(cifar10()["calibration_images"][:CALIBRATION])}
    built = edgeqwt.build(create(), calibration=calibration, precision=options.precision, display=progress_display())
    with tempfile.TemporaryDirectory() as folder:
        flatbuffer.write(built.graph, Path(folder) / "model.tflite")
        np.save(Path(folder) / "images.npy", np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
        found = compared(Path(folder), len(images))
    title = f"ResNet-20, {options.precision}, {len(images):,} test images, {found.elements:,} values"
    rows = [
        (f"{d.kind} #{d.op} {d.tensor!r}", kernels, f"{d.differing:,}", f"{d.elements:,}", f"{d.largest:g}")
        for kernels, differences in (("TFLite Micro", found.differences), ("XNNPACK", found.xnnpack_outputs))
        for d in differences
    ]
    header = ("where others differ from the reference kernels", "kernels", "values", "of", "steps at most")
    show(title, header, rows)
    finish(
        [
            equal("ops that TFLite Micro ran", found.ops, len(built.graph.ops)),
            # FULLY_CONNECTED is known to differ by one step now and then; the op table says so.
            equal("values that differ otherwise than is known", sum(d.differing for d in unknown(found)), 0),
        ]
    )


def unknown(found: BitExactness) -> list[Difference]:
    """What the op table does not explain."""
    return [d for d in found.differences if not d.known]


def compared(folder: Path, count: int) -> BitExactness:
    """Every process compares its share of the images: TFLite Micro keeps Python's lock, so threads would not help."""
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(THREADS, mp_context=context) as pool:
        done = manager.Queue()
        shares = [range(k, count, THREADS) for k in range(THREADS)]
        running = [pool.submit(share, folder, images, done) for images in shares]
        watch(running, done, count)
        return added([part.result() for part in running])


def share(folder: Path, indices: range, done: Queue[int]) -> BitExactness:
    """One process's work."""
    graph = flatbuffer.read(folder / "model.tflite")
    images = np.load(folder / "images.npy", mmap_mode="r")
    samples = ({graph.inputs[0]: np.array(images[i : i + 1])} for i in indices)
    return compare_runtimes(graph, samples, threads=1, on_sample=lambda: done.put(1))


def watch(running: list[Future[BitExactness]], done: Queue[int], count: int) -> None:
    """Shows how far the processes are, until they are all done or one fails."""
    with progress_display()("compare") as advance:
        seen = 0
        while seen < count and not any(part.done() and part.exception() for part in running):
            try:
                seen += done.get(timeout=1)
            except Empty:
                continue
            advance(seen, count)
            if not sys.stderr.isatty() and seen % (count // 10 or 1) == 0:
                print(f"{seen:,} of {count:,} images", file=sys.stderr, flush=True)
    wait(running)


def added(parts: Sequence[BitExactness]) -> BitExactness:
    """The processes' findings as one."""
    return replace(
        parts[0],
        samples=sum(part.samples for part in parts),
        elements=sum(part.elements for part in parts),
        differences=joined(parts, lambda part: part.differences),
        xnnpack=joined(parts, lambda part: part.xnnpack),
        xnnpack_outputs=joined(parts, lambda part: part.xnnpack_outputs),
    )


def joined(
    parts: Sequence[BitExactness], pick: Callable[[BitExactness], tuple[Difference, ...]]
) -> tuple[Difference, ...]:
    """The same tensors of all parts, added up; a part that does not name one saw no difference there."""
    images = sum(part.samples for part in parts)
    found: dict[int, Difference] = {}
    for part in parts:
        for d in pick(part):
            before = found.get(d.op, replace(d, differing=0, largest=0.0))
            found[d.op] = replace(
                d,
                elements=d.elements // part.samples * images,
                differing=before.differing + d.differing,
                largest=max(before.largest, d.largest),
            )
    return tuple(found[op] for op in sorted(found))


if __name__ == "__main__":
    main()
