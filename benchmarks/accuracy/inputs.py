"""What every peer gets, as files: made once, in the project's environment."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from common import CALIBRATION as IMAGES
from common import cifar10, normalized, shared
from models import resnet20_cifar10
from models.resnet20_cifar10 import create, weights_file

from accuracy.peers.work import CALIBRATION, FLOAT, NETWORK, STATE, TEST, save_arrays

if TYPE_CHECKING:
    import torch

REFERENCE, LABELS = "reference.npy", "labels.npy"


def fingerprint() -> str:
    """Of all that the inputs are made of."""
    digest = hashlib.sha256(str(IMAGES).encode())
    sources = [
        Path(__file__),
        Path(inspect.getfile(resnet20_cifar10)),
        weights_file(),
        shared() / "data" / "cifar10.npz",
    ]
    for path in sources:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def prepare(folder: Path) -> Path:
    """Makes the inputs below a folder, unless they are there; returns where."""
    final = folder / fingerprint()
    if not final.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            _write(Path(unfinished) / "inputs")
            shutil.move(Path(unfinished) / "inputs", final)
    return final


def _write(folder: Path) -> None:
    import torch

    folder.mkdir()
    data = cifar10()
    calibration, test = normalized(data["calibration_images"][:IMAGES]), normalized(data["test_images"])
    save_arrays(folder / CALIBRATION, {"x": calibration})
    save_arrays(folder / TEST, {"x": test})
    np.save(folder / LABELS, data["test_labels"])
    model = create()
    save_network(folder, "resnet20_cifar10:ResNet20", model)
    with torch.no_grad():
        logits = [model(torch.from_numpy(part)).numpy() for part in np.array_split(test, 40)]
    np.save(folder / REFERENCE, np.concatenate(logits))
    _write_float_tflite(calibration, folder / FLOAT)
    _write_onnx(model, folder / "model.onnx")


def save_network(folder: Path, name: str, model: torch.nn.Module) -> None:
    """What `Inputs.torch_model` reads: MODULE:FUNCTION of benchmarks/models, and the parameters."""
    (folder / NETWORK).write_text(name)
    np.savez(folder / STATE, **{key: value.numpy() for key, value in model.state_dict().items()})


def _write_float_tflite(calibration: np.ndarray, path: Path) -> None:
    """As onnx2tf leaves it, before any rewrite of ours."""
    from edgeqwt.calibration.sources import open_samples
    from edgeqwt.converters.convert import convert
    from edgeqwt.graph import flatbuffer

    with tempfile.TemporaryDirectory() as work:
        converted = convert(create(), open_samples({"x": calibration[:4]}), Path(work))
        flatbuffer.write(converted.graph, path)


def _write_onnx(model: object, path: Path) -> None:
    import torch

    torch.onnx.export(
        model,
        (torch.zeros(1, 3, 32, 32),),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes={"x": {0: "n"}, "logits": {0: "n"}},
    )
