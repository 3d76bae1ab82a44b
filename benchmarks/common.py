"""What the benchmarks share: the real data, running a file on many images, tables."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from models.resnet20_cifar10 import MEAN, STD

from edgeqwt.graph.graph import Graph
from edgeqwt.output import console, show_table
from edgeqwt.report.terminal import decibels
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack

Array = npt.NDArray[Any]

ROOT = Path(__file__).resolve().parents[1]
CALIBRATION = 512  # images, of 1024


def shared() -> Path:
    """The folder with real models and data, or the end of the program with the reason."""
    folder = Path(os.environ.get("EDGEQWT_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        sys.exit(f"the real models and data are not at {folder}: name their folder in EDGEQWT_SHARED")
    return folder


def cifar10() -> dict[str, Array]:
    """CIFAR-10: calibration_images, test_images (n, 32, 32, 3) uint8, calibration_labels, test_labels.

    The file has its test images class by class: they are mixed, so that the first ones are of all classes.
    """
    with np.load(shared() / "data" / "cifar10.npz") as archive:
        data = {name: archive[name] for name in archive.files}
    mixed = np.random.default_rng(0).permutation(len(data["test_labels"]))
    return {name: array[mixed] if name.startswith("test_") else array for name, array in data.items()}


def at_hand[T](create: Callable[[], T]) -> T:
    """What a network's module creates; without trained weights this ends the program, and says how to get some."""
    try:
        return create()
    except FileNotFoundError as error:
        sys.exit(str(error))


def normalized(images: Array) -> Array:
    """uint8 (n, 32, 32, 3) to what the ResNet-20 was trained on, (n, 3, 32, 32)."""
    scaled = (images.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def outputs(graph: Graph, images: Iterable[Array]) -> Array:
    """The graph's first output for every image (1, ...), as real values, from LiteRT with XNNPACK.

    Args:
        graph: float or integer, with one input.
        images: real-valued, in the graph's layout.
    """
    (tensor,), out = graph.inputs, graph.outputs[0]

    def run(runner: Runner, image: Array) -> Array:
        return to_real(graph, out, runner.run(graph_feed(graph, {tensor: image}))[out])

    return np.concatenate(list(ordered([xnnpack(graph) for _ in range(THREADS)], run, images)))


@dataclass(frozen=True)
class Figures:
    """What counts of an integer file's outputs; `accuracy` is NaN where there are no labels."""

    accuracy: float
    agreement: float
    sqnr: float


def figures(found: Array, reference: Array, labels: Array | None = None) -> Figures:
    """Accuracy, share of equal top-1 with the float outputs, and output SQNR in dB."""
    top, wanted = found.argmax(axis=1), reference.argmax(axis=1)
    noise = float(np.square(found.astype(np.float64) - reference).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return Figures(
        math.nan if labels is None else float((top == labels).mean()),
        float((top == wanted).mean()),
        float(10 * np.log10(signal / noise)) if noise else float("inf"),
    )


@dataclass(frozen=True)
class Requirement:
    """One line of what a benchmark must show."""

    what: str
    required: str
    measured: str
    ok: bool


def at_least(what: str, measured: float, limit: float, form: str = "{:.4f}") -> Requirement:
    """A figure that must not be below a limit."""
    return Requirement(what, f">= {form.format(limit)}", form.format(measured), measured >= limit)


def at_most(what: str, measured: float, limit: float, form: str = "{:.1f}") -> Requirement:
    """A figure that must not be above a limit."""
    return Requirement(what, f"<= {form.format(limit)}", form.format(measured), measured <= limit)


def equal(what: str, measured: object, wanted: object) -> Requirement:
    """A figure that must be another one."""
    return Requirement(what, f"{wanted}", f"{measured}", measured == wanted)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table of figures, names at the left."""
    show_table(console(), title, header, rows)


def show_figures(title: str, found: Mapping[str, Figures]) -> None:
    """Prints the figures of some models."""
    rows = [
        (name, "" if math.isnan(f.accuracy) else f"{f.accuracy:.4f}", f"{f.agreement:.4f}", decibels(f.sqnr))
        for name, f in found.items()
    ]
    show(title, ("", "accuracy", "same top-1 as float", "output SQNR dB"), rows)


def finish(requirements: Sequence[Requirement]) -> None:
    """Prints what was required and ends the program, with status 1 where a requirement is not met."""
    verdicts = [(r.what, r.required, r.measured, "PASS" if r.ok else "FAIL") for r in requirements]
    if verdicts:
        show("Required", ("", "required", "measured", " "), verdicts)
    sys.exit(not all(r.ok for r in requirements))
