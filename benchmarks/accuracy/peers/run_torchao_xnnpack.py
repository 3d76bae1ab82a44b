"""torchao's post-training quantization with ExecuTorch's XNNPACK quantizer: simulated in torch."""

from __future__ import annotations

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from work import Inputs, Predict, main, torch_predict

BATCH = 32


def quantize(inputs: Inputs) -> Predict:
    """int8 weights per channel, int8 activations, at the quantizer's own observers."""
    example = tuple(torch.from_numpy(x[:BATCH].copy()) for x in inputs.calibration)
    dynamic = tuple({0: torch.export.Dim("n", min=2)} for _ in example)
    exported = torch.export.export(inputs.torch_model(), example, dynamic_shapes=dynamic).module()
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for batch in inputs.calibration_batches(BATCH):
            prepared(*(torch.from_numpy(x.copy()) for x in batch))
    return torch_predict(convert_pt2e(prepared))


if __name__ == "__main__":
    main({"XNNPACK quantizer w8a8": quantize})
