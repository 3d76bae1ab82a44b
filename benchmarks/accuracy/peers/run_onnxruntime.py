"""onnxruntime's static quantization (QDQ), run by onnxruntime itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from work import Array, Inputs, Predict, main

BATCH = 64
PRECISIONS = {
    "w8a8": (QuantType.QInt8, QuantType.QInt8),
    "w4a8": (QuantType.QInt4, QuantType.QInt8),
    "w8a16": (QuantType.QInt8, QuantType.QInt16),
}
CALIBRATIONS = {
    "min-max": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


class Reader(CalibrationDataReader):
    """The calibration images in batches."""

    def __init__(self, inputs: Inputs) -> None:
        self.batches = inputs.calibration_batches(BATCH)

    def get_next(self) -> dict[str, Array] | None:
        """The next batch by input name, or None at the end."""
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch[0]}


def quantize(inputs: Inputs, *, calibration: CalibrationMethod, precision: str) -> Predict:
    """Symmetric weights per channel, asymmetric activations."""
    weights, activations = PRECISIONS[precision]
    with tempfile.TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "made.onnx"
        quant_pre_process(str(inputs.onnx), str(prepared))
        quantize_static(
            str(prepared),
            str(made),
            Reader(inputs),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=weights,
            activation_type=activations,
            calibrate_method=calibration,
            extra_options={"UseQDQContribOps": precision != "w8a8"},
        )
        session = onnxruntime.InferenceSession(made.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"x": images})[0]


def methods() -> Iterator[tuple[str, Callable[[Inputs], Predict]]]:
    """By name, as in plan.py."""
    for name, calibration in CALIBRATIONS.items():
        for precision in PRECISIONS:
            yield f"{name} {precision}", partial(quantize, calibration=calibration, precision=precision)


if __name__ == "__main__":
    main(dict(methods()))
