"""Options for the inputs and outputs of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from edgeqwt.commands import panels

if TYPE_CHECKING:
    from edgeqwt.interface.options import Interface

Inputs = Annotated[
    list[str] | None,
    panels.interface(
        "--input",
        help="Type of the inputs, or of one: uint8, int8, int16, float; image=uint8. With uint8, samples that are "
        "pixels make the file take pixels. length=constant: an input of an .onnx file that is the same in every sample "
        "becomes a part of the model.",
        metavar="[NAME=]TYPE",
    ),
]
Outputs = Annotated[
    list[str] | None,
    panels.interface(
        "--output-type", help="Type of the outputs, or of one: uint8, int8, int16, float.", metavar="[NAME=]TYPE"
    ),
]
Pixels = Annotated[
    list[str] | None,
    panels.interface(
        help="How training normalized pixels, x = (pixel * scale - mean) / std: the file takes the pixels. "
        "--pixels 'mean=0.485,0.456,0.406 std=0.229,0.224,0.225'; scale is 1/255 if not given.",
        metavar="KEY=VALUE",
    ),
]
SplitOutputs = Annotated[
    bool,
    panels.interface(
        "--split-outputs", help="Make what the last concatenations join outputs of their own, with scales of their own."
    ),
]
Standardize = Annotated[
    list[str] | None,
    panels.interface(
        help="An input whose columns differ by orders of magnitude, or all: the file takes (x - mean) / std.",
        metavar="NAME|all",
    ),
]

Decides = Annotated[
    list[str] | None,
    panels.quality(
        help="What decides in the outputs, or in one: 'above=0.5', 'columns=4:84 output=boxes'; errors elsewhere do "
        "not count. Once for each output.",
        metavar="KEY=VALUE",
    ),
]


def parse_interface(
    inputs: list[str] | None,
    outputs: list[str] | None,
    pixels: list[str] | None,
    split: bool,
    standardize: list[str] | None,
) -> Interface:
    """The interface that the options ask for."""
    from edgeqwt.interface.options import parse

    return parse(inputs or (), outputs or (), pixels or (), split, standardize or ())
