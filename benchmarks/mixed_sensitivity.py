"""Mixed 4- and 8-bit weights at equal bytes: layers judged by the model's outputs, or by nuclear norms (Liu 2021)."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from common import Array, at_hand, cifar10, normalized, outputs, show
from models import mobilenetv2_cifar10, resnet20_cifar10, vit_cifar10

import edgeqwt
from edgeqwt.recipe.recipe import load
from edgeqwt.widths.precision import Mixed

NETWORKS = {"vit": vit_cifar10, "mobilenetv2": mobilenetv2_cifar10, "resnet20": resnet20_cifar10}
SENSITIVITIES = ("outputs", "nuclear_norm")


def main() -> None:
    """Prints a table: what varies at the outputs of test images, by limit and sensitivity."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="vit")
    parser.add_argument("--sizes", type=int, nargs="+", required=True, help="bytes of the file, at most")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--calibration", type=int, default=86)
    parser.add_argument("--every", type=int, default=20, help="test images: every so many of them")
    asked = parser.parse_args()
    model = at_hand(NETWORKS[asked.network].create)
    data, recipe, rows = cifar10(), replace(load(asked.recipe), leave_one_out=0), list[tuple[str, ...]]()
    calibration = {"x": normalized(data["calibration_images"][: asked.calibration])}
    test = normalized(data["test_images"][:: asked.every]).transpose(0, 2, 3, 1)
    images = list(np.ascontiguousarray(test)[:, None])
    for size in asked.sizes:
        for sensitivity in SENSITIVITIES:
            goal = Mixed(max_size=size, sensitivity=sensitivity)
            built = edgeqwt.build(
                model, calibration=calibration, recipe=recipe, precision="mixed", mixed=goal, accept=True
            )
            wanted, found = (outputs(graph, images) for graph in (built.prepared.graph, built.graph))
            db = varying_db(wanted, found)
            same = float((wanted.argmax(-1) == found.argmax(-1)).mean())
            account = built.assignment
            assert account is not None
            wide = sum(layer.chosen.weights == 8 for layer in account.layers)
            row = (f"{size:,}", sensitivity, f"{account.bytes:,}", f"{wide} of {len(account.layers)}", f"{db:.2f}")
            rows.append((*row, f"{same:.4f}"))
            print(rows[-1], flush=True)
    show(f"{asked.network}, {asked.recipe}", ("limit", "sensitivity", "bytes", "at 8 bits", "dB", "same top-1"), rows)


def varying_db(wanted: Array, found: Array) -> float:
    """What varies between samples over the squared error, both shape (samples, values), in dB."""
    signal = np.square(wanted - wanted.mean(axis=0)).sum()
    return float(10 * np.log10(signal / np.square(wanted - found).sum()))


if __name__ == "__main__":
    main()
