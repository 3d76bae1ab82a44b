"""What padding SAME means, as TFLite's kernels compute it."""

from __future__ import annotations

from collections.abc import Sequence

from edgeqwt.graph.graph import Op

Sides = tuple[tuple[int, int], tuple[int, int]]
"""Lines before and behind an image, along its height and its width."""


def margins(op: Op, image: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
    """How many lines a kernel's positions reach beyond an image with padding SAME, along height and width.

    SAME asks for ceil(size / stride) positions. Where kernels are smaller than strides they may end before the image
    does: the number is negative then, of lines that no position reads.

    Args:
        op: a convolution or a pool.
        image: height and width.
        kernel: height and width.
    """
    found = []
    for size, k, side in zip(image, kernel, "HW", strict=True):
        stride, dilation = int(op.options.get(f"stride{side}", 1)), int(op.options.get(f"dilation{side}Factor", 1))
        found.append((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
    return found[0], found[1]


def same_padding(op: Op, image: Sequence[int], kernel: Sequence[int]) -> Sides:
    """The lines that an op itself adds, none where its padding is VALID; the odd one stands behind.

    Args:
        op: a convolution or a pool.
        image: height and width.
        kernel: height and width.
    """
    rows, columns = margins(op, image, kernel) if op.options.get("padding") == "SAME" else (0, 0)
    rows, columns = max(rows, 0), max(columns, 0)
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
