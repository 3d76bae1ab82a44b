"""docs/picture.svg, from the report of a 4-bit build of ResNet-20: what compensation does, layer by layer."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import CALIBRATION, ROOT, cifar10, normalized

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = ROOT / "docs" / "picture.svg"
# Legible on white and on black alike.
PLAIN, COMPENSATED, TEXT, GRID = "#d9822b", "#2b8fd9", "#7d8590", "#7d85904d"


def main() -> None:
    """Draws the picture from a report, or from a build that it makes first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, nargs="?", help="report.json of a build with --evaluation")
    parser.add_argument("--output", type=Path, default=PICTURE, help="default: docs/picture.svg")
    options = parser.parse_args()
    report = json.loads(options.report.read_text(encoding="utf-8")) if options.report else built()
    draw(report, options.output)
    print(options.output)


def built() -> dict[str, Any]:
    """The report of a build of ResNet-20 with 4-bit weights, scored on all test images."""
    from models.resnet20_cifar10 import create

    import edgeqwt
    from edgeqwt.output import progress_display
    from edgeqwt.recipe.recipe import load
    from edgeqwt.widths.precision import Precision

    data = cifar10()
    with tempfile.TemporaryDirectory() as folder:
        edgeqwt.build(
            create(),
            calibration={"x": normalized(data["calibration_images"][:CALIBRATION])},
            evaluation={"x": normalized(data["test_images"]), "labels": data["test_labels"].astype("int64")},
            # Weights to nearest, so that compensation shows; in int8, because LiteRT unpacks int4 at every run.
            recipe=replace(load("fast"), precision=Precision(weight_bits=4)),
            output=Path(folder) / "out",
            display=progress_display(),
        )
        report: dict[str, Any] = json.loads((Path(folder) / "out" / "report.json").read_text(encoding="utf-8"))
    return report


def draw(report: dict[str, Any], path: Path) -> None:
    """Left: SQNR of every layer's output. Right: accuracy."""
    with drawing(path, 1, 2, (9, 3.4), (4, 1.5)) as (left, right):
        draw_layers(left, report)
        draw_accuracy(right, report)


@contextmanager
def drawing(
    path: Path, rows: int, columns: int, size: tuple[float, float], widths: Sequence[float] | None = None
) -> Iterator[Sequence[Axes]]:
    """Panels to draw on, legible on white and on black; afterwards they are written.

    Args:
        path: .svg, or an image.
        rows: of panels.
        columns: of panels.
        size: in inches.
        widths: of the columns, beside each other.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    # Text as text: small, sharp and searchable; the reader's fonts draw it.
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "edgeqwt", "font.family": "sans-serif", "font.size": 10}
    )
    mpl.rcParams.update(dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), TEXT))
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(rows, columns, figsize=size, width_ratios=widths, layout="constrained")
    yield panels
    figure.savefig(path, transparent=True, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def draw_layers(axes: Axes, report: dict[str, Any]) -> None:
    """One line per model, one point per layer."""
    rows = report["layers"]
    for key, name, color in (("before", "uncompensated", PLAIN), ("after", "compensated", COMPENSATED)):
        values = [row["sqnr_db"][key] for row in rows]
        axes.plot(range(len(rows)), values, "o-", color=color, markersize=4, label=name)
        axes.annotate(name, (len(rows) - 1, values[-1]), (7, 0), textcoords="offset points", color=color, va="center")
    axes.set_xticks(
        range(len(rows)), [row["location"] or row["name"] for row in rows], rotation=60, ha="right", fontsize=8
    )
    axes.set_title("SQNR of each layer's output against the float model, dB", loc="left", fontsize=10)
    axes.set_xlim(-0.5, len(rows) + 2.6)
    axes.set_ylim(0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    clean(axes)


def draw_accuracy(axes: Axes, report: dict[str, Any]) -> None:
    """One bar per model."""
    names, colors = ("float", "uncompensated", "compensated"), (TEXT, PLAIN, COMPENSATED)
    values = [100 * report["scores"][name]["top1"] for name in names]
    bars = axes.barh(names, values, color=colors, height=0.55)
    axes.bar_label(bars, [f"{value:.1f}" for value in values], padding=-34, color="white", weight="bold")
    axes.set_title("top-1 accuracy, %", loc="left", fontsize=10)
    axes.set_xlim(0, 100)
    axes.set_xticks(())
    axes.invert_yaxis()
    clean(axes)


def clean(axes: Axes) -> None:
    """No frame."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.patch.set_alpha(0)


if __name__ == "__main__":
    main()
