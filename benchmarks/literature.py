"""Settings of papers in simulation: every method with every correction, at 4 and 6 bits, on networks of train.py."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from common import ROOT, cifar10, normalized, show
from models import mobilenetv2_cifar10, resnet20_cifar10, vit_cifar10

import edgeqwt
from edgeqwt.report.variants import decibels
from edgeqwt.simulation.corrections import CORRECTIONS
from edgeqwt.simulation.methods import METHODS

NETWORKS = {"vit": vit_cifar10, "mobilenetv2": mobilenetv2_cifar10, "resnet20": resnet20_cifar10}
MEASURED = ROOT / "docs" / "literature.json"
CALIBRATION = 86  # samples; 64 of them are fitted on


def main() -> None:
    """Prints one table per network and precision, and keeps the figures for docs/literature.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=["vit"])
    parser.add_argument("--precisions", nargs="+", default=["w4a4", "w6a6"])
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--corrections", nargs="+", choices=sorted(CORRECTIONS), default=list(CORRECTIONS))
    parser.add_argument("--every", type=int, default=10, help="test images: every so many of them")
    parser.add_argument("--write", action="store_true", help=f"write {MEASURED.name}, then run literature_page.py")
    asked = parser.parse_args()
    data, kept = cifar10(), []
    test = {"x": normalized(data["test_images"][:: asked.every]), "labels": data["test_labels"][:: asked.every]}
    for name in asked.networks:
        try:
            model = NETWORKS[name].create()
        except FileNotFoundError as error:
            sys.exit(str(error))
        for precision in asked.precisions:
            found = edgeqwt.study(
                model,
                calibration={"x": normalized(data["calibration_images"][:CALIBRATION])},
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
            cells = [
                (
                    row["method"],
                    row["correction"],
                    decibels(row["varying_db"]),
                    f"{row['agreement']:.4f}",
                    f"{row['accuracy']:.4f}",
                    f"{row['added_parameters']:,}",
                )
                for row in rows
            ]
            show(f"{name}, {precision}, {found.judged} test images, float {found.accuracy:.4f}", header, cells)
            print(found.simulated)
    if asked.write:
        written(kept)


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
