"""What every peer's script does in the same way: read the inputs, time itself, leave its result.

    python run_PEER.py METHOD INPUTS OUTPUT

The script runs in the peer's own environment: standard library and numpy only here.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Predict = Callable[..., Array]
Made = bytes | Predict
"""A .tflite file, or a function from the network's inputs, (n, ...) each, to its output (n, ...)."""

BATCH = 500
RESULT, LOGITS, FILE = "made.json", "logits.npy", "model.tflite"
CALIBRATION, TEST, NETWORK, STATE, FLOAT = "calibration", "test", "network.txt", "state.npz", "float.tflite"
"""Of the inputs' folder: two folders of arrays, MODULE:FUNCTION of benchmarks/models, parameters, the float file."""
SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Inputs:
    """What every peer gets. Samples are one array for each input of the network, in its order, (n, ...)."""

    folder: Path

    @property
    def float_tflite(self) -> Path:
        """The network as float TFLite, batch 1, images with their channels last."""
        return self.folder / FLOAT

    @property
    def onnx(self) -> Path:
        """The network as ONNX, input (batch, 3, 32, 32)."""
        return self.folder / "model.onnx"

    @property
    def calibration(self) -> tuple[Array, ...]:
        """Samples that tools may fit on."""
        return tuple(np.array(part) for part in arrays(self.folder / CALIBRATION).values())

    @property
    def test(self) -> tuple[Array, ...]:
        """Samples to judge by, read as they are used."""
        return tuple(arrays(self.folder / TEST).values())

    def calibration_batches(self, size: int) -> Iterator[tuple[Array, ...]]:
        """The calibration samples in order, `size` at a time."""
        parts = self.calibration
        return (tuple(x[start : start + size] for x in parts) for start in range(0, len(parts[0]), size))

    def in_file(self, names: Iterable[str]) -> Iterator[dict[str, Array]]:
        """Each calibration sample by the names that the float file has for its inputs, in its layout."""
        held = arrays(self.folder / CALIBRATION)
        known = list(names)
        named = [next((k for k in known if name in k), known[0]) for name in held]
        for parts in zip(*held.values(), strict=True):
            yield {name: channels_last(np.array(part[None])) for name, part in zip(named, parts, strict=True)}

    def state(self) -> dict[str, Array]:
        """The trained parameters by their names in PyTorch."""
        with np.load(self.folder / STATE) as archive:
            return {name: archive[name] for name in archive.files}

    def torch_model(self) -> Any:
        """The torch module with its parameters, in evaluation mode."""
        import torch

        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        module, create = (self.folder / NETWORK).read_text().split(":")
        model = getattr(importlib.import_module(f"models.{module}"), create)()
        model.load_state_dict({name: torch.from_numpy(value) for name, value in self.state().items()})
        return model.eval()


def arrays(folder: Path) -> dict[str, Array]:
    """Samples by the names of the network's inputs, in their order, from files NUMBER.NAME.npy."""
    return {path.name.split(".")[1]: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def save_arrays(folder: Path, samples: Mapping[str, Array]) -> None:
    """What `arrays` reads."""
    folder.mkdir()
    for number, (name, array) in enumerate(samples.items()):
        np.save(folder / f"{number}.{name}.npy", array)


def channels_last(samples: Array) -> Array:
    """Images (n, c, h, w) to (n, h, w, c); what is no image as it is."""
    return np.ascontiguousarray(samples.transpose(0, 2, 3, 1)) if samples.ndim == 4 else samples


def main(methods: Mapping[str, Callable[[Inputs], Made]]) -> None:
    """Runs the method that the command line names, and leaves its result in the output folder."""
    method, inputs, output = sys.argv[1], Inputs(Path(sys.argv[2])), Path(sys.argv[3])
    start = time.perf_counter()
    made = methods[method](inputs)
    figures = {"seconds": time.perf_counter() - start, "peak_mib": peak_mib(), **whole()}
    if isinstance(made, bytes):
        (output / FILE).write_bytes(made)
    else:
        gc.collect()
        test = inputs.test
        parts = ([np.array(x[first : first + BATCH]) for x in test] for first in range(0, len(test[0]), BATCH))
        logits = np.concatenate([made(*part) for part in parts])
        np.save(output / LOGITS, logits.astype(np.float32))
    # Last: a result without its logits would look finished.
    (output / RESULT).write_text(json.dumps(figures))


def whole() -> dict[str, float]:
    """Seconds since this process began, its imports included: of the clock, and of all cores with what it started."""
    began = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cores = sum(each.ru_utime + each.ru_stime for each in used)
    return {"whole_seconds": time.clock_gettime(time.CLOCK_BOOTTIME) - began, "cpu_seconds": cores}


def peak_mib() -> float:
    """Peak resident memory of this process, or of the largest that it started."""
    # Not getrusage for this process: its peak counts what the parent held when it started it.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return max(int(found[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def torch_predict(model: Any) -> Predict:
    """A torch module as a function of numpy arrays."""
    import torch

    def predict(*samples: Array) -> Array:
        with torch.no_grad():
            return model(*map(torch.from_numpy, samples)).numpy()

    return predict
