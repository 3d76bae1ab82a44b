"""Files of one network side by side, on data with labels or without: scores, and what their differences are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeqwt.calibration.labels import LABELS
from edgeqwt.calibration.samples import Samples
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.boundary import to_real
from edgeqwt.runtime.parallel import THREADS
from edgeqwt.runtime.runners import Values
from edgeqwt.verify.metrics import Closeness, Sums, compare
from edgeqwt.verify.paired import CHANCE, Gain, gain, split
from edgeqwt.verify.running import side_by_side


@dataclass(frozen=True)
class Change:
    """A class that became another: how many rows have `before` in the first file and `after` in this one."""

    before: int
    after: int
    rows: int


@dataclass(frozen=True)
class Pairing:
    """What a file gets right against another one, row by row.

    Attributes:
        other: name of the other file.
        only_other, only_this: rows that one of them alone has right: as the labels say or, without labels, as the
            first file has it.
        probability: of so uneven a split by chance (McNemar's exact test; of samples with many rows, such as pixels,
            see `paired.split`).
        gain: of SQNR of what varies at the first output, over the other file; None beside the first file, which is
            what SQNR refers to.
    """

    other: str
    only_other: int
    only_this: int
    probability: float
    gain: Gain | None

    @property
    def verdict(self) -> str:
        """Whether this file is better or worse, or that the difference is no more than chance."""
        if self.only_other == self.only_this or self.probability > CHANCE:
            return "no difference beyond chance"
        return "better" if self.only_this > self.only_other else "worse"


@dataclass(frozen=True)
class Score:
    """One file.

    Attributes:
        name: of the file.
        accuracy: share of rows whose largest element is the label; None without labels, or without classes.
        agreement: share of rows whose largest element is the first file's.
        outputs: how close each output is to the first file's.
        pairings: against the first file where there are labels, and against each file between.
        changes: classes that became others, the most frequent first.
    """

    name: str
    accuracy: float | None
    agreement: float | None
    outputs: tuple[Closeness, ...]
    pairings: tuple[Pairing, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Scores:
    """Files side by side.

    Attributes:
        samples: how many were run.
        rows: of classes that they had.
        files: the first one first.
        notes: what of the files speaks against taking the figures as they are.
    """

    samples: int
    rows: int
    files: tuple[Score, ...]
    notes: tuple[str, ...] = ()


def score(graphs: Mapping[str, Graph], inputs: Sequence[str], samples: Samples) -> Scores:
    """Runs every file on every sample, in LiteRT with its default kernels.

    Args:
        graphs: by the file's name; inputs and outputs correspond by position. The first is what is compared with.
        inputs: names of the first one's inputs, in order.
        samples: real values of these, and `labels` where there are some.

    Raises:
        InputError: there are no samples, or labels do not fit the first output.
        ToolError: LiteRT refuses a file.
    """
    (own_name, first), *others = graphs.items()
    given: list[Array | None] = []

    def fed() -> Iterator[dict[int, Array]]:
        for sample in samples:
            given.append(sample.get(LABELS))
            yield {t: sample[name] for t, name in zip(first.inputs, inputs, strict=True)}

    def work(values: Values, found: dict[str, Values]) -> dict[str, list[Array]]:
        found = {own_name: values, **found}
        return {name: [to_real(graph, t, found[name][t]) for t in graph.outputs] for name, graph in graphs.items()}

    total = {name: [Sums()] * len(first.outputs) for name in graphs}
    errors: dict[str, list[float]] = {name: [] for name in graphs}
    classes: dict[str, list[Array]] = {name: [] for name in graphs}
    labels: list[Array] = []
    count = 0
    for found in side_by_side(first, (), {name: (graph, ()) for name, graph in others}, fed(), work, THREADS):
        wanted, label = found[own_name], given[count]
        for name, values in found.items():
            sums = [compare(a, b, varying=True) for a, b in zip(wanted, values, strict=True)]
            total[name] = [before.plus(part) for before, part in zip(total[name], sums, strict=True)]
            errors[name].append(sums[0].error)
            classes[name].append(_classes(values[0]))
        if label is not None:
            labels.append(_fitting(label, classes[own_name][-1], count, wanted[0]))
        count += 1
    if not count:
        raise InputError(f"{samples.origin} has no samples", "Give at least one to score the files on.")
    joined = {name: np.concatenate(parts) for name, parts in classes.items()}
    return _scores(count, total, errors, joined, np.concatenate(labels) if labels else None)


def _scores(
    count: int,
    total: Mapping[str, Sequence[Sums]],
    errors: Mapping[str, Sequence[float]],
    classes: Mapping[str, Array],
    labels: Array | None,
) -> Scores:
    names, reference = [*classes], next(iter(classes.values()))
    wanted = reference if labels is None else labels
    right = {name: found == wanted for name, found in classes.items()}
    files = []
    for k, name in enumerate(names):
        # Without labels the first file is always right: only the others can be compared with each other.
        others = names[:k] if labels is not None else names[1:k]
        pairings = [
            _pairing(o, count, right[o], right[name], None if o == names[0] else (errors[o], errors[name]))
            for o in others
        ]
        found = Counter(zip(reference.tolist(), classes[name].tolist(), strict=True))
        changes = [
            Change(a, b, n) for (a, b), n in sorted(found.items(), key=lambda item: (-item[1], item[0])) if a != b
        ]
        rows = len(reference)
        accuracy = float(right[name].mean()) if labels is not None and rows else None
        agreement = float((classes[name] == reference).mean()) if rows else None
        outputs = tuple(sums.result() for sums in total[name])
        files.append(Score(name, accuracy, agreement, outputs, tuple(pairings), tuple(changes)))
    return Scores(count, len(reference), tuple(files))


def _pairing(
    other: str, count: int, before: Array, after: Array, errors: tuple[Sequence[float], Sequence[float]] | None
) -> Pairing:
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    by_sample = split(*(right.reshape(count, -1).sum(axis=1).tolist() for right in (before, after)))
    return Pairing(other, lost, won, by_sample.probability, None if errors is None else gain(*errors))


def _classes(output: Array) -> Array:
    """The class of every row of an output; none where it has no rows of two elements, integers as they are."""
    found: Array = np.zeros(0, np.int64)
    if output.dtype.kind in "iu":
        found = output.reshape(-1).astype(np.int64)
    elif output.ndim and output.shape[-1] > 1:
        found = output.argmax(axis=-1).reshape(-1).astype(np.int64)
    return found


def _fitting(label: Array, classes: Array, sample: int, output: Array) -> Array:
    flat = np.asarray(label).reshape(-1)
    if flat.dtype.kind not in "iu" or flat.size != classes.size:
        raise InputError(
            f"the labels of sample {sample} ({flat.dtype}, {flat.size} of them) do not fit the first output, which has "
            f"{classes.size} rows of classes",
            "Give one integer per sample, or as many as the output has rows.",
        )
    scores = output.dtype.kind not in "iu"  # of each class
    if scores and (flat.min() < 0 or flat.max() >= output.shape[-1]):
        raise InputError(
            f"the labels of sample {sample} lie in {flat.min()} to {flat.max()}, the first output has "
            f"{output.shape[-1]} classes",
            "Number the classes from 0, in the order of the output.",
        )
    fitting: Array = flat.astype(np.int64)
    return fitting
