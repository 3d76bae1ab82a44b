"""The samples on which an integer graph errs most, with what people need to look at them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.parallel import each
from edgeqwt.runtime.runners import InterpreterError, xnnpack
from edgeqwt.verify.quality import Quality
from edgeqwt.verify.remembered import Remembered

MOST = 8
SIDE = 112  # pixels of a picture at most, either way
SMALLEST = 8  # pixels of what may be an image, either way


@dataclass(frozen=True, eq=False)
class WorstSample:
    """One held-out sample.

    Attributes:
        number: its place among the held-out samples, from 0.
        share: of all held-out samples' squared error, output by output, the largest.
        wanted, found: the largest element of the first output, in the float graph and in the integer one; None where
            that output has no rows, or several.
        image: the first input that may be one, (height, width, channels) uint8, stretched to all of 0 to 255; None
            without any.
    """

    number: int
    share: float
    wanted: int | None = None
    found: int | None = None
    image: Array | None = None


def worst_samples(
    reference: Graph,
    integer: Graph,
    quality: Quality,
    samples: Iterable[Mapping[int, Array]],
    known: Remembered | None = None,
) -> tuple[WorstSample, ...]:
    """The samples with the largest errors, the worst first.

    Args:
        reference: the float graph.
        integer: the graph that was judged.
        quality: of it, on these samples.
        samples: real values by tensor index of `reference`; read once, and only the worst are kept.
        known: what the graphs gave of these samples before.
    """
    shares = _shares(quality)
    order = np.argsort(-shares, kind="stable")[:MOST]
    wanted = {int(k): float(shares[k]) for k in order if shares[k] > 0}
    kept = {k: dict(sample) for k, sample in enumerate(samples) if k in wanted}
    try:
        found = each(lambda graph: _classes(graph, reference, kept, known), (reference, integer))
    except InterpreterError:  # which an op may do to values that no sample before it had: the pictures are left
        found = [dict.fromkeys(kept)] * 2
    classes = {k: [one[k] for one in found] for k in kept}
    return tuple(
        WorstSample(k, wanted[k], classes[k][0], classes[k][1], _picture(reference, kept[k]))
        for k in wanted
        if k in kept
    )


def _shares(quality: Quality) -> Array:
    """Each sample's share of the squared error, at the output where it has most."""
    found = [np.zeros(quality.samples)]
    for place in quality.decisive:
        errors = np.asarray(place.errors, np.float64)
        if len(errors) == quality.samples and np.isfinite(errors).all() and errors.sum() > 0:
            found.append(errors / errors.sum())
    shares: Array = np.maximum.reduce(found)
    return shares


def _classes(
    graph: Graph, reference: Graph, samples: Mapping[int, Mapping[int, Array]], known: Remembered | None
) -> dict[int, int | None]:
    """The largest element of the first output for each sample; None where that has no rows, or several."""
    t = graph.outputs[0]
    shape = graph.tensors[t].shape
    if shape[-1:] < (2,) or math.prod(shape[:-1]) != 1:
        return dict.fromkeys(samples)
    runner, found = None, dict[int, int | None]()
    for k, sample in samples.items():
        values = None if known is None else known.of(graph, k, {t})
        if values is None:
            runner = runner or xnnpack(graph, [t])
            fed = feed_as(graph, reference, sample)
            values = {**fed, **runner.run(fed)}
        found[k] = int(to_real(graph, t, values[t]).argmax())
    return found


def _picture(graph: Graph, sample: Mapping[int, Array]) -> Array | None:
    """The first input that has the shape of an image, as people can see it."""
    for t in graph.inputs:
        values = sample.get(t)
        if values is None or values.ndim != 4 or values.shape[0] != 1:
            continue
        image = values[0]
        if image.shape[-1] not in (1, 3) and image.shape[0] in (1, 3):
            image = np.moveaxis(image, 0, -1)
        if image.shape[-1] in (1, 3) and min(image.shape[:2]) >= SMALLEST:
            return _stretched(image.astype(np.float64))
    return None


def _stretched(image: Array) -> Array:
    """At most SIDE pixels either way, by means of blocks, and from black to white."""
    step = -(-max(image.shape[:2]) // SIDE)
    height, width = (max(1, length // step) for length in image.shape[:2])
    part = image[: height * step, : width * step]
    blocks = part.reshape(height, min(step, part.shape[0]), width, min(step, part.shape[1]), -1).mean(axis=(1, 3))
    low, high = blocks.min(), blocks.max()
    scaled = (blocks - low) * (255 / (high - low)) if high > low else np.zeros_like(blocks)
    found: Array = np.rint(scaled).astype(np.uint8)
    return found
