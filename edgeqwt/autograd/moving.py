"""Ops that move, pick, repeat or pad values."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from edgeqwt.autograd.call import Call
from edgeqwt.graph.graph import Array


def reshape(call: Call) -> torch.Tensor:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the output's shape is in the file."""
    return call[0].reshape(call.shape())


def transpose(call: Call) -> torch.Tensor:
    """Axes in the order of a constant."""
    return call[0].permute(call.integers(1))


def concatenation(call: Call) -> torch.Tensor:
    """Along one axis."""
    return call.activated(torch.cat([call[i] for i in range(len(call.inputs))], int(call.option("axis"))))


def pack(call: Call) -> torch.Tensor:
    """Along a new axis."""
    return torch.stack([call[i] for i in range(len(call.inputs))], int(call.option("axis", 0)))


def unpack(call: Call) -> tuple[torch.Tensor, ...]:
    """PACK's inverse."""
    return call[0].unbind(int(call.option("axis", 0)))


def split(call: Call) -> tuple[torch.Tensor, ...]:
    """SPLIT(axis, x): equal parts."""
    axis = call.integers(0)[0]
    return call[1].tensor_split(len(call.op.outputs), axis)


def split_v(call: Call) -> tuple[torch.Tensor, ...]:
    """SPLIT_V(x, sizes, axis)."""
    axis = call.integers(2)[0]
    return torch.split(call[0], [call.shape(i)[axis] for i in range(len(call.op.outputs))], axis)


def slice_(call: Call) -> torch.Tensor:
    """SLICE(x, begin, size); a size of -1 takes what is left."""
    x = call[0]
    for axis, (begin, size) in enumerate(zip(call.integers(1), call.integers(2), strict=True)):
        x = x.narrow(axis, begin, size if size >= 0 else x.shape[axis] - begin)
    return x


def strided_slice(call: Call) -> torch.Tensor:
    """STRIDED_SLICE(x, begin, end, strides) as numpy's basic indexing, by the masks of the options."""
    begins, ends, strides = (call.integers(slot) for slot in (1, 2, 3))
    begin_mask, end_mask, shrink = (int(call.option(f"{n}Mask", 0)) for n in ("begin", "end", "shrinkAxis"))
    x = call[0]
    for axis, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        bit, size = 1 << axis, x.shape[axis]
        if shrink & bit:
            picked = np.array([begin % size])
        else:
            end = begin + end if call.option("offset") else end
            window = slice(None if begin_mask & bit else begin, None if end_mask & bit else end, stride)
            picked = np.arange(size)[window]
        if len(picked) != size or stride < 0:
            x = taken(x, axis, picked)
    return x.reshape(call.shape())


def taken(x: torch.Tensor, axis: int, indices: Array) -> torch.Tensor:
    """The elements at constant indices along one axis."""
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        return x.narrow(axis, int(indices[0]), len(indices))
    return x.index_select(axis, torch.tensor(indices.tolist(), dtype=torch.int64, device=x.device))


def gather(call: Call) -> torch.Tensor:
    """GATHER(x, indices) along one axis."""
    x, indices = call[0], call[1]
    axis = int(call.option("axis", 0)) % x.ndim
    picked = x.index_select(axis, indices.reshape(-1).long())
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def embedding_lookup(call: Call) -> torch.Tensor:
    """EMBEDDING_LOOKUP(indices, table)."""
    return call[1].index_select(0, call[0].reshape(-1).long()).reshape(call.shape())


def gather_nd(call: Call) -> torch.Tensor:
    """GATHER_ND(x, positions), positions a constant."""
    positions = torch.tensor(call.static(1).astype(np.int64).tolist(), device=call[0].device)
    return call[0][tuple(positions.unbind(-1))]


def top_k(call: Call) -> tuple[torch.Tensor, ...]:
    """TOPK_V2: the largest values along the last axis, and where they were."""
    # Not topk: of equal values the first one counts here.
    values, positions = call[0].sort(stable=True, dim=-1, descending=True)
    count = call.integers(1)[0]
    dtype = getattr(torch, call.graph.tensors[call.op.outputs[1]].dtype)
    return values[..., :count], positions[..., :count].to(dtype)


def reverse(call: Call) -> torch.Tensor:
    """REVERSE_V2: back to front along some axes."""
    return call[0].flip(call.integers(1))


def update(call: Call) -> torch.Tensor:
    """DYNAMIC_UPDATE_SLICE(x, update, begin), begin a constant that is moved to where the update fits."""
    x, new = call[0], call[1]
    begins = [min(max(b, 0), n - m) for b, n, m in zip(call.integers(2), x.shape, new.shape, strict=True)]
    after = [n - b - m for b, n, m in zip(begins, x.shape, new.shape, strict=True)]
    amounts = [n for pair in zip(begins[::-1], after[::-1], strict=True) for n in pair]
    inside = F.pad(new.new_ones(new.shape), amounts)
    return x * (1 - inside) + F.pad(new, amounts)


def one_hot(call: Call) -> torch.Tensor:
    """ONE_HOT(indices, depth, on, off) of constants."""
    numbers = torch.arange(call.integers(1)[0], device=call[0].device)
    axis = int(call.option("axis", -1)) % (call[0].ndim + 1)
    equal = (call[0].unsqueeze(-1) == numbers).movedim(-1, axis)
    return torch.where(equal, call[2].reshape(()), call[3].reshape(()))


