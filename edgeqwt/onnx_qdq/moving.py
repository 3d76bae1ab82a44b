"""Ops that move integers about: what they read is dequantized with their output's scale, so that integers stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeqwt.graph.graph import Op
from edgeqwt.onnx_qdq.elementwise import cast_to, in_first
from edgeqwt.onnx_qdq.linear import reshaped
from edgeqwt.onnx_qdq.writer import TO_FIRST, Writer, is_quantized


def reshape(w: Writer, op: Op) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: to the shape of the output."""
    x, shape = op.inputs[0], w.tensor(op.inputs[0]).shape
    flat = len(shape) == 4 and shape[1:3] == (1, 1) and (x, True) in w.values and (x, False) not in w.values
    w.give(op.outputs[0], reshaped(w, w.moved(x, op, flat), w.tensor(op.outputs[0]).shape))


def transpose(w: Writer, op: Op) -> None:
    """TRANSPOSE."""
    order = tuple(int(a) for a in w.known(op.inputs[1], "axes").reshape(-1))
    w.give(op.outputs[0], w.node("Transpose", [w.moved(op.inputs[0], op)], perm=order))


def concatenate(w: Writer, op: Op) -> None:
    """CONCATENATION."""
    rank = len(w.tensor(op.outputs[0]).shape)
    axis = int(op.options["axis"]) % rank
    first = in_first(w, op, op.inputs)
    values = [w.moved(t, op, first) for t in op.inputs]
    found = w.node("Concat", values, axis=TO_FIRST.index(axis) if first else axis)
    w.give(op.outputs[0], found, first, op.activation)


def pack(w: Writer, op: Op) -> None:
    """PACK: every input gets an axis of its own first."""
    out = w.tensor(op.outputs[0])
    axis = int(op.options.get("axis", 0)) % len(out.shape)
    shape = tuple(1 if a == axis else n for a, n in enumerate(out.shape))
    values = [w.between(reshaped(w, w.moved(t, op), shape), op.outputs[0]) for t in op.inputs]
    w.give(op.outputs[0], w.node("Concat", values, axis=axis))


def unpack(w: Writer, op: Op) -> None:
    """UNPACK: pieces of one, without their axis."""
    shape = w.tensor(op.inputs[0]).shape
    axis = int(op.options.get("axis", 0)) % len(shape)
    for k, t in enumerate(op.outputs):
        piece = _window(w, w.moved(op.inputs[0], op), [axis], [k], [k + 1], [1])
        w.give(t, reshaped(w, w.between(piece, t), w.tensor(t).shape))


def split(w: Writer, op: Op) -> None:
    """SPLIT and SPLIT_V: windows along the axis, as long as the outputs are."""
    x, at = (op.inputs[1], op.inputs[0]) if op.kind == "SPLIT" else (op.inputs[0], op.inputs[2])
    axis = int(w.known(at, "axes").reshape(-1)[0]) % len(w.tensor(x).shape)
    begin = 0
    for t in op.outputs:
        end = begin + w.tensor(t).shape[axis]
        w.give(t, _window(w, w.moved(x, op), [axis], [begin], [end], [1]))
        begin = end


def piece(w: Writer, op: Op) -> None:
    """SLICE."""
    begin, size = (w.known(t, "limits").reshape(-1).tolist() for t in op.inputs[1:3])
    shape = w.tensor(op.inputs[0]).shape
    ends = [n if s < 0 else b + s for b, s, n in zip(begin, size, shape, strict=True)]
    found = _window(w, w.moved(op.inputs[0], op), range(len(shape)), begin, ends, [1] * len(shape))
    w.give(op.outputs[0], found)


