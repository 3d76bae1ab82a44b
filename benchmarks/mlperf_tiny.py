"""MLPerf Tiny image classification and visual wake words: our int8 files beside MLPerf's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import CALIBRATION, Array, Requirement, at_least, cifar10, figures, finish, outputs, shared, show_figures

import edgeqwt
from edgeqwt.calibration.images import ImageOptions, find_images, read_image
from edgeqwt.graph import flatbuffer
from edgeqwt.report.terminal import progress_display

FOLDS = 3
OFFICIAL, REPAIRED, OURS = "MLPerf's int8", "MLPerf's int8, compensated", "edgeqwt"


@dataclass(frozen=True, eq=False)
class Task:
    """A benchmark of MLPerf Tiny.

    Attributes:
        name: of its files.
        folds: (calibration images, test images), NHWC; what all folds test on is judged together.
        labels: of the test images, or None.
    """

    name: str
    folds: tuple[tuple[Array, Array], ...]
    labels: Array | None


def image_classification() -> Task:
    """Raw pixel values; CIFAR-10's calibration and test images."""
    data = cifar10()
    calibration = data["calibration_images"][:CALIBRATION].astype(np.float32)
    fold = (calibration, data["test_images"].astype(np.float32))
    return Task("image_classification", (fold,), data["test_labels"])


def visual_wake_words() -> Task:
    """Pixels / 255; each third of the photographs is tested on by a build that is calibrated on the others."""
    options = ImageOptions(size=(96, 96), crop="none", layout="NHWC")
    images = np.concatenate([read_image(path, options) for path in find_images(shared() / "data" / "photos")])
    parts = np.arange(len(images)) % FOLDS
    return Task("visual_wake_words", tuple((images[parts != k], images[parts == k]) for k in range(FOLDS)), None)


def main() -> None:
    """Prints the tables."""
    finish([row for task in (image_classification(), visual_wake_words()) for row in required(task)])


def required(task: Task) -> Iterator[Requirement]:
    """Ours must reach MLPerf's file, and compensating MLPerf's file must not make it worse."""
    parts = [fold(task.name, calibration, test) for calibration, test in task.folds]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    reference = joined["float"]
    found = {name: figures(values, reference, task.labels) for name, values in joined.items()}
    show_figures(f"{task.name}, {len(reference):,} images", found)
    for name in (OURS, REPAIRED):
        ours, official = found[name], found[OFFICIAL]
        yield at_least(f"{task.name}, {name}: same top-1 as float", ours.agreement, official.agreement)
        yield at_least(f"{task.name}, {name}: output SQNR, dB", ours.sqnr, official.sqnr, "{:.2f}")


def fold(name: str, calibration: Array, test: Array) -> dict[str, Array]:
    """Outputs of the float file and of every int8 file on the test images."""
    files = {kind: file(name, kind) for kind in ("float32", "int8")}
    graph, official = (flatbuffer.read(path) for path in files.values())
    samples = {graph.tensors[graph.inputs[0]].name: calibration}
    built = edgeqwt.build(files["float32"], calibration=samples, display=progress_display())
    repaired = edgeqwt.compensate_file(files["int8"], files["float32"], calibration=samples, display=progress_display())
    graphs = {
        "float": graph,
        OFFICIAL: official,
        REPAIRED: repaired.graph,
        f"{OURS}, plain": built.uncompensated,
        OURS: built.graph,
    }
    images = [image[None] for image in test]
    return {told: outputs(graph, images) for told, graph in graphs.items()}


def file(name: str, kind: str) -> Path:
    """One of MLPerf's files."""
    return shared() / "models" / "mlperf_tiny" / f"{name}_{kind}.tflite"


if __name__ == "__main__":
    main()
