"""The headings under which help lists options, in this order."""

from __future__ import annotations

from functools import partial

import typer

DATA = "Model and calibration"
RECIPE = "Precision and recipe"
INTERFACE = "Inputs and outputs of the file"
TARGET = "Target"
QUALITY = "Quality"
RUN = "How it is run"
OUTPUT = "Output"

PANELS = (DATA, RECIPE, INTERFACE, TARGET, QUALITY, RUN, OUTPUT)
data, recipe, interface, target, quality, run, output = (partial(typer.Option, rich_help_panel=p) for p in PANELS)
"""Each makes an option that stands under its heading."""
MOST = 10
"""A command with no more options has them in one list."""
