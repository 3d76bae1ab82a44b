"""ResNet-20 on all 10 000 CIFAR-10 test images: accuracy, agreement, SQNR, and the time of a build."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import ROOT, Array, cifar10, figures, outputs, shared

import edgeqwt
from benchmarks.models.resnet20_cifar10 import MEAN, STD, create

CALIBRATION = 512


def normalized(images: Array) -> Array:
    """uint8 (n, 32, 32, 3) to what the network was trained on, (n, 3, 32, 32)."""
    scaled = (images.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def torch_logits(images: Array) -> Array:
    """The PyTorch model's own outputs."""
    import torch

    with torch.no_grad():
        return np.concatenate([create()(torch.from_numpy(part)).numpy() for part in np.array_split(images, 40)])


def main() -> None:
    """Prints the table."""
    data = cifar10()
    calibration = {"x": normalized(data["calibration_images"][:CALIBRATION])}
    images, labels = normalized(data["test_images"]), data["test_labels"]
    nhwc = [image[None].transpose(0, 2, 3, 1).copy() for image in images]

    built = {
        (bits, ranges): edgeqwt.build(create(), calibration=calibration, weight_bits=bits, ranges=ranges)
        for bits, ranges in ((8, "mse"), (8, "minmax"), (4, "minmax"), (4, "mse"))
    }
    reference = outputs(built[8, "mse"].prepared.graph, nhwc)
    source = torch_logits(images)
    print(f"{len(images)} test images, {CALIBRATION} calibration images; accuracy / agreement with float / output SQNR")
    print(f"PyTorch accuracy           {(source.argmax(1) == labels).mean():.4f}")
    print(f"float TFLite accuracy      {(reference.argmax(1) == labels).mean():.4f}")
    print(f"float TFLite vs PyTorch    largest difference {np.abs(source - reference).max():.1e}")
    for (bits, ranges), result in built.items():
        for name, graph in (("plain", result.uncompensated), ("compensated", result.outcome.graph)):
            print(f"w{bits}a8 {ranges:7} {name:12} {figures(outputs(graph, nhwc), reference, labels)}")
        calibrate, compensate = result.seconds["calibrate"], result.seconds["compensate"]
        print(f"     compensation took {compensate:.1f} s, {compensate / calibrate:.2f} x the calibration run")
    print(f"`edgeqwt build` from command to finished folder: {command_seconds(calibration):.1f} s")


def command_seconds(calibration: dict[str, Array]) -> float:
    """Wall-clock seconds of the command line, imports and all."""
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.npz"
        np.savez(samples, **calibration)
        model = f"{ROOT}/benchmarks/models/resnet20_cifar10.py:create"
        command = ["build", model, "--calibration", str(samples), "--output", f"{folder}/out"]
        start = time.perf_counter()
        environment = {**os.environ, "EDGEQWT_SHARED": str(shared())}
        subprocess.run([sys.executable, "-m", "edgeqwt.cli", *command], check=True, env=environment)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
