"""The command that simulates what no integer kernel runs: study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgeqwt
from edgeqwt.commands import panels
from edgeqwt.commands.app import command
from edgeqwt.commands.options import Calibration, Image, Json, Samples, Trust, parse_images
from edgeqwt.output import answer, progress_display


@command(
    "edgeqwt study vit.py:create -c samples.npz --precision w4a4",
    "edgeqwt study vit.py:create -c samples.npz --methods mse,repq_vit --corrections none,cwac,qwt",
    "edgeqwt study vit.pt2 -c samples.npz --precision w6a6 --data test.npz --labels labels.npy --json",
)
def study(
    model: Annotated[str, typer.Argument(help="As for `build`.", metavar="MODEL")],
    calibration: Calibration,
    precision: Annotated[str, panels.recipe(help="Bits of weights and activations, 2 to 16.", metavar="wNaN")] = "w4a4",
    methods: Annotated[
        str, panels.recipe(help="By name, see docs/literature.md.", metavar="NAME,...")
    ] = "plain,mse,repq_vit",
    corrections: Annotated[
        str, panels.recipe(help="Of none, offset, cwac, cwac_ratio, low_rank, qwt.", metavar="NAME,...")
    ] = "none,cwac,qwt",
    data: Annotated[
        str | None, panels.data(help="Judge by these, not by held-out calibration samples.", metavar="DATA")
    ] = None,
    labels: Annotated[
        Path | None, panels.data(help="Labels where DATA has none: .npy or .npz.", metavar="FILE")
    ] = None,
    image: Image = None,
    samples: Samples = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Compare settings of papers in simulation.

    4- and 6-bit activations, logarithmic steps, ranges per token: what no kernel of TFLite runs, on the graph and the
    samples that a build has, without and with corrections (CWAC, QwT). It writes no file.
    """
    from edgeqwt.report.study import show_study

    found = edgeqwt.study(
        model,
        calibration=calibration,
        precision=precision,
        methods=_names(methods),
        corrections=_names(corrections),
        data=data,
        labels=labels,
        images=parse_images(image),
        samples=samples,
        trust=trust,
        display=progress_display(),
    )
    answer(json, found, lambda out: show_study(out, found))


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]
