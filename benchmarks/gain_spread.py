"""How far what a change gains differs from image to image: what few held-out samples have to assume."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
from common import Array, Requirement, cifar10, finish, normalized, show
from few_images import chosen, recipe
from mlperf_tiny import file, visual_wake_words
from models import mobilenetv2_cifar10, resnet20_cifar10, vit_cifar10
from torch import nn

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.output import progress_display
from edgeqwt.verify.paired import OF_ONE_SAMPLE, STANDARD_ERRORS, assumed_error
from edgeqwt.verify.quality import layer_quality

PRECISIONS, COUNTS, TESTS = ("w8a8", "w4a8"), (16,), 400
DRAWS = 5000  # of one or two test images, from which the rule then decides
LIKELY = 2.5  # dB of a gain that should be noticed


@dataclass(frozen=True, eq=False)
class Case:
    """A network that is at hand.

    Attributes:
        model: to build from.
        name: of its input.
        calibration: images to pick from, as the model takes them.
        tests: images as the graph takes them, channels last.
    """

    model: nn.Module | Path
    name: str
    calibration: Array
    tests: Array


def cases(wanted: Sequence[str]) -> Iterator[tuple[str, Case]]:
    """The networks by name; trained ones that are not there are passed over."""
    data = cifar10()
    calibration, tests = data["calibration_images"], data["test_images"][:: len(data["test_images"]) // TESTS]
    of_torch: dict[str, ModuleType] = {
        "resnet20_cifar10": resnet20_cifar10,
        "mobilenetv2_cifar10": mobilenetv2_cifar10,
        "vit_cifar10": vit_cifar10,
    }
    for name in (name for name in of_torch if name in wanted):
        try:
            model = of_torch[name].create()
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            continue
        channels_last = np.ascontiguousarray(normalized(tests).transpose(0, 2, 3, 1))
        yield name, Case(model, "x", normalized(calibration), channels_last)
    if "image_classification" in wanted:
        yield _of_mlperf("image_classification", calibration.astype(np.float32), tests.astype(np.float32))
    if "visual_wake_words" in wanted:
        photos = np.concatenate(visual_wake_words().folds[0])
        photos = photos[np.random.default_rng(0).permutation(len(photos))]
        yield _of_mlperf("visual_wake_words", photos[:64], photos[64:])


def _of_mlperf(name: str, calibration: Array, tests: Array) -> tuple[str, Case]:
    graph = flatbuffer.read(file(name, "float32"))
    return name, Case(file(name, "float32"), graph.tensors[graph.inputs[0]].name, calibration, tests)


def errors(case: Case, precision: str, count: int) -> dict[str, Array]:
    """Each test image's squared errors where the output is decided, (images,), and what they are summed over.

    Args:
        case: the network.
        precision: widths.
        count: images to build from.
    """
    images = chosen(case.calibration, count, 0)
    built = recipe("fast", precision)
    result = edgeqwt.build(case.model, calibration={case.name: images}, recipe=built, display=progress_display())
    graph = result.prepared.graph
    feeds = ({graph.inputs[0]: image[None]} for image in case.tests)
    found = layer_quality(graph, result.variants, feeds)
    return {
        **{name: np.array(quality.decisive[0].errors) for name, quality in found.items()},
        "elements": np.array(next(iter(found.values())).decisive[0].closeness.elements // len(case.tests)),
    }


@dataclass(frozen=True, eq=False)
class Change:
    """One variant of a build against another one.

    Attributes:
        name: network, widths, images, and the variants.
        before: squared errors of the images, (images,).
        after: likewise.
        elements: that each error is the sum of.
    """

    name: tuple[str, ...]
    before: Array
    after: Array
    elements: int

    @property
    def gain(self) -> float:
        """Of all images together, dB."""
        return float(10 * np.log10(self.before.sum() / self.after.sum()))

    @property
    def spread(self) -> float:
        """Standard deviation of single images' gains, dB."""
        return float((10 * np.log10(self.before / self.after)).std())

    @property
    def of_elements(self) -> float:
        """What of it so few elements account for, dB."""
        return float(np.sqrt(assumed_error(1, self.elements) ** 2 - OF_ONE_SAMPLE**2))

    def taken(self, samples: int, nothing: bool) -> float:
        """How often so many held-out images take the change for a gain.

        Args:
            samples: held out.
            nothing: errors are scaled so that over all images nothing is gained.
        """
        drawn = np.random.default_rng(0).integers(len(self.before), size=(DRAWS, samples))
        after = self.after * (self.before.sum() / self.after.sum() if nothing else 1)
        gains = 10 * np.log10(self.before[drawn].sum(1) / after[drawn].sum(1))
        return float((gains > STANDARD_ERRORS * assumed_error(samples, samples * self.elements)).mean())


def changes(options: argparse.Namespace) -> Iterator[Change]:
    """All that change something; builds of which `--keep` has the errors are not made again."""
    for name, case in cases(options.networks):
        for precision in PRECISIONS:
            for count in options.counts:
                path = None if options.keep is None else options.keep / f"{name}-{precision}-{count}.npz"
                if path is not None and path.exists():
                    found = dict(np.load(path))
                else:
                    found = errors(case, precision, count)
                    if path is not None:
                        np.savez(path, **found)
                elements = int(found.pop("elements"))
                for before, after in combinations(found, 2):
                    both = (found[before] > 0) & (found[after] > 0)
                    if (found[before] != found[after]).any():
                        named = (name, precision, str(count), f"{before} to {after}")
                        yield Change(named, found[before][both], found[after][both], elements)


def main() -> None:
    """Prints spreads, what they are without what few elements account for, and how often the rule errs by them."""
    parser = argparse.ArgumentParser(description=__doc__)
    networks = ["resnet20_cifar10", "mobilenetv2_cifar10", "image_classification", "visual_wake_words"]
    parser.add_argument("--networks", nargs="*", default=networks)
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--keep", type=Path, help="folder of errors that are measured already; others are added")
    found = list(changes(parser.parse_args()))
    header = ("network", "widths", "images", "change", "gain, dB", "from image to image", "of few elements")
    rows = [(*c.name, f"{c.gain:+.2f}", f"{c.spread:.2f}", f"{c.of_elements:.2f}") for c in found]
    show("What changes gain, and the standard deviation of single images' gains", header, rows)
    over = float(np.sqrt(np.mean([c.spread**2 - c.of_elements**2 for c in found])))
    real = [c for c in found if c.gain > LIKELY]
    shares = [
        (
            str(n),
            f"{np.mean([c.taken(n, nothing=True) for c in found]):.3f}",
            f"{max(c.taken(n, nothing=True) for c in found):.3f}",
            f"{np.mean([c.taken(n, nothing=False) for c in real]):.3f}",
        )
        for n in (1, 2)
    ]
    title = f"How often a change is kept: one that gains nothing, and one that gains {LIKELY} dB or more"
    show(title, ("held-out images", "nothing: mean", "at most", "a gain: mean"), shares)
    measured = f"{over:.2f}"
    finish([Requirement("beyond few elements, dB", f"<= {OF_ONE_SAMPLE}", measured, over <= OF_ONE_SAMPLE)])


if __name__ == "__main__":
    main()
