"""Convolutions and products. TFLite holds images as NHWC, filters as OHWI; torch wants channels second."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from edgeqwt.autograd.call import Call
from edgeqwt.graph.padding import Sides, same_padding


def padded(x: torch.Tensor, amounts: Sides, value: float = 0.0) -> torch.Tensor:
    """An NCHW value padded along height and width."""
    (top, bottom), (left, right) = amounts
    return F.pad(x, (left, right, top, bottom), value=value) if top or bottom or left or right else x


def _convolved(call: Call, weight: torch.Tensor, groups: int) -> torch.Tensor:
    """A convolution with filters in torch's order (out, in / groups, height, width)."""
    x = call[0].permute(0, 3, 1, 2)
    amounts = same_padding(call.op, (x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3]))
    even = all(before == after for before, after in amounts)
    y = F.conv2d(
        x if even else padded(x, amounts),
        weight,
        call.optional(2),
        stride=(int(call.option("strideH", 1)), int(call.option("strideW", 1))),
        padding=(amounts[0][0], amounts[1][0]) if even else 0,
        dilation=(int(call.option("dilationHFactor", 1)), int(call.option("dilationWFactor", 1))),
        groups=groups,
    )
    return call.activated(y.permute(0, 2, 3, 1))


def conv_2d(call: Call) -> torch.Tensor:
    """Filters (out, height, width, in / groups)."""
    weight = call[1].permute(0, 3, 1, 2)
    return _convolved(call, weight, call[0].shape[3] // weight.shape[1])


def depthwise_conv_2d(call: Call) -> torch.Tensor:
    """Filters (1, height, width, in · multiplier); output channel c · multiplier + m reads input channel c."""
    return _convolved(call, call[1].permute(3, 0, 1, 2), call[0].shape[3])


def transpose_conv(call: Call) -> torch.Tensor:
    """Inputs: output shape, filters (out, height, width, in), x, bias."""
    height, width = call.shape()[1:3]
    weight = call[1].permute(3, 0, 1, 2)
    strides = (int(call.option("strideH", 1)), int(call.option("strideW", 1)))
    y = F.conv_transpose2d(call[2].permute(0, 3, 1, 2), weight, stride=strides)
    (top, _), (left, _) = same_padding(call.op, (height, width), (weight.shape[2], weight.shape[3]))
    missing = (0, max(0, top + height - y.shape[2])), (0, max(0, left + width - y.shape[3]))
    y = padded(y, missing)[:, :, top : top + height, left : left + width].permute(0, 2, 3, 1)
    bias = call.optional(3)
    return call.activated(y if bias is None else y + bias)


def fully_connected(call: Call) -> torch.Tensor:
    """Weights (out, in); all axes of x before its features are rows."""
    y = F.linear(call[0].reshape(-1, call[1].shape[1]), call[1], call.optional(2))
    return call.activated(y.reshape(call.shape()))


def batch_matmul(call: Call) -> torch.Tensor:
    """A product over the last two axes, the others broadcast."""
    a = call[0].transpose(-1, -2) if call.option("adjX") else call[0]
    b = call[1].transpose(-1, -2) if call.option("adjY") else call[1]
    return a @ b
