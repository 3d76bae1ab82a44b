"""ResNet-20 on all 10 000 CIFAR-10 test images: accuracy, agreement, SQNR, and the time of a build."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import (
    CALIBRATION,
    ROOT,
    Array,
    Figures,
    Requirement,
    at_least,
    at_most,
    cifar10,
    equal,
    figures,
    finish,
    normalized,
    outputs,
    shared,
    show_figures,
)
from models.resnet20_cifar10 import create

import edgeqwt
from edgeqwt.judgement import COMPENSATED, PLAIN, UNCOMPENSATED
from edgeqwt.output import progress_display
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe.recipe import Recipe, load
from edgeqwt.report.document import variants
from edgeqwt.widths.precision import Precision, parse

EIGHT, FOUR, BEST, WIDE = "w8a8", "w4a8", "w4a8, best", "w8a16"
VARIANTS = {PLAIN: "plain", UNCOMPENSATED: "uncompensated", COMPENSATED: "compensated"}

# What the project set out to reach: accuracy, agreement, SQNR. A miss fails the benchmark.
WANTED = {
    EIGHT: (0.810, 0.988, 31.0),
    FOUR: (0.807, 0.950, 19.5),
    BEST: (0.810, 0.970, 22.5),
    WIDE: (0.810, 0.995, 38.0),
}


def recipes() -> dict[str, Recipe]:
    """What is built; the first one is what users get who ask for nothing."""
    found = {name: replace(load("balanced"), precision=_unpacked(name)) for name in (EIGHT, FOUR)}
    found[BEST] = replace(load("best"), precision=_unpacked(FOUR), leave_one_out=0)
    return {**found, WIDE: replace(load("balanced"), precision=_unpacked(WIDE))}


def _unpacked(name: str) -> Precision:
    # LiteRT unpacks int4 at every run, too slow for all images; stored in int8 the integers are the same.
    return replace(parse(name), pack_int4=False)


def main() -> None:
    """Prints the tables."""
    data = cifar10()
    calibration = normalized(data["calibration_images"][:CALIBRATION])
    images, labels = normalized(data["test_images"]), data["test_labels"]
    nhwc = [np.ascontiguousarray(image[None].transpose(0, 2, 3, 1)) for image in images]

    seconds = command_seconds(calibration)
    built = {name: build(calibration, recipe) for name, recipe in recipes().items()}
    reference, source = outputs(built[EIGHT].prepared.graph, nhwc), torch_logits(images)
    found = {
        (name, variant): figures(outputs(variants(result)[variant], nhwc), reference, labels)
        for name, result in built.items()
        for variant in VARIANTS
        # No fast kernels with 16-bit activations: minutes per variant.
        if name != WIDE or variant == result.choice.name
    }
    floats = {"PyTorch": figures(source, reference, labels), "float TFLite": figures(reference, reference, labels)}
    integers = {f"{name}, {VARIANTS[variant]}": f for (name, variant), f in found.items()}
    title = f"ResNet-20, {len(images):,} test images, {CALIBRATION} calibration images; by width of the weights"
    show_figures(title, {**floats, **integers})
    for name, result in built.items():
        print(f"{name}: kept {result.choice.name}, {result.choice.reason}")
    difference = float(np.abs(source - reference).max())
    finish(
        [
            at_most("float TFLite against PyTorch, largest difference", difference, 1e-4, "{:.1e}"),
            equal("float TFLite, accuracy as PyTorch's", accuracy(reference, labels), accuracy(source, labels)),
            *(
                row
                for name, wanted in WANTED.items()
                for row in reached(name, found[name, built[name].choice.name], wanted)
            ),
            *cost(built[EIGHT], seconds),
        ]
    )


def reached(name: str, got: Figures, wanted: tuple[float, float, float]) -> Iterator[Requirement]:
    """The three figures of one precision."""
    yield at_least(f"{name}: accuracy", got.accuracy, wanted[0])
    yield at_least(f"{name}: same top-1 as float", got.agreement, wanted[1])
    yield at_least(f"{name}: output SQNR, dB", got.sqnr, wanted[2], "{:.2f}")


def build(calibration: Array, recipe: Recipe) -> BuildResult:
    """One build from PyTorch."""
    return edgeqwt.build(create(), calibration={"x": calibration}, recipe=recipe, display=progress_display())


def torch_logits(images: Array) -> Array:
    """The PyTorch model's own outputs."""
    import torch

    model = create()
    with torch.no_grad():
        return np.concatenate([model(torch.from_numpy(part)).numpy() for part in np.array_split(images, 40)])


def accuracy(found: Array, labels: Array) -> float:
    """Share of images whose class is right."""
    return float((found.argmax(1) == labels).mean())


def cost(result: BuildResult, seconds: float) -> Iterator[Requirement]:
    """What compensation adds to the file and to the build."""
    plain, compensated = (variants(result)[name] for name in (UNCOMPENSATED, COMPENSATED))
    same = [op.kind for op in plain.ops] == [op.kind for op in compensated.ops]
    yield equal("the same ops in the same order with compensation as without", same, True)
    yield equal("bytes that compensation adds", result.sizes[COMPENSATED] - result.sizes[UNCOMPENSATED], 0)
    yield at_most("edgeqwt build, from command to finished folder, s", seconds, 60)
    ratio = result.seconds["compensate"] / result.seconds["calibrate"]
    yield at_most("compensation, times the calibration run", ratio, 3, "{:.2f}")


def command_seconds(images: Array) -> float:
    """Wall-clock seconds of the command line, imports and all."""
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.npz"
        np.savez(samples, x=images)
        model = f"{ROOT}/benchmarks/models/resnet20_cifar10.py:create"
        command = ["build", model, "--calibration", str(samples), "--output", f"{folder}/out"]
        start = time.perf_counter()
        environment = {**os.environ, "EDGEQWT_SHARED": str(shared())}
        subprocess.run([sys.executable, "-m", "edgeqwt.cli", *command], check=True, env=environment)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
