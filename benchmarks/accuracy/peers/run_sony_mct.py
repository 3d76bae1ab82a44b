"""Sony's Model Compression Toolkit: quantizers simulated in torch, in float arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import model_compression_toolkit as mct
import torch
from mct_quantizers import QuantizationMethod
from model_compression_toolkit.target_platform_capabilities.constants import KERNEL_ATTR, WEIGHTS_N_BITS
from model_compression_toolkit.target_platform_capabilities.schema.mct_current_schema import TargetPlatformCapabilities
from model_compression_toolkit.target_platform_capabilities.tpc_models.imx500_tpc.v1_0 import tpc
from work import Array, Inputs, Predict, main, torch_predict

BATCH = 32
EPOCHS = 50  # of the gradient-based method
TRAINING: Mapping[str, Mapping[str, Any] | None] = {
    "PTQ": None,
    "GPTQ": {},
    "GPTQ, no Hessian": {"use_hessian_based_weights": False, "use_hessian_sample_attention": False},
}
"""The toolkit's GPTQ is gradient-based: by default it weighs samples and layers by Hessians of the float network."""


def platform(weight_bits: int, method: QuantizationMethod) -> TargetPlatformCapabilities:
    """The toolkit's own platform (power-of-two activations, symmetric 8-bit kernels per channel), changed as asked.

    Args:
        weight_bits: of kernels.
        method: for activations; UNIFORM is a scale and a zero point, as in TFLite.
    """
    linear, _, other = tpc.get_op_quantization_configs()
    linear, other = (config.clone_and_edit(activation_quantization_method=method) for config in (linear, other))
    linear = linear.clone_and_edit(attr_to_edit={KERNEL_ATTR: {WEIGHTS_N_BITS: weight_bits}})
    return tpc.generate_tpc(other, linear, [linear], "benchmark")


def quantize(
    inputs: Inputs, *, weight_bits: int, method: QuantizationMethod, training: Mapping[str, Any] | None
) -> Predict:
    """Thresholds by least squares (the default), then learned rounding where there are options for its training."""
    torch.manual_seed(0)
    model, settings = inputs.torch_model(), platform(weight_bits, method)

    def batches() -> Iterator[list[Array]]:
        return (list(batch) for batch in inputs.calibration_batches(BATCH))

    if training is not None:
        config = mct.gptq.get_pytorch_gptq_config(n_epochs=EPOCHS, **training)
        made, _ = mct.gptq.pytorch_gradient_post_training_quantization(
            model, batches, gptq_config=config, target_platform_capabilities=settings
        )
    else:
        made, _ = mct.ptq.pytorch_post_training_quantization(model, batches, target_platform_capabilities=settings)
    return torch_predict(made.eval())


def methods() -> Iterator[tuple[str, Callable[[Inputs], Predict]]]:
    """By name, as in plan.py."""
    activations = {"power-of-two": QuantizationMethod.POWER_OF_TWO, "uniform": QuantizationMethod.UNIFORM}
    for kind, training in TRAINING.items():
        for settings, method in activations.items():
            for weight_bits in (8, 4):
                options = {"weight_bits": weight_bits, "method": method, "training": training}
                yield f"{kind}, {settings} w{weight_bits}a8", partial(quantize, **options)


if __name__ == "__main__":
    main(dict(methods()))
