"""Inputs that a model normalizes by itself, and that samples seem to have been normalized for before."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeqwt.calibration.samples import Samples
from edgeqwt.converted import ConvertedModel
from edgeqwt.interface.input_normalization import normalization

LOOKED_AT = 32
NOTHING = 0.05
"""What is normalized reaches a few units; samples of which less than this is left were meant for something else."""


def scaled_twice(model: ConvertedModel, samples: Samples) -> tuple[str, ...]:
    """Sentences on float inputs of which the model's own normalization leaves next to nothing.

    Pixels from 0 to 1 in a network that takes those from 0 to 255 look all the same to it: what it gives hardly varies,
    and no integers hold that.

    Args:
        model: as it was converted.
        samples: in its layout; the first few are read.
    """
    return tuple(_sentences(model, samples))


def _sentences(model: ConvertedModel, samples: Samples) -> Iterator[str]:
    for binding in model.inputs:
        if not model.graph.tensors[binding.tensor].is_float:
            continue
        chain, _, factor, shift = normalization(model.graph, binding.tensor)
        fed = (
            binding.to_graph(sample[binding.spec.name], model.graph)
            for sample in samples.head(LOOKED_AT if chain else 0)
        )
        largest, reach = float(np.abs(factor).max()), max((float(np.abs(x).max(initial=0)) for x in fed), default=0.0)
        if 0 < largest * reach < NOTHING:
            at = np.unravel_index(int(np.abs(shift).argmax()), shift.shape)
            minus = f" {'-' if shift[at] < 0 else '+'} {abs(shift[at]):.3g}" if shift[at] else ""
            yield (
                f"input {binding.spec.name!r}: the model normalizes it by itself, as {factor[at]:.3g} * x{minus}, and "
                f"samples reach {reach:.3g}, of which that leaves {largest * reach:.2g}: they seem to be normalized "
                "already. Give them as the model takes them, pixels from 0 to 255 as a rule"
            )
