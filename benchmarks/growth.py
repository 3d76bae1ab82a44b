"""How the cost of a build grows with depth, width, resolution and samples: fitted exponents, docs/growth.svg."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from accuracy.cost import cost_of
from common import ROOT, show
from picture import GRID, TEXT, clean, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = ROOT / "docs" / "growth.svg"
RECIPES = {"fast": "#d9822b", "balanced": "#2b8fd9"}
LIMIT = 600  # seconds of one build
TICKS = (1, 2, 5, 10, 20, 50, 100, 200)  # CPU seconds


@dataclass(frozen=True)
class Size:
    """A residual network (`models.seeded.Residual`) on square images, and how many of them."""

    depth: int = 4
    width: int = 32
    resolution: int = 32
    samples: int = 64


BASE, LEAST = Size(), Size(1, 4, 8, 8)
"""What one number is changed of, and what hardly costs more than a program that starts, converts and proves."""
STEPS: Mapping[str, tuple[int, ...]] = {
    "depth": (2, 4, 8, 16),
    "width": (16, 32, 64, 128),
    "resolution": (16, 32, 64, 96),
    "samples": (32, 64, 128, 256),
}


def main() -> None:
    """Measures, prints, draws; `--keep` goes on where an earlier run stopped."""
    parser = argparse.ArgumentParser(prog="growth", description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--keep", type=Path, help="file of what has been measured, a line of JSON each")
    parser.add_argument("--draw", action="store_true", help="only show what has been measured")
    parser.add_argument("--output", type=Path, default=PICTURE, help="default: docs/growth.svg")
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.prepare:
        prepare(Size(**json.loads(asked.prepare[0])), Path(asked.prepare[1]))
        return
    known = read(asked.keep)
    for size in dict.fromkeys((LEAST, *(replace(BASE, **{what: n}) for what in STEPS for n in STEPS[what]))):
        missing = [] if asked.draw else [recipe for recipe in asked.recipes if (recipe, size) not in known]
        for recipe, cost in measured(size, missing).items():
            known[recipe, size] = cost
            if asked.keep is not None:
                with asked.keep.open("a") as file:
                    file.write(json.dumps([recipe, asdict(size), cost]) + "\n")
    print(f"load at the end: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    show_growth(known, asked.recipes)
    draw(known, asked.recipes, asked.output)


Known = dict[tuple[str, Size], dict[str, float]]


def read(path: Path | None) -> Known:
    """What an earlier run measured."""
    lines = path.read_text().splitlines() if path is not None and path.is_file() else []
    return {(recipe, Size(**size)): cost for recipe, size, cost in map(json.loads, lines)}


def measured(size: Size, recipes: list[str]) -> dict[str, dict[str, float]]:
    """What whole builds from a float file cost, by recipe: seconds of all cores, and peak MiB."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if recipes:
            print(f"{size} ...", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, __file__, "--prepare", json.dumps(asdict(size)), name], check=True)
        for recipe in recipes:
            command = [
                sys.executable,
                "-m",
                "edgeqwt",
                "build",
                f"{folder}/float.tflite",
                "--accept",
                "--recipe",
                recipe,
            ]
            command += ["--calibration", f"{folder}/samples.npz", "--output", str(folder / recipe), "--no-cache"]
            cost = cost_of(command, folder / "log", LIMIT, ROOT)
            if cost["status"]:
                sys.exit((folder / "log").read_text(errors="replace")[-2000:])
            found[recipe] = {"cpu": cost["cpu"], "mib": cost["mib"]}
    return found


