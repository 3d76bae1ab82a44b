"""Reductions, pooling and normalization."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from edgeqwt.autograd.call import Call
from edgeqwt.autograd.convolutions import padded
from edgeqwt.graph.padding import same_padding

Reduction = Callable[[torch.Tensor, tuple[int, ...], bool], torch.Tensor]


def reduction(function: Reduction) -> Callable[[Call], torch.Tensor]:
    """A kernel that reduces some axes, which are a constant input; without any axis the value stays."""

    def run(call: Call) -> torch.Tensor:
        axes = tuple(sorted({a % call[0].ndim for a in call.integers(1)})) if call[0].ndim else ()
        return function(call[0], axes, bool(call.option("keepDims"))) if axes else call[0]

    return run


mean = reduction(lambda x, axes, keep: x.mean(axes, keepdim=keep))
total = reduction(lambda x, axes, keep: x.sum(axes, keepdim=keep))
largest = reduction(lambda x, axes, keep: x.amax(axes, keepdim=keep))
smallest = reduction(lambda x, axes, keep: x.amin(axes, keepdim=keep))
all_of = reduction(lambda x, axes, keep: x.float().amin(axes, keepdim=keep) > 0)
any_of = reduction(lambda x, axes, keep: x.float().amax(axes, keepdim=keep) > 0)


def _product(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


product = reduction(_product)


def running_sum(call: Call) -> torch.Tensor:
    """CUMSUM along one axis: with the element itself or without, from the front or from the back."""
    x, axis = call[0], call.integers(1)[0]
    turned = x.flip(axis) if call.option("reverse") else x
    sums = turned.cumsum(axis) - (turned if call.option("exclusive") else 0)
    return sums.flip(axis) if call.option("reverse") else sums


def arg_max(call: Call) -> torch.Tensor:
    """The index of the first largest element along one axis."""
    return _index_type(call, call[0].argmax(call.integers(1)[0]))


def arg_min(call: Call) -> torch.Tensor:
    """The index of the first smallest element along one axis."""
    return _index_type(call, call[0].argmin(call.integers(1)[0]))


def _index_type(call: Call, index: torch.Tensor) -> torch.Tensor:
    return index.to(getattr(torch, call.graph.tensors[call.op.outputs[0]].dtype))


def average_pool(call: Call) -> torch.Tensor:
    """The mean of what lies inside the image."""
    x, kernel, strides = _window(call)
    amounts = same_padding(call.op, (x.shape[2], x.shape[3]), kernel)
    if not any(n for pair in amounts for n in pair):
        return call.activated(F.avg_pool2d(x, kernel, strides).permute(0, 2, 3, 1))
    sums = F.avg_pool2d(padded(x, amounts), kernel, strides, divisor_override=1)
    inside = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    counts = F.avg_pool2d(padded(inside, amounts), kernel, strides, divisor_override=1)
    return call.activated((sums / counts).permute(0, 2, 3, 1))


def max_pool(call: Call) -> torch.Tensor:
    """The largest of what lies inside the image."""
    x, kernel, strides = _window(call)
    amounts = same_padding(call.op, (x.shape[2], x.shape[3]), kernel)
    y = F.max_pool2d(padded(x, amounts, -np.inf), kernel, strides)
    return call.activated(y.permute(0, 2, 3, 1))


def _window(call: Call) -> tuple[torch.Tensor, tuple[int, int], tuple[int, int]]:
    """A pool's input as NCHW, its filter and its strides."""
    kernel = (int(call.option("filterHeight")), int(call.option("filterWidth")))
    strides = (int(call.option("strideH")), int(call.option("strideW")))
    return call[0].permute(0, 3, 1, 2), kernel, strides


def softmax(call: Call) -> torch.Tensor:
    """Of beta · x, along the last axis."""
    return (call[0] * float(call.option("beta", 1.0))).softmax(-1)


def log_softmax(call: Call) -> torch.Tensor:
    """Along the last axis."""
    return call[0].log_softmax(-1)


def l2_normalization(call: Call) -> torch.Tensor:
    """x / |x| along the last axis."""
    x = call[0]
    smallest_square = 1e-12  # the kernels divide by max(|x|, 1e-6)
    return x * (x * x).sum(-1, keepdim=True).clamp(min=smallest_square).rsqrt()
