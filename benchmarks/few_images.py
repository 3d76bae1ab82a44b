"""ResNet-20 calibrated on 1 to 16 images: what is kept against plain quantization, on 1000 test images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import Array, Requirement, cifar10, finish, normalized, outputs, show
from models.resnet20_cifar10 import create

import edgeqwt
from edgeqwt.graph.graph import Graph
from edgeqwt.judgement import COMPENSATED
from edgeqwt.output import progress_display
from edgeqwt.passes.technique import plain
from edgeqwt.pipeline import BuildResult
from edgeqwt.recipe.recipe import Recipe, load
from edgeqwt.verify.paired import CHANCE, mcnemar
from edgeqwt.widths.precision import parse

COUNTS, SEEDS, PRECISIONS = (1, 2, 4, 8, 16), (0, 1, 2), ("w8a8", "w4a8")
EVERY = 10  # test images are sorted by difficulty: every so many of the 10 000
Row = dict[str, object]


def recipe(name: str, precision: str) -> Recipe:
    """A recipe of a name, whatever comes out of it."""
    found = load(name)
    # LiteRT unpacks int4 at every run, too slow for these images; stored in int8 the integers are the same.
    widths = replace(parse(precision), pack_int4=False)
    return replace(found, precision=widths, quality=replace(found.quality, accept=True))


def chosen(images: Array, count: int, seed: int) -> Array:
    """Calibration images picked at random, the same ones for the same seed."""
    picked: Array = images[np.random.default_rng((seed, count)).choice(len(images), count, replace=False)]
    return picked


def judged(result: BuildResult, plain: Graph, images: Sequence[Array], labels: Array) -> Row:
    """What the test images say of the file that was kept and of plain quantization."""
    reference = outputs(result.prepared.graph, images).argmax(1)
    files = {"plain": plain, "kept": result.graph, "compensated": result.variants.get(COMPENSATED, plain)}
    top = {name: outputs(graph, images).argmax(1) for name, graph in files.items()}
    same = {name: classes == reference for name, classes in top.items()}
    lost, won = int((same["plain"] & ~same["kept"]).sum()), int((~same["plain"] & same["kept"]).sum())
    return {
        "choice": result.choice.name,
        **{f"agreement, {name}": float(rows.mean()) for name, rows in same.items()},
        **{f"accuracy, {name}": float((classes == labels).mean()) for name, classes in top.items()},
        "lost": lost,
        "won": won,
        "probability": mcnemar(lost, won),
    }


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """One for each build; those that `--keep` has already are not made again."""
    keep: Path | None = options.keep
    data = cifar10()
    calibration, labels = data["calibration_images"], data["test_labels"][::EVERY]
    tests = [np.ascontiguousarray(x[None].transpose(0, 2, 3, 1)) for x in normalized(data["test_images"][::EVERY])]
    known = [json.loads(line) for line in keep.read_text().splitlines()] if keep and keep.exists() else []
    for precision in options.precisions:
        for count in options.counts:
            for seed in options.seeds:
                name = {"recipe": options.recipe, "precision": precision, "images": count, "seed": seed}
                row = next((r for r in known if name.items() <= r.items()), None)
                if row is None:
                    images = normalized(chosen(calibration, count, seed))
                    made = recipe(options.recipe, precision)
                    # A build's own plain model has ranges as wide as its other ones.
                    bare = replace(made, techniques=plain(made.techniques), ceiling=False)
                    result, other = (
                        edgeqwt.build(create(), calibration={"x": images}, recipe=each, display=progress_display())
                        for each in (made, bare)
                    )
                    row = {**name, **judged(result, other.graph, tests, labels)}
                    if keep is not None:
                        with keep.open("a") as lines:
                            lines.write(json.dumps(row) + "\n")
                yield row


def main() -> None:
    """Builds, prints the table, and says where what was kept is below plain quantization by more than chance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--keep", type=Path, help="file of rows that are measured already; what is measured is added")
    options = parser.parse_args()
    found = list(rows(options))
    cells = ("agreement, plain", "agreement, kept", "agreement, compensated", "accuracy, plain", "accuracy, kept")
    header = ("widths", "images", "seed", "kept", *cells, "lost / won", "p")
    listed = [
        (
            str(row["precision"]), str(row["images"]), str(row["seed"]), str(row["choice"]),
            *(f"{row[cell]:.4f}" for cell in cells), f"{row['lost']} / {row['won']}", f"{row['probability']:.3f}",
        )
        for row in found
    ]  # fmt: skip
    show("ResNet-20, 1,000 test images", header, listed)
    below = [r for r in found if float(str(r["probability"])) <= CHANCE and int(str(r["lost"])) > int(str(r["won"]))]
    finish(
        [
            Requirement(
                f"builds whose agreement is below plain quantization's by more than chance, of {len(found)}",
                "0", str(len(below)), not below,
            )
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
