"""A table of simulated settings: each method with each correction, on the graph and the samples of a build."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeqwt.errors import RecipeError
from edgeqwt.graph.graph import Array
from edgeqwt.job import Job
from edgeqwt.runtime.threads import one_thread, torch_threads
from edgeqwt.simulation.corrections import CORRECTIONS
from edgeqwt.simulation.methods import METHODS
from edgeqwt.simulation.simulate import Bits, Machine, Simulation, exact_outputs, fitted
from edgeqwt.verify.metrics import Closeness, Sums, compare

SIMULATION = "Simulation: no file is made, and no kernel computes this. Figures of files are those of builds."
MOST = 64  # samples that are fitted on by default: both networks' activations are held in memory
ENDS = 8  # bits of the first and the last linear op at least, as papers have it
CHUNK = 32  # samples that are judged at a time


@dataclass(frozen=True)
class Row:
    """One setting.

    Attributes:
        method, correction: by name.
        quality: of the first output against the float network's, on samples that nothing was fitted on.
        accuracy: share of labels that are right; None without labels.
        parameters: numbers that the correction would add to a file.
    """

    method: str
    correction: str
    quality: Closeness
    accuracy: float | None
    parameters: int


@dataclass(frozen=True)
class Study:
    """A table of simulated settings.

    Attributes:
        bits: widths.
        fitted, judged: samples.
        rows: in the order of methods, then of corrections.
        accuracy: of the float network; None without labels.
        simulated: says what the figures are.
    """

    bits: Bits
    fitted: int
    judged: int
    rows: tuple[Row, ...]
    accuracy: float | None
    simulated: str = SIMULATION

    def to_rows(self) -> list[dict[str, Any]]:
        """The table as dicts, for data frames and JSON."""
        return [
            {
                "method": row.method,
                "correction": row.correction,
                "varying_db": row.quality.judged_db,
                "agreement": row.quality.top1,
                "accuracy": row.accuracy,
                "added_parameters": row.parameters,
            }
            for row in self.rows
        ]


def bits_of(text: str) -> Bits:
    """Widths such as w4a4, from 2 to 16 bits each.

    Raises:
        RecipeError: they are written in another way, or are others.
    """
    found = re.fullmatch(r"w(\d+)a(\d+)", text)
    if found is None or not all(2 <= int(bits) <= 16 for bits in found.groups()):
        raise RecipeError(f"{text!r} are no widths of a study", "Write w4a4, with 2 to 16 bits each.")
    weights, activations = map(int, found.groups())
    return Bits(weights, activations, max(ENDS, weights, activations))


def check_names(kind: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    """Refuses names of what does not exist.

    Raises:
        RecipeError: there is no such thing, or none is named.
    """
    if not names:
        raise RecipeError(f"no {kind} is named", f"Choose {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise RecipeError(f"there is no {kind} {name!r} in studies", f"Choose {', '.join(known)}.")


def study(
    job: Job,
    bits: Bits,
    methods: Sequence[str],
    corrections: Sequence[str],
    judged: Iterable[tuple[Mapping[int, Array], Array | None]] | None = None,
    samples: int = MOST,
) -> Study:
    """Fits and judges each method with each correction.

    Args:
        job: a proved float graph with its samples.
        bits: widths.
        methods: by name, see `METHODS`.
        corrections: by name, see `CORRECTIONS`.
        judged: inputs by tensor index of the job's graph with a label, or None, each; by default the held-out samples.
        samples: to fit on, at most.
    """
    machine = Machine(job.context.graph)
    fit = _stacked(job.context.fit.head(samples))
    held_out = list(((s, None) for s in job.context.gate.feeds()) if judged is None else judged)
    with torch.no_grad(), one_thread(), torch_threads(1):
        wanted = list(_outputs(lambda v: exact_outputs(machine, v), held_out))
        rows = []
        for method in methods:
            for correction in corrections:
                with job.stages(f"{method}, {correction}") as advance:
                    made = fitted(machine, METHODS[method], CORRECTIONS[correction], bits, fit, advance)
                    rows.append(_judged(method, correction, made, held_out, wanted))
    labels = [label for _, label in held_out]
    count = len(next(iter(fit.values())))
    return Study(bits, count, len(held_out), tuple(rows), _accuracy(wanted, labels))


def _judged(
    method: str,
    correction: str,
    made: Simulation,
    held_out: Sequence[tuple[Mapping[int, Array], Array | None]],
    wanted: Sequence[Array],
) -> Row:
    got = list(_outputs(made, held_out))
    sums = Sums()
    for exact, found in zip(wanted, got, strict=True):
        sums = sums.plus(compare(exact, found, varying=True))
    accuracy = _accuracy(got, [label for _, label in held_out])
    return Row(method, correction, sums.result(), accuracy, made.parameters)


def _outputs(
    run: Callable[[Mapping[int, Tensor]], dict[int, Tensor]],
    samples: Sequence[tuple[Mapping[int, Array], Array | None]],
) -> Iterator[Array]:
    """The first output of each sample."""
    for part in batched(samples, CHUNK):
        found = run(_stacked(values for values, _ in part))
        yield from next(iter(found.values())).numpy()


def _stacked(samples: Iterable[Mapping[int, Array]]) -> dict[int, Tensor]:
    held = list(samples)
    return {t: torch.from_numpy(np.stack([s[t] for s in held])) for t in held[0]}


def _accuracy(outputs: Sequence[Array], labels: Sequence[Array | None]) -> float | None:
    pairs = [(o, label) for o, label in zip(outputs, labels, strict=True) if label is not None]
    if not pairs:
        return None
    right = [bool((o.reshape(-1, o.shape[-1]).argmax(-1) == np.ravel(label)).all()) for o, label in pairs]
    return sum(right) / len(right)
