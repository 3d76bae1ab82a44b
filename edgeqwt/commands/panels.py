"""The headings under which help lists options, in this order."""

from __future__ import annotations

DATA = "Model and calibration"
RECIPE = "Precision and recipe"
INTERFACE = "Inputs and outputs of the file"
TARGET = "Target"
QUALITY = "Quality"
RUN = "How it is run"
OUTPUT = "Output"

PANELS = (DATA, RECIPE, INTERFACE, TARGET, QUALITY, RUN, OUTPUT)
MOST = 10
"""A command with no more options has them in one list."""
