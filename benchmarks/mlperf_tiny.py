"""MLPerf Tiny image classification and visual wake words: our 8- and 4-bit files beside MLPerf's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from common import CALIBRATION, Array, Requirement, at_least, cifar10, figures, finish, outputs, shared, show_figures

import edgeqwt
from edgeqwt.calibration.images import ImageOptions, find_images, read_image
from edgeqwt.graph import flatbuffer
from edgeqwt.output import progress_display
from edgeqwt.recipe.recipe import load
from edgeqwt.widths.precision import parse

FOLDS = 3
OFFICIAL, REPAIRED, EIGHT, FOUR = "MLPerf's int8", "MLPerf's int8, compensated", "edgeqwt, w8a8", "edgeqwt, w4a8"

# What the project set out to reach: agreement with the float file, SQNR of the output. A miss fails the benchmark.
WANTED = {
    ("image_classification", EIGHT): (0.975, 24.0),
    ("image_classification", FOUR): (0.93, None),
    ("visual_wake_words", EIGHT): (0.996, 32.0),
    ("visual_wake_words", FOUR): (0.98, None),
}


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
    """Ours must reach what was set, and compensating MLPerf's file must not make it worse."""
    parts = [fold(task.name, calibration, test) for calibration, test in task.folds]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    reference = joined["float"]
    found = {name: figures(values, reference, task.labels) for name, values in joined.items()}
    show_figures(f"{task.name}, {len(reference):,} images", found)
    official = found[OFFICIAL].agreement, found[OFFICIAL].sqnr
    wanted = {name: WANTED[task.name, name] for name in (EIGHT, FOUR)}
    for name, (agreement, sqnr) in {**wanted, REPAIRED: official}.items():
        yield at_least(f"{task.name}, {name}: same top-1 as float", found[name].agreement, agreement)
        if sqnr is not None:
            yield at_least(f"{task.name}, {name}: output SQNR, dB", found[name].sqnr, sqnr, "{:.2f}")


def fold(name: str, calibration: Array, test: Array) -> dict[str, Array]:
    """Outputs of the float file and of every int8 file on the test images."""
    files = {kind: file(name, kind) for kind in ("float32", "int8")}
    graph, official = (flatbuffer.read(path) for path in files.values())
    samples = {graph.tensors[graph.inputs[0]].name: calibration}
    # LiteRT unpacks int4 at every run, too slow for all images; stored in int8 the integers are the same.
    four = replace(load("balanced"), precision=replace(parse("w4a8"), pack_int4=False))
    built, small = (
        edgeqwt.build(files["float32"], calibration=samples, recipe=recipe, display=progress_display())
        for recipe in ("balanced", four)
    )
    repaired = edgeqwt.compensate(files["int8"], files["float32"], calibration=samples, display=progress_display())
    graphs = {
        "float": graph,
        OFFICIAL: official,
        REPAIRED: repaired.graph,
        EIGHT: built.graph,
        FOUR: small.graph,
    }
    images = [image[None] for image in test]
    return {variant: outputs(graph, images) for variant, graph in graphs.items()}


def file(name: str, kind: str) -> Path:
    """One of MLPerf's files."""
    return shared() / "models" / "mlperf_tiny" / f"{name}_{kind}.tflite"


if __name__ == "__main__":
    main()
