"""What the benchmarks share: the real data, running a file on many images, the three figures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeqwt.graph.graph import Graph
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack

Array = npt.NDArray[Any]

ROOT = Path(__file__).resolve().parents[1]


def shared() -> Path:
    """The folder with real models and data, or the end of the program with the reason."""
    folder = Path(os.environ.get("EDGEQWT_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        sys.exit(f"the real models and data are not at {folder}: name their folder in EDGEQWT_SHARED")
    return folder


def cifar10() -> dict[str, Array]:
    """CIFAR-10: calibration_images, test_images (n, 32, 32, 3) uint8, calibration_labels, test_labels."""
    with np.load(shared() / "data" / "cifar10.npz") as archive:
        return {name: archive[name] for name in archive.files}


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
    """What counts: of an integer file's outputs, against labels and the float file's outputs."""

    accuracy: float | None
    agreement: float
    sqnr: float

    def __str__(self) -> str:
        accuracy = "      " if self.accuracy is None else f"{self.accuracy:.4f}"
        return f"{accuracy} / {self.agreement:.4f} / {self.sqnr:5.1f} dB"


def figures(found: Array, reference: Array, labels: Array | None = None) -> Figures:
    """Accuracy, share of equal top-1 with the float outputs, and output SQNR."""
    top, wanted = found.argmax(axis=1), reference.argmax(axis=1)
    noise = float(np.square(found.astype(np.float64) - reference).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return Figures(
        None if labels is None else float((top == labels).mean()),
        float((top == wanted).mean()),
        float(10 * np.log10(signal / noise)) if noise else float("inf"),
    )
