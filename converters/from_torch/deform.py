"""torchvision's deformable convolution (DCN, and DCNv2 with a mask), in ops that integers have.

Its windows read a map between pixels, at offsets that a network computes. Here one `grid_sample` reads the map for all
places of the window, which stand one below the other, and a 1x1 convolution weighs what was read.
Sources: Dai et al. 2017, Zhu et al. 2018; torchvision.ops.deform_conv2d.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

DEFORM = "torchvision.deform_conv2d"  # as torch.ops calls it; the op is there once torchvision is imported


def deformed(
    x: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    bias: torch.Tensor,
    *sizes: int | bool,
) -> torch.Tensor:
    """The same map.

    Args:
        x: (batch, channels, height, width).
        weight: (filters, channels / groups, window height, window width).
        offset: in pixels, (batch, 2 * offset groups * places of the window, rows, columns), of each place y, then x.
        mask: factors, (batch, offset groups * places, rows, columns); not read where `sizes` ends in False.
        bias: (filters,).
        sizes: stride, padding and dilation, each down and across, groups, offset groups, whether the mask is read.
    """
    *geometry, groups, offset_groups, masked = sizes
    places = int(weight.shape[2] * weight.shape[3])
    read = []
    for channels, shift, factor in zip(
        x.chunk(int(offset_groups), 1),
        offset.chunk(int(offset_groups), 1),
        mask.chunk(int(offset_groups), 1) if masked else [None] * int(offset_groups),
        strict=True,
    ):
        grid = _grid(channels, shift, weight, [int(n) for n in geometry])
        found = F.grid_sample(channels, grid, padding_mode="zeros", align_corners=False)
        read.append(found if factor is None else found * factor.reshape(grid.shape[0], 1, *grid.shape[1:3]))
    whole = torch.cat(read, 1) if len(read) > 1 else read[0]
    parts = []
    for channels, filters in zip(whole.chunk(int(groups), 1), weight.chunk(int(groups), 0), strict=True):
        aside = torch.cat(channels.chunk(places, 2), 1)  # places * channels: what the window's places read
        parts.append(F.conv2d(aside, filters.permute(0, 2, 3, 1).reshape(len(filters), -1, 1, 1)))
    return (torch.cat(parts, 1) if len(parts) > 1 else parts[0]) + bias.reshape(1, -1, 1, 1)


def _grid(x: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor, geometry: list[int]) -> torch.Tensor:
    """Where each place of the window reads, in grid_sample's -1 to 1: (batch, places * rows, columns, 2), x then y."""
    batch, _, rows, columns = (int(n) for n in offset.shape)
    height, width = (int(n) for n in x.shape[2:])
    down, across = (int(n) for n in weight.shape[2:])
    stride_y, stride_x, pad_y, pad_x, step_y, step_x = geometry
    y = (torch.arange(down) * step_y).reshape(-1, 1, 1, 1) + (torch.arange(rows) * stride_y - pad_y).reshape(-1, 1)
    x_ = (torch.arange(across) * step_x).reshape(-1, 1, 1) + torch.arange(columns) * stride_x - pad_x
    shifts = offset.reshape(batch, down * across, 2, rows, columns)
    ends = []
    for axis, (at, size) in enumerate(((y, height), (x_, width))):
        base = at.expand(down, across, rows, columns).reshape(1, down * across, rows, columns)
        # the pixel p is the end (2 p + 1) / size - 1 of grid_sample's units
        fixed = (2.0 * base + 1) / size - 1
        ends.append((shifts[:, :, axis] * (2.0 / size) + fixed).reshape(batch, down * across * rows, columns))
    return torch.stack(ends[::-1], -1)
