"""edgeqwt itself: real .tflite files, from PyTorch, conversion and verification included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from work import Inputs, main

import edgeqwt
from edgeqwt.graph import flatbuffer

RECIPES = ("fast", "balanced", "best")
PRECISIONS = ("w8a8", "w4a8", "w8a16")


def build(inputs: Inputs, *, recipe: str, precision: str) -> bytes:
    """One build; the file that its own held-out samples chose."""
    made = edgeqwt.build(
        inputs.torch_model(), calibration={"x": inputs.calibration[0]}, recipe=recipe, precision=precision
    )
    return flatbuffer.to_bytes(made.graph)


def methods() -> Iterator[tuple[str, Callable[[Inputs], bytes]]]:
    """By name, as in plan.py."""
    for recipe in RECIPES:
        for precision in PRECISIONS:
            yield f"{recipe} {precision}", partial(build, recipe=recipe, precision=precision)


if __name__ == "__main__":
    main(dict(methods()))
