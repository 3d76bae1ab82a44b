"""The part of the Python API that simulates settings which no integer kernel runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeqwt.api_job import open_job
from edgeqwt.calibration.images import ImageOptions
from edgeqwt.calibration.sources import Source, open_samples
from edgeqwt.graph.graph import Array
from edgeqwt.progress import Display, automatic
from edgeqwt.verify.feeds import feed

if TYPE_CHECKING:
    from edgeqwt.job import Job
    from edgeqwt.simulation.study import Study


def study(
    model: object,
    *,
    calibration: Source,
    precision: str = "w4a4",
    methods: Sequence[str] = ("plain", "mse", "repq_vit"),
    corrections: Sequence[str] = ("none", "cwac", "qwt"),
    data: Source | None = None,
    labels: str | Path | None = None,
    images: ImageOptions | None = None,
    samples: int | None = None,
    converter: str = "auto",
    trust: bool = False,
    display: Display = automatic,
) -> Study:
    """Settings of papers side by side, simulated in floats: no file comes out of it.

    Args:
        model: as for `build`.
        calibration: as for `build`; at most 64 of its samples are fitted on, one in four is held out.
        precision: widths of weights and activations, such as w4a4 or w6a6, 2 to 16 bits each; the first and the last
            linear op have 8.
        methods: quantizers of activations and rounding of weights, see docs/literature.md.
        corrections: what makes up for the error of each layer or block: none, offset, cwac, cwac_ratio, low_rank, qwt.
        data: what is judged, in place of the held-out samples, with labels or without.
        labels: a .npy or .npz file with a row of integers for each sample, where `data` has none.
        images: as for `build`.
        samples: calibration samples, at most.
        converter: as for `build`.
        trust: as for `build`.
        display: shows the stages while they run.

    Raises:
        EdgeqwtError: as `build`; RecipeError for widths, methods or corrections that do not exist.
    """
    from edgeqwt.simulation.corrections import CORRECTIONS
    from edgeqwt.simulation.methods import METHODS
    from edgeqwt.simulation.study import bits_of, check_names
    from edgeqwt.simulation.study import study as compared

    bits = bits_of(precision)
    check_names("method", methods, METHODS)
    check_names("correction", corrections, CORRECTIONS)
    job = open_job(
        model, calibration=calibration, recipe="plain", images=images, samples=samples, converter=converter,
        trust=trust, display=display,
    )  # fmt: skip
    judged = None if data is None else _labelled(job, data, labels, images)
    return compared(job, bits, methods, corrections, judged)


def _labelled(
    job: Job, data: Source, labels: str | Path | None, images: ImageOptions | None
) -> Iterator[tuple[Mapping[int, Array], Array | None]]:
    """Inputs by tensor index of the job's graph, each with its label."""
    from edgeqwt.calibration.labels import LABELS, labelled
    from edgeqwt.verify.evaluate import with_extras

    given = open_samples(data, images=images)
    given = given if labels is None else labelled(given, Path(labels))
    for sample in with_extras(given, tuple(binding.spec for binding in job.model.inputs)):
        yield feed(job.model, job.context.graph, sample), sample.get(LABELS)
