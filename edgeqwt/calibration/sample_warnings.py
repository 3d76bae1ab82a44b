"""What of a set of calibration samples speaks against deciding by it.

How far the next sample may reach shows in how unlike the largest values of samples are: the mean logarithm of what
they are of the smallest of them estimates 1 / a, where the chance to exceed x falls as x^-a (Hill 1975). The squares of
what is clipped have a mean where a is above 2; near that no number of samples shows how far others reach.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeqwt.calibration.samples import Sample, Samples, roles
from edgeqwt.graph.graph import Array

FEW = 32
LOOKED_AT = 32  # samples that show on which axis neighbours are alike
UNSEEN = 16
"""So many do not show how far others reach: files with 24 to 31 dB on 3 or 4 held-out samples had 12 to 19 on fresh."""
BEYOND = 0.1  # of the fitted range, by which a held-out sample leaves it

HEAVY = 0.4
"""1 / a of a heavy tail: vectors of 12 by Student's t of 2.2 degrees of freedom have 0.47, of 4 degrees 0.28, normal
ones 0.11; single numbers that are normal 0.22, lognormal with sigma 1 0.48."""
TAIL, LEAST_TAIL = 10, 8  # one sample in so many has the largest values, and so many at least
FEW_VALUES = 4096  # of an input: larger ones show their tails
ALIKE = 0.25
"""Mean square of what a sample differs from the next by, of what any two differ by (von Neumann 1941): 1 where order
says nothing, 0.04 to 0.15 of windows of recordings whose features have a correlation of 0.98 to 0.9 with the next."""


@dataclass
class _Input:
    """What was seen of one input, in samples to fit on (0) and held out (1)."""

    low: list[float] = field(default_factory=lambda: [np.inf, np.inf])
    high: list[float] = field(default_factory=lambda: [-np.inf, -np.inf])
    held: list[tuple[float, float]] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)
    constant: int = 0
    looked: int = 0
    steps: Array | None = None
    shape: tuple[int, ...] = ()
    last: Array | None = None
    sums: Array | None = None  # of values, of their squares, and of those of differences from the sample before

    def follow(self, array: Array) -> None:
        """Takes in how a sample differs from the one before it, at some thousand of its values."""
        values = array.reshape(-1)[:: -(-array.size // FEW_VALUES)].astype(np.float64)
        if self.last is None or self.sums is None or self.last.shape != values.shape:
            self.sums = np.zeros((3, values.size))
            self.last = values
        self.sums += np.stack([values, values**2, (values - self.last) ** 2])
        self.last = values


def sample_warnings(samples: Samples, channels_first: Mapping[str, bool]) -> tuple[int, tuple[str, ...]]:
    """How many samples there are, and sentences on what is wrong with them as a whole; reads them once.

    Args:
        samples: validated.
        channels_first: by the name of the input, whether maps are (batch, channels, height, width).
    """
    inputs: dict[str, _Input] = {}
    seen: dict[bytes, set[int]] = {}
    count = 0
    for count, sample in enumerate(samples, start=1):
        half = int(roles([count - 1], 2)[1][0])
        seen.setdefault(_digest(sample), set()).add(count - 1)
        for name, array in sample.items():
            _look(inputs.setdefault(name, _Input()), array, half)
    warnings = [*_numbers(count, seen)]
    for name, found in inputs.items():
        warnings += _of_input(name, found, count, channels_first.get(name, False))
    return count, tuple(warnings)


def _digest(sample: Sample) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(sample):
        array = np.ascontiguousarray(sample[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.digest()


def _look(found: _Input, array: Array, half: int) -> None:
    if not array.size:
        return
    low, high = float(array.min()), float(array.max())
    found.low[half], found.high[half] = min(found.low[half], low), max(found.high[half], high)
    if half:
        found.held.append((low, high))
    if array.dtype.kind in "fu":
        found.follow(array)
    if array.size <= FEW_VALUES and array.dtype.kind == "f":
        found.reach.append(max(-low, high))
    found.constant += low == high and array.size > 1
    found.shape = array.shape
    if array.ndim == 4 and array.dtype.kind == "f" and min(array.shape[1:]) > 1 and found.looked < LOOKED_AT:
        found.looked += 1
        steps = np.array([float(np.square(np.diff(array, axis=axis)).mean()) for axis in (1, 2, 3)])
        found.steps = steps if found.steps is None else found.steps + steps


def _numbers(count: int, seen: Mapping[bytes, set[int]]) -> list[str]:
    if count == 1:
        return ["one calibration sample: nothing is held out that could confirm anything; give some hundred"]
    warnings = []
    if count < FEW:
        less = ", and fresh ones may have 10 dB less than held-out ones say" if count <= UNSEEN else ""
        warnings.append(
            f"{count} calibration samples: what helps and what does not is hardly known{less}; give some hundred"
        )
    if len(seen) == 1:
        warnings.append(f"all {count} calibration samples are the same one: nothing can be learned from them")
    elif len(seen) < 0.9 * count:
        warnings.append(f"only {len(seen)} of {count} calibration samples are different ones")
    held = [numbers for numbers in seen.values() if roles([*numbers], count)[1].any()]
    if len(seen) > 1 and all(roles([*numbers], count)[0].any() for numbers in held):
        warnings.append(
            "every held-out sample is fitted on, too: what is confirmed on them is not; give different samples"
        )
    return warnings


def _of_input(name: str, found: _Input, count: int, channels_first: bool) -> list[str]:
    warnings = []
    if found.constant == count:
        warnings.append(f"input {name!r} is constant in every calibration sample: give real data")
    elif found.constant > 0.1 * count:
        warnings.append(f"input {name!r} is constant in {found.constant} of {count} calibration samples")
    width = found.high[0] - found.low[0]
    if found.held and width > 0 and count >= FEW:
        low, high = found.low[0] - BEYOND * width, found.high[0] + BEYOND * width
        outside = sum(a < low or b > high for a, b in found.held)
        if outside > 0.25 * len(found.held):
            warnings.append(
                f"input {name!r}: {outside} of {len(found.held)} held-out samples lie outside the range of those that "
                f"are fitted on, {found.low[0]:.3g} to {found.high[0]:.3g}: shuffle the samples"
            )
    heavy, layout = _heavy(name, found.reach), _layout(name, found, channels_first)
    return [*warnings, *heavy, *_in_order(name, found, count), *layout]


def _in_order(name: str, found: _Input, count: int) -> list[str]:
    """That held-out samples lie between others that are much like them, which fresh ones do not."""
    sums = found.sums
    if sums is None or count < FEW or found.constant == count:
        return []
    apart = 2 * (sums[1] / count - (sums[0] / count) ** 2).sum()
    if not apart > 0 or (share := float(sums[2].sum() / (count - 1) / apart)) >= ALIKE:
        return []
    return [
        f"input {name!r}: samples that follow one another are much alike (they differ by {share:.0%} of what any two "
        "do, squared), as pieces of one recording are. Each held-out one lies between two that are fitted on: fresh "
        "recordings may have less than these say. Calibrate with many recordings, and few samples of each"
    ]


def _heavy(name: str, reach: list[float]) -> list[str]:
    """That fresh samples will reach further than these, where their largest values are very unlike."""
    count = max(LEAST_TAIL, len(reach) // TAIL)
    if len(reach) < FEW * 2:
        return []
    largest = np.sort(np.array(reach))[: -count - 2 : -1]
    if not largest[-1] > 0 or float(np.log(largest[:-1] / largest[-1]).mean()) < HEAVY:
        return []
    return [
        f"input {name!r} has heavy tails: values reach {largest[0]:.3g} in {len(reach)} samples, and no more than "
        f"{largest[-1]:.3g} in all but {count} of them. Fresh ones will reach further than any of these and be cut "
        "off: limit the values before the model, as in training, or feed logarithms of them"
    ]


def _layout(name: str, found: _Input, channels_first: bool) -> list[str]:
    """Whether channels seem to lie on another axis than they should, in shapes that are the same either way.

    Neighbours in a picture are alike; channels of one position are less so.
    """
    if found.steps is None or len(set(found.shape[1:])) > 1:
        return []
    first, second, third = found.steps
    last = bool(max(first, second) < 0.5 * third)
    if (last and channels_first) or (max(second, third) < 0.5 * first and not last and not channels_first):
        axis, wanted = ("last", "first") if last else ("first", "last")
        return [
            f"input {name!r} of shape {found.shape} seems to have its channels on the {axis} axis; the model has them "
            f"on the {wanted}: transpose the samples"
        ]
    return []
