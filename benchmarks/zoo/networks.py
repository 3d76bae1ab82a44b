"""The networks: which there are, and how each is made from its name, with random weights."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

CLASSES = 100
SIZE = 96  # side of images in pixels, where a network takes any
TOKENS = 32
LIST = Path(__file__).with_name("timm.json")
"""Networks of timm with options: the smallest of each module and of families within one; fewer blocks of huge ones."""


@dataclass(frozen=True)
class Network:
    """A network and what it takes.

    Attributes:
        module: in evaluation mode.
        inputs: name to shape, batch dimension included.
        vocabulary: how many token ids there are, for inputs that take such; 0 for images.
    """

    module: nn.Module
    inputs: dict[str, tuple[int, ...]]
    vocabulary: int = 0


TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
    "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn",
    "vit_b_32", "wide_resnet50_2",
)  # fmt: skip
SEGMENTATION = ("lraspp_mobilenet_v3_large", "fcn_resnet50", "deeplabv3_mobilenet_v3_large")

SMALL: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "vocab_size": 500, "max_position_embeddings": 64,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "image_size": 64,
    "patch_size": 8,
}  # fmt: skip
TEXTS: dict[str, dict[str, Any]] = {
    "Albert": {**SMALL, "embedding_size": 32},
    "Bert": SMALL,
    "Camembert": SMALL,
    "ConvBert": {**SMALL, "embedding_size": 64, "conv_kernel_size": 5},
    "Data2VecText": SMALL,
    "Deberta": {**SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DebertaV2": {**SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DistilBert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 500,
                   "max_position_embeddings": 64},
    "Electra": {**SMALL, "embedding_size": 64},
    "Ernie": SMALL,
    "Esm": {**SMALL, "position_embedding_type": "absolute", "pad_token_id": 1, "mask_token_id": 2},
    "FNet": SMALL,
    "Funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 64, "n_head": 4, "d_head": 16,
               "d_inner": 128, "vocab_size": 500},
    "IBert": SMALL,
    "LayoutLM": SMALL,
    "Longformer": {**SMALL, "attention_window": 16, "onnx_export": True},
    "MegatronBert": SMALL,
    "MobileBert": {**SMALL, "embedding_size": 32, "intra_bottleneck_size": 64, "true_hidden_size": 64},
    "ModernBert": {**SMALL, "global_attn_every_n_layers": 2, "local_attention": 16, "pad_token_id": 0,
                   "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    "MPNet": SMALL,
    "Nystromformer": {**SMALL, "num_landmarks": 32, "segment_means_seq_len": 32},
    "RemBert": {**SMALL, "input_embedding_size": 32, "output_embedding_size": 32},
    "Roberta": SMALL,
    "RoFormer": {**SMALL, "embedding_size": 64},
    "Splinter": SMALL,
    "SqueezeBert": {**SMALL, "embedding_size": 64},
    "XLMRoberta": SMALL,
    "Xmod": {**SMALL, "languages": ["en_XX"], "default_language": "en_XX"},
}  # fmt: skip
IMAGES: dict[str, dict[str, Any]] = {
    "Beit": VISION,
    "ConvNext": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "ConvNextV2": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "Cvt": {"embed_dim": [16, 32, 64], "num_heads": [1, 2, 4], "depth": [1, 2, 3]},
    "Data2VecVision": VISION,
    "DeiT": VISION,
    "Dinov2": {**VISION, "mlp_ratio": 2},
    "EfficientNet": {"image_size": 64, "width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640},
    "FocalNet": {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 128]},
    "GLPN": {"num_attention_heads": [1, 2, 3, 4], "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]},
    "Hiera": {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
    "MobileNetV1": {"image_size": 64, "depth_multiplier": 0.5},
    "MobileNetV2": {"image_size": 64, "depth_multiplier": 0.5},
    "MobileViT": {"image_size": 64, "hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 96]},
    "PoolFormer": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]},
    "Pvt": {"num_attention_heads": [1, 2, 3, 4], "image_size": 64, "depths": [1, 1, 1, 1],
              "hidden_sizes": [16, 32, 48, 64]},
    "PvtV2": {"num_attention_heads": [1, 2, 3, 4], "image_size": 64, "depths": [1, 1, 1, 1],
                "hidden_sizes": [16, 32, 48, 64]},
    "RegNet": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "groups_width": 8},
    "ResNet": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "embedding_size": 16, "layer_type": "basic"},
    "Segformer": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]},
    "SwiftFormer": {"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [16, 32, 48, 64]},
    "Swin": {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4],
             "window_size": 4},
    "Swinv2": {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4],
               "window_size": 4},
    "ViT": VISION,
    "ViTMSN": VISION,
    "Yolos": {**VISION, "image_size": [64, 64], "num_detection_tokens": 10},
}  # fmt: skip


def names() -> tuple[str, ...]:
    """All networks, as package/name."""
    timm = [f"timm/{name}" for name in json.loads(LIST.read_text("utf-8"))]
    transformers = [f"transformers/{name}" for name in sorted({**TEXTS, **IMAGES})]
    return (*(f"torchvision/{name}" for name in (*TORCHVISION, *SEGMENTATION)), *timm, *transformers)


def make(name: str, native: bool = False) -> Network:
    """A network by its name; `native`: at the resolution that it was designed for."""
    package, _, kind = name.partition("/")
    torch.manual_seed(0)
    makers: dict[str, Callable[[str, bool], Network]] = {
        "torchvision": _torchvision,
        "timm": _timm,
        "transformers": _transformers,
    }
    network = makers[package](kind, native)
    network.module.eval()
    return network


def _torchvision(kind: str, native: bool) -> Network:
    models = importlib.import_module("torchvision.models")
    if kind in SEGMENTATION:
        found = models.get_model(f"segmentation.{kind}" if "." in kind else kind, weights=None, weights_backbone=None,
                                 num_classes=21)  # fmt: skip
        return Network(_First(found), {"x": (1, 3, *(2 * [224 if native else SIZE]))})
    options = {"aux_logits": False, "init_weights": True} if kind in ("googlenet", "inception_v3") else {}
    side = {"inception_v3": 299, "maxvit_t": 224, "swin_v2_t": 256}.get(kind, 224)
    if not native and kind not in ("maxvit_t",):
        side = {"inception_v3": 139, "swin_t": 64, "swin_v2_t": 64, "alexnet": 128}.get(kind, SIZE)
    if kind == "vit_b_32":
        options = {"image_size": side}
    return Network(models.get_model(kind, weights=None, num_classes=CLASSES, **options), {"x": (1, 3, side, side)})


def _timm(kind: str, native: bool) -> Network:
    timm = importlib.import_module("timm")
    depth = json.loads(LIST.read_text("utf-8"))[kind]
    config = timm.get_pretrained_cfg(kind)
    channels, *wanted = (3, 224, 224) if config is None else config.input_size
    sides = [tuple(wanted)] if native else [(SIZE, SIZE), (128, 128), tuple(wanted)]
    errors: list[str] = []
    for side in dict.fromkeys(sides):
        for options in ({"img_size": side}, {}):
            try:
                torch.manual_seed(0)
                module = timm.create_model(kind, pretrained=False, num_classes=CLASSES, **depth, **options).eval()
                shape = (1, channels, *side)
                with torch.no_grad():
                    module(torch.zeros(shape))
                return Network(module, {"x": shape})
            except Exception as error:  # each network has its own way of refusing a size
                errors.append(str(error)[:100])
    raise ValueError("; ".join(errors))


def _transformers(kind: str, native: bool) -> Network:
    transformers = importlib.import_module("transformers")
    text = kind in TEXTS
    config = getattr(transformers, f"{kind}Config")(**(TEXTS if text else IMAGES)[kind])
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{kind}Model")(config)
    module = _Hidden(model)
    if text:
        taken = inspect.signature(model.forward).parameters  # FNet mixes padding in, too
        names = [name for name in ("input_ids", "attention_mask") if name in taken]
        return Network(module, dict.fromkeys(names, (1, TOKENS)), config.vocab_size)
    side = config.image_size if hasattr(config, "image_size") else SIZE
    side = side if isinstance(side, int) else side[0]
    return Network(_Pixels(module), {"x": (1, 3, side, side)})


class _First(nn.Module):
    """The first output alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.module(x)
        return next(iter(found.values())) if isinstance(found, dict) else found


class _Hidden(nn.Module):
    """The last hidden state alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        if attention_mask is None:
            return self.module(input_ids=input_ids).last_hidden_state
        return self.module(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class _Pixels(nn.Module):
    """A vision model by its pixels alone."""

    def __init__(self, hidden: _Hidden) -> None:
        super().__init__()
        self.module = hidden.module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(pixel_values=x).last_hidden_state
