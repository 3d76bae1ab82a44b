"""Depthwise networks of our own training (train.py) on all 10 000 CIFAR-10 test images: accuracy, agreement, SQNR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import ModuleType

import numpy as np
from common import (
    CALIBRATION,
    Array,
    Figures,
    Requirement,
    at_hand,
    at_least,
    cifar10,
    figures,
    finish,
    normalized,
    outputs,
    show,
    show_figures,
)
from models import dscnn_cifar10, mobilenetv2_cifar10

import edgeqwt
from edgeqwt.judgement import COMPENSATED, PLAIN, UNCOMPENSATED
from edgeqwt.output import progress_display
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe.recipe import Recipe, load
from edgeqwt.report.document import variants
from edgeqwt.report.terminal import decibels
from edgeqwt.widths.precision import Precision

NETWORKS = {"MobileNetV2": mobilenetv2_cifar10, "depthwise-separable": dscnn_cifar10}
VARIANTS = {PLAIN: "plain", UNCOMPENSATED: "uncompensated", COMPENSATED: "compensated"}
EIGHT, FOUR = "8 bit", "4 bit"
WORST = 5
"""How many layers the table of the worst ones shows."""


def recipes() -> dict[str, Recipe]:
    """What is built."""
    balanced = load("balanced")
    return {
        EIGHT: balanced,
        # LiteRT unpacks int4 at every run, too slow for all images; stored in int8 the integers are the same.
        FOUR: replace(balanced, precision=Precision(weight_bits=4)),
    }


def main() -> None:
    """Prints the tables."""
    data = cifar10()
    calibration = normalized(data["calibration_images"][:CALIBRATION])
    images, labels = normalized(data["test_images"]), data["test_labels"]
    nhwc = [np.ascontiguousarray(image[None].transpose(0, 2, 3, 1)) for image in images]
    requirements: list[Requirement] = []
    for name, module in NETWORKS.items():
        built = {width: build(module, calibration, recipe) for width, recipe in recipes().items()}
        reference = outputs(built[EIGHT].prepared.graph, nhwc)
        found = {
            (width, variant): figures(outputs(variants(result)[variant], nhwc), reference, labels)
            for width, result in built.items()
            for variant in VARIANTS
        }
        integers = {f"{width}, {VARIANTS[variant]}": f for (width, variant), f in found.items()}
        title = f"{name}, {len(images):,} test images, {CALIBRATION} calibration images; by width of the weights"
        exact = figures(reference, reference, labels)
        show_figures(title, {"float": exact, **integers})
        for width, result in built.items():
            print(f"{width}: kept {result.choice.name}, {result.choice.reason}")
            show_worst(f"{name}, {width}: layers with the lowest SQNR on held-out samples", result)
        requirements += required(name, found, exact)
    finish(requirements)


def build(module: ModuleType, calibration: Array, recipe: Recipe) -> BuildResult:
    """One build from PyTorch; ends the program where the network has not been trained."""
    model = at_hand(module.create)
    return edgeqwt.build(model, calibration={"x": calibration}, recipe=recipe, display=progress_display())


def show_worst(title: str, result: BuildResult) -> None:
    """Prints the linear layers whose outputs are farthest from the float ones, errors of the layers before included."""
    name = result.choice.name
    pairs = zip(result.quality[UNCOMPENSATED].layers, result.quality[name].layers, strict=True)
    worst = sorted(pairs, key=lambda pair: pair[1].closeness.sqnr_db)[:WORST]
    rows = [
        (f"{kept.op}: {kept.kind}", decibels(plain.closeness.sqnr_db), decibels(kept.closeness.sqnr_db))
        for plain, kept in worst
    ]
    show(title, ("op", "plain, dB", f"{name}, dB"), rows)


def required(name: str, found: Mapping[tuple[str, str], Figures], exact: Figures) -> Iterator[Requirement]:
    """What a depthwise network must show: at 8 bits the agreement that is asked of ResNet-20 too."""
    eight, four = found[EIGHT, COMPENSATED], found[FOUR, COMPENSATED]
    yield at_least(f"{name}, {EIGHT}: accuracy", eight.accuracy, exact.accuracy - 0.005)
    yield at_least(f"{name}, {EIGHT}: same top-1 as float", eight.agreement, 0.970)
    yield at_least(f"{name}, {FOUR}: accuracy", four.accuracy, exact.accuracy - 0.02)


if __name__ == "__main__":
    main()
