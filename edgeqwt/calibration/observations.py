"""What calibration observed, kept in a file: a later build of the same model on the same samples can use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from edgeqwt.calibration.arrays import CORRUPT
from edgeqwt.calibration.deciding import Within
from edgeqwt.calibration.observe import float_activations
from edgeqwt.calibration.samples import Sample
from edgeqwt.calibration.statistics import BINS, FOLDS, Statistics
from edgeqwt.disk import write_whole
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.regular_files import regular

VERSION = 1
"""Of the file, and of what statistics are: a change of either makes older files useless."""
AGAIN = "Observe again: job.observations() of edgeqwt.open_job, with the model and the samples of this build."
FIELDS = ("low", "high", "reach", "zeros", "seen")


@dataclass(frozen=True, eq=False)
class Observations:
    """Statistics of a float graph's activations on the samples to fit on, and what they belong to.

    Attributes:
        graph: SHA-256 of the prepared float graph's file.
        tensors: names of its float activations, in the graph's order.
        samples: a SHA-256 of each sample to fit on, in order.
        deciding: what of outputs decides, by their position.
        statistics: by tensor index.
    """

    graph: str
    tensors: tuple[str, ...]
    samples: tuple[str, ...]
    deciding: str
    statistics: Mapping[int, Statistics]

    @classmethod
    def of(
        cls,
        graph: Graph,
        samples: Iterable[Sample],
        deciding: Mapping[int, Within],
        statistics: Mapping[int, Statistics] | None = None,
    ) -> Observations:
        """What was observed of a graph.

        Args:
            graph: float, prepared.
            samples: those that were observed, in the source model's terms.
            deciding: what of outputs decides.
            statistics: what `observe` found of the three; none to compare with others.
        """
        names = tuple(graph.tensors[t].name for t in float_activations(graph))
        found = hashlib.sha256(flatbuffer.to_bytes(graph)).hexdigest()
        return cls(found, names, tuple(map(digest, samples)), str(sorted(deciding.items())), statistics or {})

    def require(self, wanted: Observations, origin: str) -> None:
        """Stops where other observations are needed than these.

        Args:
            wanted: of the graph and the samples of a build; its statistics do not count.
            origin: of its samples, for the message.

        Raises:
            InputError: they are of another graph, of other samples, or of other outputs' values; it says what differs.
        """
        what = self._other_graph(wanted) or self._other_samples(wanted, origin)
        if not what and self.deciding != wanted.deciding:
            what = "something else decided in the outputs when they were made"
        if what:
            raise InputError(f"these observations are not this build's: {what}", AGAIN)

    def _other_graph(self, wanted: Observations) -> str:
        if self.graph == wanted.graph:
            return ""
        pairs = enumerate(zip(self.tensors, wanted.tensors, strict=False))
        odd = next(((k, a, b) for k, (a, b) in pairs if a != b), None)
        if odd is not None:
            return f"activation {odd[0]} of the float graph is {odd[2]!r} here and was {odd[1]!r}"
        if len(self.tensors) != len(wanted.tensors):
            return f"the float graph has {len(wanted.tensors)} activations here and had {len(self.tensors)}"
        return "the float graph has the same activations, but other constants, shapes or options of ops"

    def _other_samples(self, wanted: Observations, origin: str) -> str:
        if len(self.samples) != len(wanted.samples):
            return f"{origin} has {len(wanted.samples)} samples to fit on, and there were {len(self.samples)}"
        pairs = enumerate(zip(self.samples, wanted.samples, strict=True))
        odd = next((k for k, (a, b) in pairs if a != b), None)
        return "" if odd is None else f"sample {odd} of those to fit on of {origin} is another one"

    def save(self, path: str | Path) -> None:
        """Writes a .npz file; equal observations make equal bytes.

        Raises:
            InputError: the file cannot be written.
        """
        about = {
            "version": VERSION, "graph": self.graph, "tensors": self.tensors, "samples": self.samples,
            "deciding": self.deciding, "indices": sorted(self.statistics),
        }  # fmt: skip
        arrays = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
        for t in sorted(self.statistics):
            found = self.statistics[t]
            arrays[f"{t}"] = np.array([float(getattr(found, name)) for name in FIELDS])
            if found.folds is not None:
                arrays[f"{t}.folds"] = found.folds
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_whole(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Observations:
        """Reads what `save` wrote.

        Raises:
            InputError: it cannot be read, or another version wrote it.
        """
        try:
            with regular(Path(path)).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                about = json.loads(archive["about"].tobytes())
                if about["version"] != VERSION:
                    raise InputError(f"{path} has version {about['version']} of observations, not {VERSION}", AGAIN)
                statistics = {int(t): _statistics(archive, int(t)) for t in about["indices"]}
                names, hashes = tuple(map(str, about["tensors"])), tuple(map(str, about["samples"]))
                return cls(str(about["graph"]), names, hashes, str(about["deciding"]), statistics)
        except (OSError, KeyError, *CORRUPT) as error:
            raise InputError(f"{path} holds no observations: {error}", AGAIN) from None


def _statistics(archive: Mapping[str, Array], t: int) -> Statistics:
    low, high, reach, zeros, seen = archive[f"{t}"].tolist()
    folds = archive.get(f"{t}.folds")
    if folds is not None and (folds.shape != (FOLDS + 1, BINS) or folds.dtype.kind not in "if"):
        raise ValueError(f"a histogram of {folds.dtype} and shape {folds.shape}")
    return Statistics(low, high, reach, folds, int(zeros), int(seen))


def digest(sample: Mapping[Any, Array]) -> str:
    """SHA-256 of a sample's names or tensors, types, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(sample):
        array = np.ascontiguousarray(sample[name])
        found.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        found.update(array.tobytes())
    return found.hexdigest()
