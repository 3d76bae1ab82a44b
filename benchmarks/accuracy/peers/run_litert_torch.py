"""litert-torch's own quantization (PT2E) before its conversion: real .tflite files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import litert_torch
import torch
from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
from litert_torch.quantize.quant_config import QuantConfig
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from work import Inputs, main


def quantize(inputs: Inputs) -> bytes:
    """int8 weights per channel, int8 activations by the quantizer's own observers; inputs as PyTorch has them."""
    samples = [tuple(torch.from_numpy(x.copy()) for x in batch) for batch in inputs.calibration_batches(1)]
    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False))
    prepared = prepare_pt2e(torch.export.export(inputs.torch_model(), samples[0]).module(), quantizer)
    with torch.no_grad():
        for sample in samples:
            prepared(*sample)
    made = convert_pt2e(prepared, fold_quantize=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.tflite"
        config = QuantConfig(pt2e_quantizer=quantizer)
        litert_torch.convert(made, samples[0], quant_config=config).export(str(path))
        return path.read_bytes()


if __name__ == "__main__":
    main({"PT2E w8a8": quantize})
