"""What every peer's script does in the same way: read the inputs, time itself, leave its result.

    python run_PEER.py METHOD INPUTS OUTPUT

The script runs in the peer's own environment: standard library and numpy only here.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Predict = Callable[[Array], Array]
Made = bytes | Predict
"""A .tflite file, or a function from images (n, 3, 32, 32) to logits (n, 10)."""

BATCH = 500
RESULT, LOGITS, FILE = "made.json", "logits.npy", "model.tflite"


@dataclass(frozen=True)
class Inputs:
    """What every peer gets."""

    folder: Path

    @property
    def float_tflite(self) -> Path:
        """The network as float TFLite, input (1, 32, 32, 3)."""
        return self.folder / "float.tflite"

    @property
    def onnx(self) -> Path:
        """The network as ONNX, input (batch, 3, 32, 32)."""
        return self.folder / "model.onnx"

    @property
    def calibration(self) -> Array:
        """Normalized images (n, 3, 32, 32)."""
        return np.load(self.folder / "calibration.npy")

    @property
    def test(self) -> Array:
        """Normalized images (n, 3, 32, 32), read as they are used."""
        return np.load(self.folder / "test.npy", mmap_mode="r")

    def calibration_batches(self, size: int) -> Iterator[Array]:
        """The calibration images in order, (size, 3, 32, 32) each."""
        images = self.calibration
        return (images[start : start + size] for start in range(0, len(images), size))

    def state(self) -> dict[str, Array]:
        """The trained parameters by their names in PyTorch."""
        with np.load(self.folder / "state.npz") as archive:
            return {name: archive[name] for name in archive.files}

    def torch_model(self) -> Any:
        """The trained torch module, in evaluation mode."""
        path = Path(__file__).resolve().parents[2] / "models" / "resnet20_cifar10.py"
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # where torch.fx and pickle look for the classes
        spec.loader.exec_module(module)
        return module.create()


def main(methods: Mapping[str, Callable[[Inputs], Made]]) -> None:
    """Runs the method that the command line names, and leaves its result in the output folder."""
    method, inputs, output = sys.argv[1], Inputs(Path(sys.argv[2])), Path(sys.argv[3])
    start = time.perf_counter()
    made = methods[method](inputs)
    figures = {"seconds": time.perf_counter() - start, "peak_mib": peak_mib()}
    if isinstance(made, bytes):
        (output / FILE).write_bytes(made)
    else:
        gc.collect()
        test = inputs.test
        parts = (test[first : first + BATCH] for first in range(0, len(test), BATCH))
        logits = np.concatenate([made(np.array(part)) for part in parts])
        np.save(output / LOGITS, logits.astype(np.float32))
    # Last: a result without its logits would look finished.
    (output / RESULT).write_text(json.dumps(figures))


def peak_mib() -> float:
    """Peak resident memory of this process, or of the largest that it started."""
    # Not getrusage for this process: its peak counts what the parent held when it started it.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return max(int(found[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def torch_predict(model: Any) -> Predict:
    """A torch module as a function of numpy arrays."""
    import torch

    def predict(images: Array) -> Array:
        with torch.no_grad():
            return model(torch.from_numpy(images)).numpy()

    return predict
