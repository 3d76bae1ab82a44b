"""What every peer gets, as files: made once, in the project's environment."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import tempfile
from pathlib import Path

import numpy as np
from common import CALIBRATION, cifar10, normalized, shared
from models import resnet20_cifar10
from models.resnet20_cifar10 import create, weights_file

REFERENCE, LABELS = "reference.npy", "labels.npy"


def fingerprint() -> str:
    """Of all that the inputs are made of."""
    digest = hashlib.sha256(str(CALIBRATION).encode())
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
    calibration, test = normalized(data["calibration_images"][:CALIBRATION]), normalized(data["test_images"])
    np.save(folder / "calibration.npy", calibration)
    np.save(folder / "test.npy", test)
    np.save(folder / LABELS, data["test_labels"])
    model = create()
    np.savez(folder / "state.npz", **{name: value.numpy() for name, value in model.state_dict().items()})
    with torch.no_grad():
        logits = [model(torch.from_numpy(part)).numpy() for part in np.array_split(test, 40)]
    np.save(folder / REFERENCE, np.concatenate(logits))
    _write_float_tflite(calibration, folder / "float.tflite")
    _write_onnx(model, folder / "model.onnx")


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
