"""Samples of one length, from sequences of any: a TFLite file takes sequences of one length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.calibration.arrays import NAMELESS
from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array

INTEGERS = "iu"


@dataclass(frozen=True)
class Sequences:
    """Which inputs hold sequences, along which axis, and how long they are to be.

    Attributes:
        length: in tokens.
        axes: input name to axis; inputs that are not here hold no sequences.
    """

    length: int
    axes: Mapping[str, int]

    def of(self, samples: Samples) -> Samples:
        """The samples with every sequence cut at its end, or padded there with zeros.

        Only integers are padded: the padding token of most vocabularies is 0, and 0 in a mask says
        that a token is none. What stands for nothing among floats, and which of its two values a
        Boolean mask gives to padding, differs from model to model.

        Raises:
            InputError: while reading: a sequence of other numbers than integers is too short.
        """

        def read() -> Iterator[Sample]:
            for index, sample in enumerate(samples):
                where = f"{samples.origin}: sample {index}"
                yield {name: self._sized(name, np.asarray(a), f"{where}: {name!r}") for name, a in sample.items()}

        return replace(samples, open=read)

    def named(self, inputs: Sequence[str]) -> Sequences:
        """The same by the model's input names, where samples without names were looked at."""
        return replace(self, axes={inputs[0] if name == NAMELESS else name: axis for name, axis in self.axes.items()})

    def note(self) -> str:
        """A sentence for the report."""
        listed = ", ".join(f"{name!r} (axis {axis})" for name, axis in self.axes.items())
        return f"sequences are {self.length} long: longer ones were cut, shorter ones padded with 0, in {listed}"

    def _axis(self, name: str) -> int | None:
        # An array without a name is that of a model with a single input.
        return next(iter(self.axes.values())) if name == NAMELESS else self.axes.get(name)

    def _sized(self, name: str, array: Array, where: str) -> Array:
        axis = self._axis(name)
        if axis is None or axis >= array.ndim:  # where shapes are checked, too few dimensions are reported
            return array
        missing = self.length - array.shape[axis]
        if missing <= 0:
            return array[(slice(None),) * axis + (slice(self.length),)]
        if array.dtype.kind not in INTEGERS:
            raise InputError(
                f"{where} is {array.shape[axis]} long, and how {array.dtype} is padded to {self.length} is not known",
                "Pad it yourself, or name a smaller --sequence-length: only integers are padded, with 0.",
            )
        return np.pad(array, [(0, missing if a == axis else 0) for a in range(array.ndim)])