def strided(w: Writer, op: Op) -> None:
    """STRIDED_SLICE; axes that it drops go with a Reshape."""
    if op.options.get("ellipsisMask") or op.options.get("newAxisMask"):
        raise w.refuse("its ellipsis or new axes have no form")
    begin, end, steps = ([int(v) for v in w.known(t, "limits").reshape(-1)] for t in op.inputs[1:4])
    shape = w.tensor(op.inputs[0]).shape
    masks = {name: int(op.options.get(f"{name}Mask", 0)) for name in ("begin", "end", "shrinkAxis")}
    starts, ends = [], []
    for a, step in enumerate(steps):
        bit = 1 << a
        first, last = begin[a], end[a]
        if masks["shrinkAxis"] & bit:
            first %= shape[a]
            last = first + 1
        else:
            first = first if not masks["begin"] & bit else (0 if step > 0 else shape[a] - 1)
            # Beyond every size: a window that runs backwards has its end before 0.
            last = last if not masks["end"] & bit else (2**31 - 1 if step > 0 else -(2**31))
        starts.append(first)
        ends.append(last)
    steps = [1 if masks["shrinkAxis"] & (1 << a) else step for a, step in enumerate(steps)]
    found = _window(w, w.moved(op.inputs[0], op), range(len(steps)), starts, ends, steps)
    if masks["shrinkAxis"]:
        t = op.outputs[0]
        found = reshaped(w, w.between(found, t), w.tensor(t).shape)
    w.give(op.outputs[0], found)


def gather(w: Writer, op: Op) -> None:
    """GATHER."""
    if op.options.get("batchDims"):
        raise w.refuse("its batch dimensions have no form")
    values = [w.moved(op.inputs[0], op), w.stored(op.inputs[1])]
    w.give(op.outputs[0], w.node("Gather", values, axis=int(op.options.get("axis", 0))))


def gather_nd(w: Writer, op: Op) -> None:
    """GATHER_ND; ONNX wants positions of 64 bits."""
    where = cast_to(w, w.stored(op.inputs[1]), "int64")
    w.give(op.outputs[0], w.node("GatherND", [w.moved(op.inputs[0], op), where]))


def top_k(w: Writer, op: Op) -> None:
    """TOPK_V2: values and positions."""
    count = w.constant(np.array([int(w.known(op.inputs[1], "counts"))], np.int64))
    values, where = w.unique(f"{w.out_name()}/values"), w.unique(f"{w.out_name()}/positions")
    w.node("TopK", [w.moved(op.inputs[0], op), count], [values, where], axis=-1)
    w.give(op.outputs[0], values)
    w.put(op.outputs[1], cast_to(w, where, "int32"))


def pad(w: Writer, op: Op) -> None:
    """PAD and PADV2; the value is always written: some runtimes pad integers with another one."""
    amount = w.known(op.inputs[1], "pads")
    out = w.tensor(op.outputs[0])
    first = in_first(w, op, op.inputs[:1])
    order = TO_FIRST if first else range(len(amount))
    pads = w.constant(np.concatenate([amount[[*order], side] for side in (0, 1)]).astype(np.int64))
    x = w.moved(op.inputs[0], op, first)
    dtype = np.float32 if is_quantized(out) or out.is_float else np.dtype(out.dtype)
    value = w.moved(op.inputs[2], op) if len(op.inputs) > 2 else w.constant(np.zeros((), dtype))
    w.give(op.outputs[0], w.node("Pad", [x, pads, value], mode="constant"), first)


def mirror_pad(w: Writer, op: Op) -> None:
    """MIRROR_PAD, where the edge itself is not repeated."""
    mode = op.options.get("mode", "REFLECT")
    if mode not in ("REFLECT", 0, False):
        raise w.refuse("ONNX has no Pad that repeats the edge and mirrors what lies before it (SYMMETRIC)")
    amount = w.known(op.inputs[1], "pads")
    pads = w.constant(np.concatenate([amount[:, 0], amount[:, 1]]).astype(np.int64))
    w.give(op.outputs[0], w.node("Pad", [w.moved(op.inputs[0], op), pads], mode="reflect"))


