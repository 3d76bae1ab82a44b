"""Time and memory of whole commands: `build` with two recipes and ai-edge-quantizer, from the same float files."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from accuracy import environments
from accuracy.plan import METHODS
from common import ROOT, Array, Requirement, cifar10, finish, normalized, shared, show

from edgeqwt.calibration.images import ImageOptions, find_images, read_image

PEER = next(m for m in METHODS if m.script == "ai_edge_quantizer" and m.key == "min-max w8a8")
RECIPES = ("fast", "balanced")
RATIO = 1.5  # of `fast` to the peer
IMAGE = ImageOptions(size=(224, 224), layout="NCHW", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def photographs(count: int) -> Array:
    """The first photographs of ../shared/data/photos."""
    paths = find_images(shared() / "data" / "photos")[:count]
    return np.concatenate([read_image(path, IMAGE) for path in paths])


NETWORKS: dict[str, Callable[[int], Array]] = {
    "resnet20": lambda count: normalized(cifar10()["calibration_images"][:count]),
    "resnet50": photographs,
}
"""Normalized calibration images, (n, 3, h, w), by their number."""


def main() -> None:
    """Prints one table; runs of the tools take turns, and the quickest of each counts."""
    parser = argparse.ArgumentParser(prog="build_time", description=__doc__)
    parser.add_argument("networks", nargs="*", help="all of them by default")
    parser.add_argument("--samples", type=int, default=128, help="calibration samples")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.prepare:
        prepare(*asked.networks, asked.samples, asked.prepare)
        return
    rows, required = [], []
    for name in asked.networks or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own: what a process holds when it starts another one counts as that one's peak.
            command = [sys.executable, __file__, name, "--samples", str(asked.samples), "--prepare", folder]
            subprocess.run(command, check=True)
            commands = commands_on(Path(folder), asked.recipes)
            found = dict[str, list[tuple[float, float]]]({tool: [] for tool in commands})
            for _ in range(asked.runs):
                for tool, command in commands.items():
                    found[tool].append(measured(command))
        best = {tool: min(runs) for tool, runs in found.items()}
        peer = best[PEER.peer][0]
        for tool, (seconds, mib) in best.items():
            rows.append((name, tool, f"{seconds:.1f}", f"{seconds / peer:.2f}", f"{mib:,.0f}"))
        if "fast" in best:
            ratio = best["fast"][0] / peer
            required.append(Requirement(f"{name}, fast", f"<= {RATIO} x", f"{ratio:.2f} x", ratio <= RATIO))
    title = f"Whole commands on float .tflite files, {asked.samples} samples, quickest of {asked.runs}"
    show(title, ("network", "", "seconds", f"of {PEER.peer}", "peak MiB"), rows)
    finish(required)


def prepare(name: str, count: int, folder: Path) -> None:
    """Writes the float file and its samples."""
    import torch
    from models import resnet20_cifar10, resnet50_seeded

    from edgeqwt.calibration.arrays import from_arrays
    from edgeqwt.converters.convert import convert
    from edgeqwt.graph import flatbuffer
    from edgeqwt.prepare.prepare import prepare as in_plain_forms

    images = NETWORKS[name](count)
    network = (
        resnet20_cifar10.create() if name == "resnet20" else resnet50_seeded.settled(torch.from_numpy(images[:16]))
    )
    model = convert(network, from_arrays({"x": images}), folder / "work")
    # The peer stops at PADV2 before a max pool, which this takes away.
    (folder / "float.tflite").write_bytes(flatbuffer.to_bytes(in_plain_forms(model.graph).graph))
    np.save(folder / "calibration.npy", images)
    np.savez(folder / "calibration.npz", x=np.ascontiguousarray(images.transpose(0, 2, 3, 1)))


def commands_on(folder: Path, recipes: list[str]) -> dict[str, list[str]]:
    """The commands by the names of the tools."""
    ours = [sys.executable, "-m", "edgeqwt", "build", str(folder / "float.tflite"), "--target", "tflite", "--overwrite"]
    ours += ["--calibration", str(folder / "calibration.npz"), "--accept"]
    (folder / "peer").mkdir()
    peer = [str(environments.python(PEER)), str(PEER.program), PEER.key, str(folder), str(folder / "peer")]
    return {
        PEER.peer: peer,
        **{recipe: [*ours, "--recipe", recipe, "--output", str(folder / recipe)] for recipe in recipes},
    }


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds of a whole command, and peak memory in MiB of it or the largest process that it started."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)}\n{log.read().decode(errors='replace')[-2000:]}")
    return seconds, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
