"""Peak memory of a build with 512 and with 4096 calibration samples: it must not grow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import ROOT, Array, at_most, cifar10, finish, normalized, show
from models.resnet20_cifar10 import create

COUNTS = (512, 4096)
GROWTH = 10  # percent
SHIFT = 2  # pixels


def main() -> None:
    """Prints the table; `memory.py FLOAT.tflite SAMPLES.npz COUNT` is the process that is measured."""
    if len(sys.argv) > 1:
        print(json.dumps(build(*sys.argv[1:])))
        return
    with tempfile.TemporaryDirectory() as folder:
        model, samples = Path(folder) / "float.tflite", Path(folder) / "samples.npz"
        write_float_model(model)
        np.savez(samples, x=np.ascontiguousarray(normalized(varied(max(COUNTS))).transpose(0, 2, 3, 1)))
        found = {count: measured(model, samples, count) for count in COUNTS}
    rows = [
        (f"{count:,} samples", *(f"{figures[name]:.1f}" for name in ("megabytes", "calibrate", "compensate")))
        for count, figures in found.items()
    ]
    title = "edgeqwt build of ResNet-20 from its float TFLite file, a fresh process each"
    show(title, ("", "peak MB", "calibration s", "compensation s"), rows)
    less, more = (found[count]["megabytes"] for count in COUNTS)
    finish([at_most("growth of the peak, percent", 100 * (more / less - 1), GROWTH)])


def varied(count: int) -> Array:
    """So many different images: the calibration images, then the same flipped and shifted by up to two pixels."""
    images = cifar10()["calibration_images"]
    rng = np.random.default_rng(0)
    made = [*images]
    while len(made) < count:
        image = images[len(made) % len(images)]
        padded = np.pad(image, ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
        top, left = rng.integers(0, 2 * SHIFT + 1, 2)
        moved = padded[top : top + 32, left : left + 32]
        made.append(moved[:, ::-1] if rng.random() < 0.5 else moved)
    return np.stack(made[:count])


def write_float_model(path: Path) -> None:
    """ResNet-20 as float TFLite, so that what is measured begins there: PyTorch alone takes more than all the rest."""
    import edgeqwt
    from edgeqwt.graph import flatbuffer

    built = edgeqwt.build(create(), calibration={"x": normalized(varied(8))}, compensation=False)
    flatbuffer.write(built.prepared.graph, path)


def measured(model: Path, samples: Path, count: int) -> dict[str, float]:
    """One build in a process of its own."""
    print(f"building with {count} samples ...", file=sys.stderr)
    command = [sys.executable, __file__, str(model), str(samples), str(count)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def build(model: str, samples: str, count: str) -> dict[str, float]:
    """Builds in this process; its peak memory in MB, and seconds of two stages."""
    import edgeqwt

    result = edgeqwt.build(model, calibration=samples, samples=int(count))
    # Not getrusage: its peak counts what the parent held when it started this process.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if peak is None:
        sys.exit("the system does not tell a process's peak memory")
    return {"megabytes": int(peak[1]) / 1024, **{name: result.seconds[name] for name in ("calibrate", "compensate")}}


if __name__ == "__main__":
    main()
