"""Runs ONNX models on Qualcomm's simulation of its NPU. A program of its own: its environment has no edgeqwt.

python htp_child.py FOLDER [SOC]: for every NAME.onnx there, reads NAME.npz with inputs "K.NAME" of sample K, and
writes NAME.out.npz with outputs "K.I", or NAME.error with what was said.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path, soc: str) -> None:
    """Runs every model in the folder."""
    import onnxruntime as ort
    import onnxruntime_qnn as qnn

    name = qnn.get_ep_name()
    ort.register_execution_provider_library(name, qnn.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name][:1]
    for path in sorted(folder.glob("*.onnx")):
        try:
            found = dict(outputs(path, ort, devices, {"backend_path": qnn.get_qnn_htp_path(), "soc_model": soc}))
        except Exception as error:
            path.with_suffix(".error").write_text(str(error), encoding="utf-8")
            continue
        np.savez(path.with_suffix(".out.npz"), **found)


def outputs(path: Path, ort: Any, devices: Any, options: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The outputs of every sample."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    # Nothing is left to the processor's own kernels, whose arithmetic is another one.
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    settings.add_provider_for_devices(devices, options)
    # One constant for equal ones of one element would have a scale, and none, which the provider refuses.
    session = ort.InferenceSession(str(path), settings, disabled_optimizers=["ConstantSharing"])
    with np.load(path.with_suffix(".npz")) as inputs:
        samples: dict[int, dict[str, Any]] = {}
        for key in inputs.files:
            k, _, name = key.partition(".")
            samples.setdefault(int(k), {})[name] = inputs[key]
    for k, feed in samples.items():
        for i, array in enumerate(session.run(None, feed)):
            yield f"{k}.{i}", array


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "0")
