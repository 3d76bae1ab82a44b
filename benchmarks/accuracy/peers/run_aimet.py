"""Qualcomm's AIMET: quantizers simulated in torch, in float arithmetic."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aimet_torch
import torch
from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters
from aimet_torch.batch_norm_fold import fold_all_batch_norms
from aimet_torch.common.defs import QuantScheme
from aimet_torch.cross_layer_equalization import equalize_model
from aimet_torch.model_preparer import prepare_model
from aimet_torch.quantsim import QuantizationSimModel
from aimet_torch.seq_mse import SeqMseParams, apply_seq_mse
from work import Inputs, Predict, main, torch_predict

BATCH = 32
CONFIG = Path(aimet_torch.__file__).parent / "common" / "quantsim_config" / "default_config_per_channel.json"
SCHEMES = {"min-max": QuantScheme.min_max, "SQNR": QuantScheme.post_training_tf_enhanced}
"""How the ranges of weights and activations are chosen."""

Simulator = QuantizationSimModel
Batches = list[tuple[torch.Tensor, ...]]
Prepare = Callable[[Any, Batches, int, QuantScheme], Simulator]


def quantize(inputs: Inputs, *, prepare: Prepare, scheme: QuantScheme, weight_bits: int) -> Predict:
    """One of the preparations below, then ranges from the calibration images."""
    torch.manual_seed(0)
    batches = [tuple(torch.from_numpy(x.copy()) for x in batch) for batch in inputs.calibration_batches(BATCH)]
    model = prepare_model(inputs.torch_model())
    simulated = prepare(model, batches, weight_bits, scheme)

    def observe(network: Any) -> None:
        with torch.no_grad():
            for batch in batches:
                network(*batch)

    simulated.compute_encodings(observe)
    return torch_predict(simulated.model)


def simulator(model: Any, batches: Batches, weight_bits: int, scheme: QuantScheme) -> Simulator:
    """A batch-normalization-free model with quantizers: weights per channel, 8-bit activations."""
    options = {"quant_scheme": scheme, "default_output_bw": 8, "default_param_bw": weight_bits}
    return QuantizationSimModel(model, dummy_input=batches[0], config_file=str(CONFIG), **options)


def plain(model: Any, batches: Batches, weight_bits: int, scheme: QuantScheme) -> Simulator:
    """Rounding to nearest."""
    fold_all_batch_norms(model, None, dummy_input=batches[0])
    return simulator(model, batches, weight_bits, scheme)


def equalized(model: Any, batches: Batches, weight_bits: int, scheme: QuantScheme) -> Simulator:
    """Cross-layer equalization and high-bias folding."""
    equalize_model(model, dummy_input=batches[0])
    return simulator(model, batches, weight_bits, scheme)


def sequential_mse(model: Any, batches: Batches, weight_bits: int, scheme: QuantScheme) -> Simulator:
    """Weight scales that minimize each layer's output error, layer by layer."""
    made = plain(model, batches, weight_bits, scheme)
    apply_seq_mse(model, made, images(batches), SeqMseParams(num_batches=len(batches)))
    return made


def adaround(model: Any, batches: Batches, weight_bits: int, scheme: QuantScheme) -> Simulator:
    """Learned rounding at its default number of iterations: 10 000 a layer, 15 000 below 8 bits."""
    fold_all_batch_norms(model, None, dummy_input=batches[0])

    def forward(network: Any, batch: torch.Tensor) -> torch.Tensor:
        return network(batch)

    params = AdaroundParameters(images(batches), num_batches=len(batches), forward_fn=forward)
    options = {"default_param_bw": weight_bits, "default_quant_scheme": scheme, "default_config_file": str(CONFIG)}
    with tempfile.TemporaryDirectory() as folder:
        rounded = Adaround.apply_adaround(model, batches[0], params, folder, "rounded", **options)
        made = simulator(rounded, batches, weight_bits, scheme)
        made.set_and_freeze_param_encodings(f"{folder}/rounded.encodings")
    return made


def images(batches: Batches) -> list[torch.Tensor]:
    """The batches of a network with one input."""
    return [batch for (batch,) in batches]


def methods() -> Iterator[tuple[str, Callable[[Inputs], Predict]]]:
    """By name, as in plan.py."""
    preparations = {"PTQ": plain, "CLE": equalized, "SeqMSE": sequential_mse, "AdaRound": adaround}
    for name, prepare in preparations.items():
        for label, scheme in SCHEMES.items():
            for weight_bits in (8, 4):
                options = {"prepare": prepare, "scheme": scheme, "weight_bits": weight_bits}
                yield f"{name}, {label} w{weight_bits}a8", partial(quantize, **options)


if __name__ == "__main__":
    main(dict(methods()))