def pad(call: Call) -> torch.Tensor:
    """PAD and PADV2: with zero, or the third input's constant."""
    amounts = call.static(1).astype(int)
    value = float(call.static(2)) if call.op.kind == "PADV2" else 0.0
    return F.pad(call[0], [int(n) for pair in amounts[::-1] for n in pair], value=value)


def mirror_pad(call: Call) -> torch.Tensor:
    """REFLECT leaves the border out, SYMMETRIC repeats it."""
    mode = call.option("mode")
    symmetric = mode in (1, True, "SYMMETRIC")
    x = call[0]
    for axis, (before, after) in enumerate(call.static(1).astype(int)):
        if before or after:
            indices = np.pad(np.arange(x.shape[axis]), (before, after), mode="symmetric" if symmetric else "reflect")
            x = taken(x, axis, indices)
    return x


def tile(call: Call) -> torch.Tensor:
    """Whole repetitions along each axis."""
    return call[0].repeat(call.integers(1))


def broadcast_to(call: Call) -> torch.Tensor:
    """Repeated to the output's shape; FILL(shape, value) is the same with a scalar."""
    return call[1 if call.op.kind == "FILL" else 0].expand(call.shape())


def space_to_depth(call: Call) -> torch.Tensor:
    """Blocks of pixels become channels."""
    b = int(call.option("blockSize"))
    n, h, w, c = call[0].shape
    return call[0].reshape(n, h // b, b, w // b, b, c).permute(0, 1, 3, 2, 4, 5).reshape(call.shape())


def depth_to_space(call: Call) -> torch.Tensor:
    """SPACE_TO_DEPTH's inverse."""
    b = int(call.option("blockSize"))
    n, h, w, c = call[0].shape
    return call[0].reshape(n, h, w, b, b, c // b // b).permute(0, 1, 3, 2, 4, 5).reshape(call.shape())


def resize(call: Call) -> torch.Tensor:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR: along each axis a product with a matrix of weights."""
    x = call[0]
    for axis in (1, 2):
        weights = resize_matrix(call, x.shape[axis], call.shape()[axis])
        matrix = torch.tensor(weights.tolist(), dtype=x.dtype, device=x.device)
        x = torch.tensordot(x, matrix, dims=([axis], [1])).movedim(-1, axis)
    return x


def resize_matrix(call: Call, size: int, wanted: int) -> Array:
    """Weight of each old position in each new one, float64, shape (wanted, size); as TFLite's kernels place them."""
    align, half = bool(call.option("alignCorners")), bool(call.option("halfPixelCenters"))
    ratio = np.float32((size - 1) / (wanted - 1) if align and wanted > 1 else size / wanted)
    target = np.arange(wanted, dtype=np.float32)
    matrix, rows = np.zeros((wanted, size)), np.arange(wanted)
    if call.op.kind == "RESIZE_NEAREST_NEIGHBOR":
        position = (target + np.float32(0.5 if half else 0)) * ratio
        nearest = np.floor(position + np.float32(0.5)) if align else np.floor(position)
        matrix[rows, np.clip(nearest, 0, size - 1).astype(int)] = 1
        return matrix
    position = (target + np.float32(0.5)) * ratio - np.float32(0.5) if half else target * ratio
    low = np.clip(np.floor(position), 0, size - 1).astype(int)
    high = np.clip(np.ceil(position), 0, size - 1).astype(int)
    np.add.at(matrix, (rows, low), 1 - (position - low))
    np.add.at(matrix, (rows, high), position - low)
    return matrix


def space_to_batch(call: Call) -> torch.Tensor:
    """SPACE_TO_BATCH_ND(x, block, paddings): positions within a block become samples."""
    block, amounts = call.integers(1), call.static(2).astype(int)
    x, axes = call[0], len(block)
    pads = [*amounts.tolist(), *[[0, 0]] * (x.ndim - 1 - axes)]
    x = F.pad(x, [int(n) for pair in pads[::-1] for n in pair])
    inner = [n for axis, b in enumerate(block) for n in (x.shape[axis + 1] // b, b)]
    x = x.reshape(x.shape[0], *inner, *x.shape[axes + 1 :])
    blocks, positions = [2 * a + 2 for a in range(axes)], [2 * a + 1 for a in range(axes)]
    return x.permute(*blocks, 0, *positions, *range(2 * axes + 1, x.ndim)).reshape(call.shape())


def batch_to_space(call: Call) -> torch.Tensor:
    """BATCH_TO_SPACE_ND(x, block, crops): SPACE_TO_BATCH_ND's inverse."""
    block, crops = call.integers(1), call.static(2).astype(int)
    x, axes = call[0], len(block)
    batch = x.shape[0] // int(np.prod(block))
    x = x.reshape(*block, batch, *x.shape[1:])
    order = [n for a in range(axes) for n in (axes + 1 + a, a)]
    x = x.permute(axes, *order, *range(2 * axes + 1, x.ndim))
    sizes = [x.shape[1 + 2 * a] * block[a] for a in range(axes)]
    x = x.reshape(batch, *sizes, *x.shape[2 * axes + 1 :])
    for a, (before, after) in enumerate(crops):
        x = x.narrow(a + 1, int(before), sizes[a] - int(before) - int(after))
    return x
