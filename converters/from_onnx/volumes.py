"""Convolutions and pools over volumes, written with those over images: no runtime has them on integers.

A volume (1, C, D, H, W) is held as D images (D, C, H, W). Depth is then one more sum over channels: the images that a
kernel meets along depth lie side by side as channels, and one convolution sums over all of them in one accumulator,
so that nothing is rounded in between. What works element by element, or along channels, works on the images as well;
everything else gets the volume back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from edgeqwt.converters.from_onnx.nodes import Editing, Shape, attributes
from edgeqwt.graph.graph import Array

UNARY = frozenset(
    """
    Relu LeakyRelu Sigmoid Tanh Clip Elu Selu Celu HardSwish HardSigmoid Softplus Erf Exp Log Sqrt Abs Neg Identity
    """.split()  # noqa: SIM905 (shorter than a list)
)
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"})
RANK = 5


class Volumes:
    """The images that stand for volumes so far.

    Args:
        editing: of the model.
    """

    def __init__(self, editing: Editing) -> None:
        self.editing, self.values = editing, editing.values
        self.images: dict[str, str] = {}
        self.whole: set[str] = set()

    def rewrite(self, node: onnx.NodeProto) -> bool:
        """Writes a node with images, if it is one of those; else gives it the volumes that it reads."""
        rule = RULES.get(node.op_type)
        shape = self.values.shapes.get(node.output[0], ()) if node.output else ()
        read = [self.values.shapes.get(name, ()) for name in node.input[:1]]
        if rule is not None and len(node.output) == 1 and any(len(s) == RANK and s[0] == 1 for s in (*read, shape)):
            self.editing.at(node)
            made = rule(self, node)
            if made is not None:
                self.images[node.output[0]] = made
                return True
        for name in node.input:
            self.volume(name)
        return False

    def images_of(self, name: str) -> str:
        """The images of a volume (1, C, D, H, W), shape (D, C, H, W)."""
        if name not in self.images:
            _, c, d, h, w = self.values.shapes[name]
            images = self.editing.reshaped(name, (c, d, h, w))
            self.images[name] = self.editing.add("Transpose", [images], (d, c, h, w), perm=(1, 0, 2, 3))
            self.whole.add(name)
        return self.images[name]

    def volume(self, name: str) -> None:
        """Writes the volume itself, where only its images are there."""
        if name not in self.images or name in self.whole:
            return
        shape = self.values.shapes[name]
        d, c, h, w = self.values.shapes[self.images[name]]
        turned = self.editing.add("Transpose", [self.images[name]], (c, d, h, w), perm=(1, 0, 2, 3))
        self.editing.reshaped(turned, shape, name)
        self.whole.add(name)


# -- rules: the images of the output, or None where the node is none of these ------------


def _unary(volumes: Volumes, node: onnx.NodeProto) -> str | None:
    if node.input[0] not in volumes.images:
        return None
    x = volumes.images_of(node.input[0])
    return volumes.editing.add(node.op_type, [x, *node.input[1:]], volumes.values.shapes[x], **attributes(node))


def _binary(volumes: Volumes, node: onnx.NodeProto) -> str | None:
    shape = volumes.values.shapes.get(node.output[0], ())
    if len(node.input) != 2 or not any(name in volumes.images for name in node.input):
        return None
    inputs = []
    for name in node.input:
        data, own = volumes.values.constant(name), volumes.values.shapes.get(name)
        if data is not None and (data.size == 1 or (data.ndim >= 4 and data.size == data.shape[-4])):
            # One value, or one for each channel.
            inputs.append(volumes.editing.array(data.reshape(-1, 1, 1) if data.size > 1 else data.reshape(())))
        elif own == shape:
            inputs.append(volumes.images_of(name))
        else:
            return None
    found = next(volumes.values.shapes[i] for i in inputs if len(volumes.values.shapes[i]) == 4)
    return volumes.editing.add(node.op_type, inputs, found)


def _batch_norm(volumes: Volumes, node: onnx.NodeProto) -> str | None:
    x = volumes.images_of(node.input[0])
    given = {"epsilon": attributes(node).get("epsilon")}
    return volumes.editing.add("BatchNormalization", [x, *node.input[1:]], volumes.values.shapes[x], **given)


def _concat(volumes: Volumes, node: onnx.NodeProto) -> str | None:
    axis = attributes(node)["axis"] % RANK
    if axis == 0 or not any(name in volumes.images for name in node.input):
        return None
    parts = [volumes.images_of(name) for name in node.input]
    return volumes.editing.joined(parts, {1: 1, 2: 0, 3: 2, 4: 3}[axis])


def _convolution(volumes: Volumes, node: onnx.NodeProto) -> str | None:
    weights = volumes.values.constant(node.input[1])
    given = attributes(node)
    if weights is None or weights.ndim != RANK or given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    groups, (outputs, inputs, depth, *kernel) = int(given.get("group", 1)), weights.shape
    window = _Window.of(given, (depth, *kernel))
    x = volumes.images_of(node.input[0])
    taps = window.taps(volumes.editing, x)
    joined = _side_by_side(volumes.editing, taps)
    if groups > 1 and depth > 1:  # a group's channels of all images lie side by side
        channels = np.arange(depth * groups * inputs).reshape(depth, groups, inputs).transpose(1, 0, 2)
        order = volumes.editing.array(channels.reshape(-1).astype(np.int64))
        joined = volumes.editing.add("Gather", [joined, order], volumes.values.shapes[joined], axis=1)
    flat = weights.transpose(0, 2, 1, 3, 4).reshape(outputs, depth * inputs, *kernel)
    shape = volumes.values.shapes[node.output[0]]
    return volumes.editing.add(
        "Conv",
        [joined, volumes.editing.array(flat), *node.input[2:]],
        (shape[2], shape[1], *shape[3:]),
        group=groups,
        kernel_shape=kernel,
        **window.flat(),
    )


def _side_by_side(editing: Editing, parts: list[str]) -> str:
    """Images with the channels of several images each.

    Where all lengths are equal, onnx2tf takes the last axis for the channels: over three axes it looks for no layouts.
    """
    count, channels, *size = editing.values.shapes[parts[0]]
    if {channels} != {*size}:
        return editing.joined(parts, 1)
    joined = editing.joined([editing.reshaped(part, (count, channels, math.prod(size))) for part in parts], 1)
    return editing.reshaped(joined, (count, channels * len(parts), *size))


def _transposed(volumes: Volumes, node: onnx.NodeProto) -> str | None:
    """A transposed convolution: for each phase of the output's depth, one over the images that it is made of."""
    weights, given = volumes.values.constant(node.input[1]), attributes(node)
    plain = given.get("auto_pad", "NOTSET") == "NOTSET" and "output_shape" not in given and given.get("group", 1) == 1
    if weights is None or weights.ndim != RANK or not plain:
        return None
    _, outputs, depth, *kernel = weights.shape
    window = _Window.of(given, (depth, *kernel))
    x, shape = volumes.images_of(node.input[0]), volumes.values.shapes[node.output[0]]
    stride, (before, _) = window.strides[0], window.pads[0]
    if window.dilations[0] != 1:
        return None
    reach = -(-depth // stride)  # images that an output image is made of, at most
    count = volumes.values.shapes[x][0] + reach - 1
    padded = _padded(volumes.editing, x, reach - 1, reach - 1)
    around = [volumes.editing.sliced(padded, 0, reach - 1 - m, reach - 1 - m + count) for m in range(reach)]
    flat = {**window.flat(), "output_padding": given.get("output_padding", (0, 0, 0))[1:]}
    joined, phases = _side_by_side(volumes.editing, around), []
    for r in range(stride):
        taps: list[Array] = [
            weights[:, :, r + m * stride] if r + m * stride < depth else np.zeros_like(weights[:, :, 0])
            for m in range(reach)
        ]
        inner = [joined, volumes.editing.array(np.concatenate(taps)), *node.input[2:]]
        size: Shape = (count, outputs, *shape[3:])
        phases.append(volumes.editing.add("ConvTranspose", inner, size, kernel_shape=kernel, **flat))
    woven = _side_by_side(volumes.editing, phases)
    woven = volumes.editing.reshaped(woven, (count * stride, outputs, *shape[3:]))
    return volumes.editing.sliced(woven, 0, before, before + shape[2])


def _pool(volumes: Volumes, node: onnx.NodeProto) -> str | None:
    """Over images, then over depth."""
    given = attributes(node)
    plain = given.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") and not given.get("ceil_mode")
    window = _Window.of(given, tuple(given["kernel_shape"]))
    largest = node.op_type == "MaxPool"
    if not plain or len(window.kernel) != 3 or any(d != 1 for d in window.dilations):
        return None
    if not largest and any(window.pads[0]):
        return None
    x, shape = volumes.images_of(node.input[0]), volumes.values.shapes[node.output[0]]
    counted = {} if largest else {"count_include_pad": given.get("count_include_pad")}
    size = (volumes.values.shapes[x][0], shape[1], *shape[3:])
    if window.kernel[1:] != (1, 1) or window.strides[1:] != (1, 1):
        flat = {key: value for key, value in window.flat().items() if key != "dilations"}
        x = volumes.editing.add(node.op_type, [x], size, kernel_shape=window.kernel[1:], **flat, **counted)
    if window.kernel[0] == 1:
        return volumes.editing.sliced(x, 0, 0, size[0], window.strides[0])
    # A window always holds the image at whose repetition it would read padding, so that repeating it is exact.
    taps = window.taps(volumes.editing, x, repeat=True)
    made = taps[0]
    for other in taps[1:]:
        made = volumes.editing.add("Max" if largest else "Add", [made, other], volumes.values.shapes[made])
    if largest:
        return made
    part = volumes.editing.array(np.array(1 / len(taps), np.float32))
    return volumes.editing.add("Mul", [made, part], volumes.values.shapes[made])


def _mean(volumes: Volumes, node: onnx.NodeProto) -> str | None:
    """Over the whole of each volume: what comes out is small, and goes on as it is."""
    given = attributes(node)
    axes = given.get("axes")
    if node.op_type == "ReduceMean" and axes is None and len(node.input) > 1:
        found = volumes.values.constant(node.input[1])
        axes = None if found is None else found.reshape(-1).tolist()
    whole = node.op_type == "GlobalAveragePool" or (axes is not None and sorted(a % RANK for a in axes) == [2, 3, 4])
    if not whole or node.input[0] not in volumes.images:
        return None
    x = volumes.images_of(node.input[0])
    size: Shape = (1, volumes.values.shapes[x][1], 1, 1)
    over = [0, 2, 3]
    if volumes.values.opset >= 18:
        mean = volumes.editing.add("ReduceMean", [x, volumes.editing.integers(*over)], size, keepdims=1)
    else:
        mean = volumes.editing.add("ReduceMean", [x], size, axes=over, keepdims=1)
    volumes.editing.reshaped(mean, volumes.values.shapes[node.output[0]], node.output[0])
    volumes.whole.add(node.output[0])
    return mean


RULES: Mapping[str, Callable[[Volumes, onnx.NodeProto], str | None]] = MappingProxyType(
    {
        **dict.fromkeys(UNARY, _unary),
        **dict.fromkeys(BINARY, _binary),
        "BatchNormalization": _batch_norm,
        "Concat": _concat,
        "Conv": _convolution,
        "ConvTranspose": _transposed,
        "MaxPool": _pool,
        "AveragePool": _pool,
        "GlobalAveragePool": _mean,
        "ReduceMean": _mean,
    }
)


# -- windows ---------------------------------------------------------------------------


class _Window:
    """A kernel's reach: sizes, strides, dilations, and (before, after) of the padding, for depth, height, width."""

    def __init__(self, kernel: Shape, strides: Shape, dilations: Shape, pads: tuple[tuple[int, int], ...]) -> None:
        self.kernel, self.strides, self.dilations, self.pads = kernel, strides, dilations, pads

    @staticmethod
    def of(given: Mapping[str, Any], kernel: Shape) -> _Window:
        """As a node's attributes say."""
        ones, none = (1,) * len(kernel), (0,) * 2 * len(kernel)
        strides, dilations, pads = (
            tuple(map(int, given.get(name, default)))
            for name, default in (("strides", ones), ("dilations", ones), ("pads", none))
        )
        pairs = tuple(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
        return _Window(kernel, strides, dilations, pairs)

    def flat(self) -> dict[str, Any]:
        """The attributes of the window over height and width."""
        (top, bottom), (left, right) = self.pads[1:]
        return {
            "strides": list(self.strides[1:]),
            "dilations": list(self.dilations[1:]),
            "pads": [top, left, bottom, right],
        }

    def taps(self, editing: Editing, x: str, *, repeat: bool = False) -> list[str]:
        """For each position of the kernel along depth, the images that it meets; beyond the ends zeros."""
        before, after = self.pads[0]
        padded = _padded(editing, x, before, after, repeat=repeat)
        size, step = editing.values.shapes[padded][0], self.strides[0]
        reach = (self.kernel[0] - 1) * self.dilations[0]
        count = (size - reach - 1) // step + 1
        starts = [k * self.dilations[0] for k in range(self.kernel[0])]
        return [editing.sliced(padded, 0, s, s + (count - 1) * step + 1, step) for s in starts]


def _padded(editing: Editing, x: str, before: int, after: int, *, repeat: bool = False) -> str:
    """Images with others in front and behind: zeros, or the first and the last one again."""
    shape = editing.values.shapes[x]
    if repeat:
        first, last = editing.sliced(x, 0, 0, 1), editing.sliced(x, 0, shape[0] - 1, shape[0])
        return editing.joined([first] * before + [x] + [last] * after, 0)
    zeros = [editing.array(np.zeros((n, *shape[1:]), np.float32)) if n else "" for n in (before, after)]
    return editing.joined([part for part in (zeros[0], x, zeros[1]) if part], 0)
