"""The headings under which help lists options, in this order."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

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


def headed(parameters: Iterable[Any]) -> dict[str, list[Any]]:
    """A command's parameters, as typer has them, by the heading that each stands under."""
    found = list(parameters)
    groups: dict[str, list[Any]] = {name: [] for name in ("Arguments", *PANELS, "Options")}
    many = sum(parameter.param_type_name != "argument" for parameter in found) > MOST
    for parameter in found:
        argument, panel = parameter.param_type_name == "argument", getattr(parameter, "rich_help_panel", None)
        groups["Arguments" if argument else (panel if many else None) or "Options"].append(parameter)
    return {heading: listed for heading, listed in groups.items() if listed}
