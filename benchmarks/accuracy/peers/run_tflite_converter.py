"""TensorFlow's TFLiteConverter, from a Keras port of the same network or from its float file: real .tflite files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.python.optimize import calibrator
from work import Array, Inputs, channels_last, main

SAMPLES = 256  # on which the port must equal PyTorch
TOLERANCE = 1e-3
"""Of the port's logits (up to about 20) against PyTorch's: both compute in float32 and differ in the order of
sums; a wrong port differs by the size of the logits."""
EPSILON = 1e-5  # of PyTorch's batch normalization


def quantize(inputs: Inputs, *, activation_bits: int) -> bytes:
    """Full-integer quantization; inputs and outputs stay float."""
    model = port(inputs.state())
    check(model, inputs)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    operators = {
        8: tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        16: tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }
    converter.target_spec.supported_ops = [operators[activation_bits]]
    converter.representative_dataset = lambda: samples(inputs)
    return bytes(converter.convert())


def from_file(inputs: Inputs) -> bytes:
    """The converter's own steps behind conversion (`TFLiteConverterBase._quantize` of TensorFlow 2.21)."""
    graph = calibrator.add_intermediate_tensors(inputs.float_tflite.read_bytes())
    details = tf.lite.Interpreter(str(inputs.float_tflite)).get_input_details()
    names = [entry["name"] for entry in details]
    feeds = ([feed[name] for name in names] for feed in inputs.in_file(names))
    calibrated = calibrator.Calibrator(graph).calibrate(lambda: feeds)
    return bytes(mlir_quantize(calibrated))


def samples(inputs: Inputs) -> Iterator[list[Array]]:
    """The calibration images, one by one, channels last."""
    (images,) = inputs.calibration
    for image in images:
        yield [channels_last(image[None])]


def check(model: keras.Model, inputs: Inputs) -> None:
    """Stops unless the port computes what PyTorch does."""
    wanted = np.load(inputs.folder / "reference.npy")[:SAMPLES]
    difference = np.abs(model(channels_last(inputs.test[0][:SAMPLES])).numpy() - wanted).max()
    if difference > TOLERANCE:
        raise SystemExit(f"the Keras port differs from PyTorch by {difference:.3g}")


def port(state: Mapping[str, Array]) -> keras.Model:
    """The ResNet-20 of benchmarks/models in Keras, with PyTorch's parameters."""
    image = keras.Input((32, 32, 3), batch_size=1)
    x = keras.layers.ReLU()(convolution(image, state, "conv1", "bn1", 1))
    for stage, channels in enumerate((16, 32, 64), 1):
        for block in range(3):
            stride = 2 if stage > 1 and block == 0 else 1
            place = f"layer{stage}.{block}."
            y = keras.layers.ReLU()(convolution(x, state, place + "conv1", place + "bn1", stride))
            y = convolution(y, state, place + "conv2", place + "bn2", 1)
            x = keras.layers.ReLU()(y + (shortcut(x, channels // 4) if stride == 2 else x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    linear = keras.layers.Dense(10)
    logits = linear(x)
    linear.set_weights([state["linear.weight"].T, state["linear.bias"]])
    return keras.Model(image, logits)


def convolution(
    x: keras.KerasTensor, state: Mapping[str, Array], conv: str, norm: str, stride: int
) -> keras.KerasTensor:
    """A 3x3 convolution padded by 1 on all sides, and batch normalization."""
    weights = state[f"{conv}.weight"].transpose(2, 3, 1, 0)
    if stride == 2:  # Keras' own padding would be 0 and 1 then
        x = keras.layers.ZeroPadding2D(1)(x)
    layer = keras.layers.Conv2D(
        weights.shape[-1], 3, stride, padding="same" if stride == 1 else "valid", use_bias=False
    )
    normalization = keras.layers.BatchNormalization(epsilon=EPSILON)
    y = normalization(layer(x))
    layer.set_weights([weights])
    normalization.set_weights([state[f"{norm}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")])
    return y


def shortcut(x: keras.KerasTensor, before: int) -> keras.KerasTensor:
    """Every second pixel, zeros for the new channels before and after."""
    return keras.ops.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [before, before]])


if __name__ == "__main__":
    main(
        {
            "int8 w8a8": partial(quantize, activation_bits=8),
            "16x8 w8a16": partial(quantize, activation_bits=16),
            "int8, from the float file w8a8": from_file,
        }
    )