def prepare(size: Size, folder: Path) -> None:
    """Writes the float file and its samples: noise, blurred as photographs are."""
    import torch
    from models.seeded import Residual

    from edgeqwt.calibration.arrays import from_arrays
    from edgeqwt.converters.convert import convert
    from edgeqwt.graph import flatbuffer

    torch.manual_seed(0)
    network = Residual(size.depth, size.width).eval()
    shape = (size.samples, 3, size.resolution, size.resolution)
    images = torch.nn.functional.avg_pool2d(torch.randn(shape), 3, 1, 1).numpy()
    model = convert(network, from_arrays({"x": images[:4]}), folder / "work")
    flatbuffer.write(model.graph, folder / "float.tflite")
    np.savez(folder / "samples.npz", x=np.ascontiguousarray(images.transpose(0, 2, 3, 1)))


def complete(known: Known, recipe: str, what: str) -> bool:
    """Whether all sizes of a row have been measured: a run that was stopped has some."""
    return all((recipe, replace(BASE, **{what: n})) in known for n in STEPS[what])


def curve(known: Known, recipe: str, what: str, figure: str) -> tuple[list[int], list[float]]:
    """A cost by one number, beyond that of the least build."""
    costs = [known[recipe, replace(BASE, **{what: n})][figure] for n in STEPS[what]]
    return list(STEPS[what]), [cost - known[recipe, LEAST][figure] for cost in costs]


def exponent(numbers: list[int], costs: list[float]) -> float:
    """p of costs that grow as numbers to the power of p, by least squares of logarithms."""
    return float(np.polyfit(np.log(numbers), np.log(np.maximum(costs, 1e-3)), 1)[0])


def show_growth(known: Known, recipes: list[str]) -> None:
    """The table: exponents, and what the smallest and the largest build of each row took."""
    rows = []
    for recipe in recipes:
        least = known[recipe, LEAST]
        for what, numbers in STEPS.items():
            if not complete(known, recipe, what):
                continue
            ends = [known[recipe, replace(BASE, **{what: n})] for n in (numbers[0], numbers[-1])]
            found = [f"{exponent(*curve(known, recipe, what, figure)):.2f}" for figure in ("cpu", "mib")]
            seconds, mib = (" to ".join(f"{end[figure]:.0f}" for end in ends) for figure in ("cpu", "mib"))
            rows.append((recipe, what, f"{numbers[0]} to {numbers[-1]}", seconds, found[0], mib, found[1]))
        rows.append((recipe, "least build", "", f"{least['cpu']:.0f}", "", f"{least['mib']:.0f}", ""))
    header = ("recipe", "what grows", "", "CPU seconds", "exponent", "peak MiB", "exponent")
    show(f"{BASE}, one number changed; exponents of what the least build does not take", header, rows)


def draw(known: Known, recipes: list[str], path: Path) -> None:
    """One panel for each number that has been measured."""
    shown = [what for what in STEPS if any(complete(known, recipe, what) for recipe in recipes)]
    with drawing(path, 1, len(shown), (2.8 * len(shown), 3)) as panels:
        for axes, what in zip(np.atleast_1d(np.asarray(panels)), shown, strict=True):
            for recipe in (recipe for recipe in recipes if complete(known, recipe, what)):
                draw_curve(axes, known, recipe, what)
            axes.set_title(f"CPU seconds by {what}", loc="left", fontsize=10, pad=16)
            axes.margins(x=0.08, y=0.12)
            axes.grid(color=GRID, linewidth=0.8)
            clean(axes)


def draw_curve(axes: Axes, known: Known, recipe: str, what: str) -> None:
    """Seconds on logarithmic axes, with the exponent beside them."""
    numbers, costs = curve(known, recipe, what, "cpu")
    label, color = f"{recipe}: {exponent(numbers, costs):.1f}", RECIPES[recipe]
    axes.loglog(numbers, costs, "o-", color=color, markersize=4)
    axes.annotate(label, (numbers[-1], costs[-1]), (6, 6), textcoords="offset points", ha="right", color=color)
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.set_yticks(TICKS, [str(n) for n in TICKS])
    axes.minorticks_off()
    axes.tick_params(colors=TEXT)


if __name__ == "__main__":
    main()
