"""The papers' techniques in files: what each gains alone, and on top of `balanced` or as a part of it, on ResNet-20."""

from __future__ import annotations

import argparse
import json
import runpy
from collections.abc import Iterator
from dataclasses import replace

from ablation import Network, resnet20
from common import CALIBRATION, ROOT, figures, outputs, show

from edgeqwt.passes.run import make
from edgeqwt.progress import Stages
from edgeqwt.recipe.recipe import Recipe, load
from edgeqwt.techniques import registry
from edgeqwt.techniques.ranges import MinMaxRanges, MseRanges
from edgeqwt.widths.precision import parse

MEASURED = ROOT / "docs" / "literature_files.json"
PAGE = runpy.run_path(str(ROOT / "scripts" / "literature_page.py"))
ELSEWHERE = ("aespa", "channel_shift", "regions16", "codebook", "codebook_calibration")
"""These have nothing, or one small layer, to work on in a network of convolutions; the page measures them by others."""


def names() -> tuple[str, ...]:
    """The techniques of all systems in docs/literature.md, each once."""
    found = dict.fromkeys(name for system in PAGE["SYSTEMS"] for name in system.techniques)
    return tuple(name for name in found if name not in ELSEWHERE)


def recipes(name: str, balanced: Recipe) -> Iterator[tuple[str, Recipe]]:
    """What is built to tell a technique's gain: alone, and with the rest of `balanced`, each beside one without it.

    Args:
        name: of the technique.
        balanced: the recipe, at the widths that are asked for.
    """
    plain = replace(balanced, techniques=(MinMaxRanges(),)).with_technique(MseRanges())
    technique = registry.registered()[name]()
    yield "alone", plain.with_technique(technique)
    part = balanced.find(type(technique)) is not None
    yield ("without", balanced.without(name)) if part else ("added", balanced.with_technique(technique))


def main() -> None:
    """Measures what is asked for, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("techniques", nargs="*", choices=[[], *names()], default=[], help="(default: all)")
    parser.add_argument("--precision", default="w4a8", choices=["w4a8", "w8a8"])
    parser.add_argument("--learned", action="store_true", help="also what learns by gradients: minutes each")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {MEASURED.name}, row by row")
    asked = parser.parse_args()
    network = resnet20()
    balanced = replace(load("balanced"), precision=parse(asked.precision))
    plain = replace(balanced, techniques=(MinMaxRanges(),)).with_technique(MseRanges())
    bases = {"nothing": quality(network, plain), "balanced": quality(network, balanced)}
    about = {"network": network.name, "precision": asked.precision, "images": len(network.images)}
    rows = []
    for name in asked.techniques or names():
        if registry.registered()[name].slow and not (asked.learned or asked.techniques):
            continue
        row = {"technique": name, **{what: round(db, 2) for what, db in bases.items()}}
        row |= {what: round(quality(network, recipe), 2) for what, recipe in recipes(name, balanced)}
        rows.append(row)
        print(f"{about} {bases} {row}", flush=True)
        if asked.write:
            written({**about, "calibration": CALIBRATION}, row)
    header = ("technique", "alone, dB", "added to balanced", "balanced without it")
    cells = [(r["technique"], *(f"{r[k]:.2f}" if k in r else "" for k in ("alone", "added", "without"))) for r in rows]
    title = f"{network.name}, {asked.precision}, {len(network.images):,} test images; {bases}"
    show(title, header, cells)


def quality(network: Network, recipe: Recipe) -> float:
    """Output SQNR of a build on the test images, in dB."""
    made = make(network.context, recipe.techniques, recipe.precision, Stages())
    return figures(outputs(made.graph, network.images), network.wanted, network.labels).sqnr


def written(about: dict[str, object], row: dict[str, object]) -> None:
    """Keeps a row in place of that of the same technique, network and precision."""
    tables = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else []
    key = about["network"], about["precision"]
    old = next((t for t in tables if (t["network"], t["precision"]) == key), {"rows": []})
    rows = {r["technique"]: r for r in (*old["rows"], row)}
    others = [t for t in tables if (t["network"], t["precision"]) != key]
    tables = [*others, {**old, **about, "rows": [*rows.values()]}]
    MEASURED.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
