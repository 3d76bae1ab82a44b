"""ai-edge-quantizer: real .tflite files from the same float .tflite that edgeqwt's build starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.calibrator import Calibrator
from ai_edge_quantizer.recipe_manager import RecipeManager
from ai_edge_quantizer.utils import qsv_utils
from work import SIGNATURE, Array, Inputs, main

Algorithm, Op = recipe.AlgorithmName, recipe.TFLOperationName
THREADS = 2
LINEAR = (Op.CONV_2D, Op.FULLY_CONNECTED)
PRECISIONS = {"w8a8": (8, 8), "w4a8": (4, 8), "w8a16": (8, 16)}
"""Bits of weights and activations."""


def quantize(
    inputs: Inputs, *, algorithm: Algorithm, linear: tuple[Op, ...], precision: str, true_ranges: bool
) -> bytes:
    """Static quantization of every op.

    Args:
        inputs: the model and the images.
        algorithm: for the weights of `linear`; all activations get min-max from the calibration.
        linear: ops that the algorithm takes; its policy has 4-bit weights for these only.
        precision: a key of `PRECISIONS`.
        true_ranges: keep the smallest and largest value of all samples; the default is a moving average of
            each sample's, smoothed by 0.95.
    """
    weights, activations = PRECISIONS[precision]
    manager = RecipeManager()
    manager.add_static_config(".*", Op.ALL_SUPPORTED, activations, 8)
    for op in LINEAR:
        chosen = algorithm if op in linear else Algorithm.MIN_MAX_UNIFORM_QUANT
        manager.add_static_config(".*", op, activations, weights, algorithm_key=chosen)
    tool = quantizer.Quantizer(str(inputs.float_tflite), manager.get_quantization_recipe())
    data = {SIGNATURE: samples(inputs)}
    if true_ranges:
        calibrator = Calibrator(str(inputs.float_tflite), THREADS, qsv_update_func=qsv_utils.min_max_update)
        calibrator.calibrate(data, manager)
        found = calibrator.get_model_qsvs()
    else:
        found = tool.calibrate(data, num_threads=THREADS)
    made = tool.quantize(found).quantized_model
    assert made is not None
    return bytes(made)


def samples(inputs: Inputs) -> list[dict[str, Array]]:
    """The calibration samples as the float file takes them."""
    return list(inputs.in_file(Interpreter(str(inputs.float_tflite)).get_signature_list()[SIGNATURE]["inputs"]))


def methods() -> Iterator[tuple[str, Callable[[Inputs], bytes]]]:
    """By name, as in plan.py."""
    algorithms = {
        "min-max": (Algorithm.MIN_MAX_UNIFORM_QUANT, LINEAR),
        "MSE": (Algorithm.MSE, LINEAR),
        "OCTAV": (Algorithm.OCTAV, LINEAR),
        "GPTQ": (Algorithm.GPTQ, (Op.FULLY_CONNECTED,)),  # it has none for convolutions
    }
    for name, (algorithm, linear) in algorithms.items():
        for precision in PRECISIONS:
            for suffix, true_ranges in (("", False), (", true ranges", True)):
                options = {"algorithm": algorithm, "linear": linear, "precision": precision}
                yield f"{name}{suffix} {precision}", partial(quantize, **options, true_ranges=true_ranges)


if __name__ == "__main__":
    main(dict(methods()))
