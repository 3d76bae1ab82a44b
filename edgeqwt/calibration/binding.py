"""Which of a sample's arrays go to which of the model's inputs.

Sources differ in what they say of their arrays: a mapping names them, a single array has no name (`NAMELESS`), and
what a data loader yields, such as (images, labels), has an order only (`positional`). So have the arrays of a file that
`np.savez(path, images, labels)` wrote, which numpy calls arr_0, arr_1, ... And where the model needs one input and
the sample has one array of no known name, they belong together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgeqwt.calibration.arrays import NAMELESS
from edgeqwt.calibration.samples import Sample
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

LABELS = "labels"
"""The name under which labels of a source that does not name them reach a metric."""
LABEL_NAMES = (LABELS, "label", "targets", "target")
"""What labels are called: arrays of these names are no inputs, unless the model has an input of that name."""
_POSITION = "#"
_NUMBERED = re.compile(r"arr_\d{1,9}")
"""What numpy.savez calls arrays that it is given without names."""


def positional(arrays: Sequence[Array]) -> dict[str, Array]:
    """Arrays that have an order and no names, as a sample."""
    return {f"{_POSITION}{i}": array for i, array in enumerate(arrays)}


def bound(sample: Sample, names: Sequence[str], required: Sequence[str], origin: str) -> dict[str, Array]:
    """A sample's arrays by the names of the model's inputs; labels under `LABELS`, or under the name that they have.

    Args:
        sample: of any source.
        names: the model's inputs, in order.
        required: those that have no default.
        origin: what the samples come from, for messages.

    Raises:
        InputError: the arrays have no names, and their number does not say which inputs they are.
    """
    ordered = _unnamed(sample, names, required)
    unnamed, known = [sample[name] for name in ordered], {n: a for n, a in sample.items() if n not in ordered}
    if not unnamed:
        return known
    if len(unnamed) > 1:
        count = len(unnamed) - 1 if _are_labels(unnamed, len(required)) else len(unnamed)
        if count == len(required) + 1 > len(names):
            count -= 1
        known |= {LABELS: unnamed[-1]} if count < len(unnamed) else {}
        unnamed = unnamed[:count]
    wanted = list(names if len(unnamed) == len(names) else required)
    if len(unnamed) != len(wanted):
        if len(unnamed) == 1:
            found, hint = "has no input names", "Give an .npz with one array per input, or yield {name: array}."
        else:
            found, hint = f"gives {len(unnamed)} arrays without names", "Yield {name: array}."
        raise InputError(f"{origin} {found}, but the model has {len(names)} inputs: {listed(names)}", hint)
    return {**dict(zip(wanted, unnamed, strict=True)), **known}


def label_name(sample: Sample) -> str | None:
    """What labels of a sample that is not bound yet are called; None where it has none, whatever the model's inputs."""
    names = [name for name in LABEL_NAMES if name in sample]
    unnamed = _unnamed(sample)
    return next(iter(names + unnamed[1:][-1:]), None)  # of several without names, the last may be the labels


def inputs_of(sample: Sample, names: Sequence[str]) -> dict[str, Array]:
    """A bound sample without its labels."""
    return {name: array for name, array in sample.items() if name in names or name not in LABEL_NAMES}


def listed(names: Sequence[str] | Mapping[str, object]) -> str:
    """Names as messages show them."""
    return ", ".join(repr(name) for name in names)


def _unnamed(sample: Sample, names: Sequence[str] = (), required: Sequence[str] = ()) -> list[str]:
    """The arrays that no input is named by, in order."""
    numbered = [name for name in sample if _NUMBERED.fullmatch(name) and name not in names]
    ordered = sorted(numbered, key=lambda name: int(name.rpartition("_")[2]))
    found = [*(name for name in sample if name == NAMELESS or name.startswith(_POSITION)), *ordered]
    others = [name for name in sample if name not in names and name not in LABEL_NAMES]
    only = len(required) == 1 and len(others) == 1 and required[0] not in sample
    return found or (others if only else [])


def _are_labels(arrays: Sequence[Array], required: int) -> bool:
    """Whether the last of several arrays holds one integer for each sample."""
    first, last = arrays[0], arrays[-1]
    rows = first.shape[0] if first.ndim else 1
    return last.dtype.kind in "iu" and last.size == rows and last.ndim <= 2 and len(arrays) > required
