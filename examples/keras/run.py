"""Handwritten digits in Keras: as trained, trained with quantization, pruned and clustered; each built by one command.

`python examples/keras/run.py`. TensorFlow trains and converts in an environment of its own, which
`edgeqwt tools install tensorflow` makes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import edgeqwt
from edgeqwt import BuildResult
from edgeqwt.converters import tools

TRAINING, CALIBRATION = 1200, 256  # of 1797 scans; those behind the training scans test
MODELS = ("float", "trained", "pruned", "clustered")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one row per model: accuracy in Keras and of the integer file, zeros, distinct values, compressed bytes."""
    parser = argparse.ArgumentParser(description="Train four Keras models and build them.")
    parser.add_argument("--epochs", type=int, default=15, help="of training each (default: 15)")
    options = parser.parse_args(arguments)
    tensorflow = tools.find("tensorflow")
    if tensorflow.problem:
        raise tools.missing(tensorflow)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, labels = load_digits(return_X_y=True)
        images = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
        order = np.random.default_rng(0).permutation(len(images))
        train, test = order[:TRAINING], order[TRAINING:]
        np.savez(
            folder / "digits.npz", images=images[train], labels=labels[train], test_images=images[test],
            test_labels=labels[test],
        )  # fmt: skip
        command = [tensorflow.python, Path(__file__).with_name("train.py"), folder, str(options.epochs)]
        subprocess.run(command, check=True, capture_output=True)
        built = {
            model: edgeqwt.build(
                folder / f"{model}.h5",
                calibration={"image": images[train][:CALIBRATION]},
                evaluation={"image": images[test], "labels": labels[test]},
            )
            for model in MODELS
        }
        scores = json.loads((folder / "scores.json").read_text("utf-8"))
    print("\n".join(table(built, scores)))


def table(built: dict[str, BuildResult], scores: dict[str, float]) -> Iterator[str]:
    """The rows."""
    yield f"{'model':12}{'in Keras':>10}{'integer':>10}{'zeros kept':>14}{'values kept':>14}"
    for name, result in built.items():
        rows = result.made.structure
        kept = [(row.zeros_before, row.zeros_after) for row in rows if "sparsity" in row.kept]
        zeros = f"{min(b for b, _ in kept):.0%} to {min(a for _, a in kept):.0%}" if kept else ""
        values = max((row.values_after for row in rows if "clusters" in row.kept), default=0)
        accuracy = result.scores[result.choice.name]["top1"]
        yield f"{name:12}{scores[name]:10.4f}{accuracy:10.4f}{zeros:>14}{values or '':>14}"


if __name__ == "__main__":
    main()