def resize(w: Writer, op: Op) -> None:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR."""
    out = w.tensor(op.outputs[0]).shape
    align, half = bool(op.options.get("alignCorners")), bool(op.options.get("halfPixelCenters"))
    positions = "align_corners" if align else "half_pixel" if half else "asymmetric"
    sizes = w.constant(np.array([out[0], out[3], out[1], out[2]], np.int64))
    near = {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if align or half else "floor"}
    attributes = near if op.kind == "RESIZE_NEAREST_NEIGHBOR" else {"mode": "linear"}
    value = w.moved(op.inputs[0], op, True)
    found = w.node("Resize", [value, "", "", sizes], coordinate_transformation_mode=positions, **attributes)
    w.give(op.outputs[0], found, True)


def space_to_depth(w: Writer, op: Op) -> None:
    """SPACE_TO_DEPTH."""
    found = w.node("SpaceToDepth", [w.moved(op.inputs[0], op, True)], blocksize=int(op.options["blockSize"]))
    w.give(op.outputs[0], found, True)


def depth_to_space(w: Writer, op: Op) -> None:
    """DEPTH_TO_SPACE."""
    value, size = w.moved(op.inputs[0], op, True), int(op.options["blockSize"])
    w.give(op.outputs[0], w.node("DepthToSpace", [value], blocksize=size, mode="DCR"), True)


def space_to_batch(w: Writer, op: Op) -> None:
    """SPACE_TO_BATCH_ND of an image: pads, then blocks go to the batch."""
    block, pads = (w.known(t, "blocks") for t in op.inputs[1:3])
    n, h, width, c = w.tensor(op.inputs[0]).shape
    value = w.moved(op.inputs[0], op)
    if pads.any():
        amount = np.array([0, *pads[:, 0], 0, 0, *pads[:, 1], 0], np.int64)
        value = w.node("Pad", [value, w.constant(amount), w.constant(np.zeros((), np.float32))], mode="constant")
        value = w.between(value, op.outputs[0])
        h, width = h + int(pads[0].sum()), width + int(pads[1].sum())
    p, q = (int(b) for b in block)
    _blocks(w, op, value, (n, h // p, p, width // q, q, c), (2, 4, 0, 1, 3, 5))


def batch_to_space(w: Writer, op: Op) -> None:
    """BATCH_TO_SPACE_ND of an image without crops."""
    block, crops = (w.known(t, "blocks") for t in op.inputs[1:3])
    if crops.any():
        raise w.refuse("its crops have no form")
    n, h, width, c = w.tensor(op.inputs[0]).shape
    p, q = (int(b) for b in block)
    _blocks(w, op, w.moved(op.inputs[0], op), (p, q, n // (p * q), h, width, c), (2, 3, 0, 4, 1, 5))


def _blocks(w: Writer, op: Op, value: str, shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    y = op.outputs[0]
    turned = w.node("Transpose", [w.between(reshaped(w, value, shape), y)], perm=order)
    w.give(y, reshaped(w, w.between(turned, y), w.tensor(y).shape))


def tile(w: Writer, op: Op) -> None:
    """TILE."""
    repeats = w.constant(w.known(op.inputs[1], "counts").reshape(-1).astype(np.int64))
    w.give(op.outputs[0], w.node("Tile", [w.moved(op.inputs[0], op), repeats]))


def broadcast(w: Writer, op: Op) -> None:
    """BROADCAST_TO and FILL: to the shape of the output."""
    source = op.inputs[1] if op.kind == "FILL" else op.inputs[0]
    shape = w.constant(np.array(w.tensor(op.outputs[0]).shape, np.int64))
    w.give(op.outputs[0], w.node("Expand", [w.moved(source, op), shape]))


def select(w: Writer, op: Op) -> None:
    """SELECT_V2."""
    values = [w.stored(op.inputs[0]), *(w.moved(t, op) for t in op.inputs[1:3])]
    w.give(op.outputs[0], w.node("Where", values))


def _window(
    w: Writer, value: str, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]
) -> str:
    vectors = [w.constant(np.array([*v], np.int64)) for v in (starts, ends, axes, steps)]
    return w.node("Slice", [value, *vectors])
