"""Constraints on shapes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.target.model import Model
from edgeqwt.target.rule import ERROR, WARNING, Hit, constraint


@constraint(ERROR)
def fixed_shapes(model: Model, _: bool) -> Iterator[Hit]:
    """Shapes must be known beforehand; only the first dimension may be open, and counts as 1.

    Remedy: Export the model with fixed shapes.
    """
    producers = model.graph.producers()
    for t, tensor in enumerate(model.graph.tensors):
        open_axes = [k for k, size in enumerate(tensor.shape_signature or tensor.shape) if size < 0 and k > 0]
        if open_axes:
            yield Hit(producers.get(t, -1), f"{tensor.name!r} has an open dimension {open_axes[0]}", t)


@constraint(ERROR, int)
def rank(model: Model, limit: int) -> Iterator[Hit]:
    """Tensors have at most {limit} dimensions.

    Remedy: Merge neighbouring dimensions in the source model, or move the batch out of it.
    """
    for i, op in enumerate(model.graph.ops):
        for t in op.outputs:
            if len(model.tensor(t).shape) > limit:
                yield Hit(i, f"{model.tensor(t).name!r} has {len(model.tensor(t).shape)}", t)


@constraint(ERROR, int)
def large_axes(model: Model, limit: int) -> Iterator[Hit]:
    """Only the last {limit} dimensions of a tensor may be larger than 1.

    Remedy: Use a batch of 1, and merge dimensions in the source model.
    """
    for i, op in enumerate(model.graph.ops):
        for t in op.outputs:
            if any(size > 1 for size in model.tensor(t).shape[:-limit]):
                yield Hit(i, f"{model.tensor(t).name!r} has shape {model.tensor(t).shape}", t)


@constraint(ERROR, int)
def joined_inputs(model: Model, limit: int) -> Iterator[Hit]:
    """CONCATENATION joins at most {limit} tensors.

    Remedy: Join them group by group, and then the groups. Builds do it.
    """
    for i, op in enumerate(model.graph.ops):
        if op.kind == "CONCATENATION" and len(op.inputs) > limit and not model.is_float:
            yield Hit(i, f"it joins {len(op.inputs)}", fix="joined-in-tree")


@constraint(WARNING)
def slice_sizes(model: Model, _: bool) -> Iterator[Hit]:
    """XNNPACK takes SLICE only where its sizes are written out, without -1.

    Remedy: Write the output's sizes in place of -1.
    """
    for i, op in enumerate(model.graph.ops):
        begin, sizes = (model.tensor(t).data for t in op.inputs[1:3]) if op.kind == "SLICE" else (None, None)
        if begin is not None and sizes is not None and (sizes < 0).any():
            yield Hit(i, f"the sizes are {sizes.reshape(-1).tolist()}", fix="slice-sizes")


@constraint(WARNING, int)
def log_softmax_row(model: Model, limit: int) -> Iterator[Hit]:
    """LOG_SOFTMAX over more than {limit} classes is wrong where so many are nearly alike: the kernels' sums end there.

    Remedy: Leave it out: the largest class is the same without it, and an application can compute it from the rest.
    """
    for i, op in enumerate(model.graph.ops):
        shape = model.tensor(op.inputs[0]).shape if op.kind == "LOG_SOFTMAX" else ()
        if shape and shape[-1] > limit:
            yield Hit(i, f"it has {shape[-1]}")


@constraint(WARNING, int)
def resized_lines(model: Model, limit: int) -> Iterator[Hit]:
    """RESIZE_BILINEAR to more than {limit} lines is off by over 1/16 of a pixel at the end: positions have 10 bits.

    Remedy: Resize by 2, 4 or 8, which is exact, or to a smaller size.
    """
    for i, op in enumerate(model.graph.ops):
        if op.kind == "RESIZE_BILINEAR":
            x, y = model.tensor(op.inputs[0]).shape[1:3], model.tensor(op.outputs[0]).shape[1:3]
            last = bool(op.options.get("alignCorners"))
            steps = [(a - last, b - last) for a, b in zip(x, y, strict=True)]
            if any(b > limit and 1024 * a % b for a, b in steps):
                yield Hit(i, f"from {x[0]}x{x[1]} to {y[0]}x{y[1]}")


@constraint(WARNING)
def npu_scalars(model: Model, _: bool) -> Iterator[Hit]:
    """The NPU does not run ops on tensors without dimensions.

    Remedy: Keep one dimension of size 1 in the source model (keepdims=True).
    """
    for use, op in model.used():
        inputs = [model.tensor(t) for t in op.inputs[:1] if t >= 0 and not model.tensor(t).is_constant]
        if any(t.shape == () for t in (*inputs, *(model.tensor(t) for t in op.outputs))) and use.kind != "RESHAPE":
            yield Hit(use.op, f"{model.tensor(op.outputs[0]).name!r} is computed from, or is, a scalar")


@constraint(WARNING)
def npu_mean(model: Model, _: bool) -> Iterator[Hit]:
    """The NPU's MEAN needs batch 1, and takes the last axis only where height, width or depth is 1.

    Remedy: Reshape to (1, 1, rows, columns) before the MEAN and back after it.
    """
    for use, op in model.used("MEAN"):
        if len(op.inputs) < 2 or model.tensor(op.inputs[1]).data is None:
            continue
        shape, axes = _padded(model, op)
        if shape[0] > 1 or (3 in axes and min(shape[1:]) > 1) or len(model.tensor(op.inputs[0]).shape) > 4:
            fix = "mean-reshaped" if reduced_block(model.graph, op) is not None else ""
            yield Hit(
                use.op,
                f"MEAN over axes {sorted(_axes(model.graph, op))} of {model.tensor(op.inputs[0]).shape}",
                fix=fix,
            )


@constraint(WARNING)
def npu_forward(model: Model, _: bool) -> Iterator[Hit]:
    """The NPU takes slices in forward direction alone: a reversal falls to the CPU.

    Remedy: Reverse in the application, or store weights that meet the reversed axis in the other order.
    """
    for use, op in model.used("STRIDED_SLICE"):
        strides = model.tensor(op.inputs[3]).data if len(op.inputs) > 3 else None
        if strides is not None and (strides < 0).any():
            yield Hit(use.op, f"STRIDED_SLICE by {strides.tolist()}")


@constraint(WARNING, list)
def npu_resize(model: Model, limit: list[str]) -> Iterator[Hit]:
    """The NPU resizes by 2, 4 or 8 alike in both directions; bilinear with half-pixel centres by 2 only.

    Remedy: Resize by such a factor in the source model, aligned corners off.
    """
    for use, op in model.used(*limit) if limit else ():
        x, y = model.tensor(op.inputs[0]).shape[1:3], model.tensor(op.outputs[0]).shape[1:3]
        if not _resized(x, y, op, use.kind):
            yield Hit(use.op, f"{use.kind} from {x} to {y}")


@constraint(WARNING, int)
def npu_arg_max(model: Model, limit: int) -> Iterator[Hit]:
    """The NPU's ARG_MAX looks along the last axis, at most {limit} long.

    Remedy: Leave it to the CPU, which needs little time for it at the end of a model.
    """
    for use, op in model.used("ARG_MAX"):
        shape, axis = model.tensor(op.inputs[0]).shape, model.tensor(op.inputs[1]).data
        if axis is None or int(axis.reshape(-1)[0]) % len(shape) != len(shape) - 1 or shape[-1] > limit:
            yield Hit(use.op, f"ARG_MAX of {shape}")


@constraint(WARNING)
def npu_gather(model: Model, _: bool) -> Iterator[Hit]:
    """The NPU gathers along the first axis only.

    Remedy: Put the axis that is picked from first in the source model, or slice with constants.
    """
    for use, op in model.used("GATHER"):
        if op.kind == "GATHER":
            axis, batch = int(op.options.get("axis", 0)), int(op.options.get("batchDims", 0))
            if axis % max(len(model.tensor(op.inputs[0]).shape), 1) or batch:
                yield Hit(use.op, f"GATHER along axis {axis}")


def _axes(graph: Graph, op: Op) -> set[int]:
    axes, size = graph.tensors[op.inputs[1]].stored, len(graph.tensors[op.inputs[0]].shape)
    return {int(a) % size for a in axes.reshape(-1)} if size else set()


def _padded(model: Model, op: Op) -> tuple[tuple[int, ...], set[int]]:
    """A reduction's input as the NPU sees it, with four axes, and which of them are reduced."""
    shape = model.tensor(op.inputs[0]).shape
    ahead = 4 - len(shape)
    return (1,) * ahead + shape if ahead >= 0 else shape, {a + ahead for a in _axes(model.graph, op)}


def reduced_block(graph: Graph, op: Op) -> tuple[int, int, int] | None:
    """A MEAN's input as (outer, reduced, inner) elements, if its axes are neighbours; else None."""
    shape, axes = graph.tensors[op.inputs[0]].shape, sorted(_axes(graph, op))
    if not axes or axes != list(range(axes[0], axes[-1] + 1)):
        return None
    sizes = [shape[: axes[0]], shape[axes[0] : axes[-1] + 1], shape[axes[-1] + 1 :]]
    outer, reduced, inner = (int(np.prod(part, dtype=np.int64)) for part in sizes)
    return outer, reduced, inner


def _resized(x: tuple[int, ...], y: tuple[int, ...], op: Op, kind: str) -> bool:
    """Whether the NPU can resize a map of size x to size y."""
    if x == y or x == (1, 1):
        return True
    align, half = bool(op.options.get("alignCorners")), bool(op.options.get("halfPixelCenters"))
    ratios = {(b - align) / (a - align) if a > align else 0.0 for a, b in zip(x, y, strict=True)}
    allowed = (2.0,) if half and kind == "RESIZE_BILINEAR" else (2.0, 4.0, 8.0)
    return len(ratios) == 1 and ratios.pop() in allowed
