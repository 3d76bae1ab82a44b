"""Settings of papers in simulation: every method with every correction, at 4 and 6 bits, on networks of train.py."""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from dataclasses import asdict
from typing import Any

import dit
import language
import torch
from common import ROOT, Array, cifar10, normalized, show
from models import (
    decoder,
    dit_cifar10,
    hybrid_cifar10,
    linear_attention_cifar10,
    mobilenetv2_cifar10,
    resnet20_cifar10,
    vit_cifar10,
)

import edgeqwt
from edgeqwt.report.variants import decibels
from edgeqwt.simulation.corrections import CORRECTIONS
from edgeqwt.simulation.methods import METHODS

NETWORKS = {
    "decoder": decoder,
    "dit": dit_cifar10,
    "hybrid": hybrid_cifar10,
    "linear_attention": linear_attention_cifar10,
    "mobilenetv2": mobilenetv2_cifar10,
    "resnet20": resnet20_cifar10,
    "vit": vit_cifar10,
}
MEASURED = ROOT / "docs" / "literature.json"
CALIBRATION = 86  # samples; 64 of them are fitted on
TRAJECTORIES = 5  # of the diffusion transformer that are judged, with 20 samples each
WINDOWS = 64  # of text that the decoder is judged on


def main() -> None:
    """Prints one table per network and precision, and keeps the figures for docs/literature.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=["vit"])
    parser.add_argument("--precisions", nargs="+", default=["w4a4", "w6a6"])
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--corrections", nargs="+", choices=sorted(CORRECTIONS), default=list(CORRECTIONS))
    parser.add_argument("--every", type=int, default=10, help="test images: every so many; of dit and decoder all")
    parser.add_argument("--table", action="store_true", help="only the table of systems, as measured so far")
    parser.add_argument("--write", action="store_true", help=f"write {MEASURED.name}, then run literature_page.py")
    asked = parser.parse_args()
    kept: list[dict[str, Any]] = []
    for name in [] if asked.table else asked.networks:
        try:
            model = NETWORKS[name].create()
            calibration, test = samples(name, model, asked.every)
        except FileNotFoundError as error:
            sys.exit(str(error))
        for precision in asked.precisions:
            found = edgeqwt.study(
                model,
                calibration=calibration,
                precision=precision,
                methods=asked.methods,
                corrections=asked.corrections,
                data=test,
                display=edgeqwt.progress_display(),
            )
            rows = found.to_rows()
            about = {"network": name, "precision": precision, "accuracy": found.accuracy, "images": found.judged}
            kept.append({**about, "bits": asdict(found.bits), "rows": rows})
            header = ("method", "correction", "what varies, dB", "same top-1", "accuracy", "added numbers")
            accuracy = "" if found.accuracy is None else f", float {found.accuracy:.4f}"
            show(f"{name}, {precision}, {found.judged} test samples{accuracy}", header, [*map(cells, rows)])
            print(found.simulated)
    if asked.write:
        written(kept)
    systems()


def systems() -> None:
    """Prints a row for each technique and each method of every system, with what is measured of it so far."""
    page = runpy.run_path(str(ROOT / "scripts" / "literature_page.py"))
    rows = []
    for system in page["SYSTEMS"]:
        files = dict(page["in_files"](system))
        rows += [(system.name, name, "files", files.get(name, "")) for name in system.techniques]
        rows += [(system.name, name, "simulation", figure.strip()) for name, figure in page["in_simulation"](system)]
    show("Systems: gains alone and in balanced in dB, or dB in simulation", ("system", "", "in", "measured"), rows)


def samples(name: str, model: torch.nn.Module, every: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """What a network is calibrated and judged on: images, what the diffusion transformer's sampler asks, or text.

    Args:
        name: of the network.
        model: itself.
        every: so many of the test images; the sampler's questions and text have no labels.
    """
    if name == "decoder":
        train, held_out = language.corpus()
        known, new = language.windows(train, CALIBRATION), language.windows(held_out, WINDOWS)
        return {"text": known[:, :-1]}, {"text": new[:, :-1]}
    if name == "dit":
        network = dit.velocity_of(model)
        known = dit.calibration(network, -(-CALIBRATION // dit.STEPS))
        return {k: v[:CALIBRATION] for k, v in known.items()}, dit.calibration(network, TRAJECTORIES, dit.SEED + 2)
    data = cifar10()
    test = {"x": normalized(data["test_images"][::every]), "labels": data["test_labels"][::every]}
    return {"x": normalized(data["calibration_images"][:CALIBRATION])}, test


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of a study as text; without labels classes mean nothing."""
    labelled = row["accuracy"] is not None
    return (
        row["method"],
        row["correction"],
        decibels(row["varying_db"]),
        f"{row['agreement']:.4f}" if labelled else "",
        f"{row['accuracy']:.4f}" if labelled else "",
        f"{row['added_parameters']:,}",
    )


def written(found: list[dict[str, Any]]) -> None:
    """Keeps the tables: rows join those of the same network, images and widths; any other measurement stays as it is.

    A network with another accuracy, of other weights or images, has a table of its own: its rows are not comparable.
    """
    before = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else []
    tables: dict[tuple[Any, ...], dict[str, Any]] = {}
    for table in (*before, *found):
        key = tuple(table[about] for about in ("network", "precision", "images", "accuracy"))
        known = tables[key]["rows"] if key in tables else []
        rows = {(row["method"], row["correction"]): row for row in (*known, *table["rows"])}
        tables[key] = {**table, "rows": [*rows.values()]}
    MEASURED.write_text(json.dumps([*tables.values()], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
