"""The samples that nothing is fitted on, and the decisions that are made by them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgeqwt.calibration.samples import Samples
from edgeqwt.converted import ConvertedModel
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import runs
from edgeqwt.graph.saturation import decision_tensors
from edgeqwt.passes.state import Account
from edgeqwt.progress import Advance
from edgeqwt.verify.comparator import Comparator
from edgeqwt.verify.feeds import feeds
from edgeqwt.verify.quality import Quality, layer_quality
from edgeqwt.verify.remembered import Remembered

WORK = 1 << 35  # multiplications that one look at a candidate is worth: some seconds on two cores
FINAL_WORK = 1 << 37  # those that the last look is worth, which decides what is kept and says how good it is
LEAST = 32
"""Held-out samples that are looked at, however large the network. Errors of two candidates are compared on the same
ones, so that differences are known far better than either."""


@dataclass(frozen=True)
class Verdict:
    """What held-out samples say of a candidate.

    Attributes:
        kept: whether it is better by what was asked for.
        gain_db: SQNR at the decision tensors that it gains; 0 where one of the two has no error.
    """

    kept: bool
    gain_db: float

    def account(self, done: str, undone: str, **data: Any) -> Account:
        """What a technique tells of a candidate that is kept for its gain alone: what it did, or left undone."""
        gain = f"{self.gain_db:+.2f} dB on held-out samples"
        sentence = f"{done}: {gain}" if self.kept else f"{undone}: that is {gain}"
        return Account((sentence,), {**data, "gain_db": self.gain_db, "kept": self.kept}, self.kept)


class Gate:
    """Judges integer graphs by their outputs, in the real interpreter, on samples that nothing was fitted on.

    Errors count at the decision tensors: the outputs, or what goes into their softmax, behind which most differences
    vanish; or what decides in an output, where the recipe says so. The mean error of each channel does not count where
    outputs vary between samples: compensation takes it away later, whatever else is done.

    Candidates of networks of many multiplications are looked at on the first of the held-out samples; `quality`, which
    decides what is kept in the end, is of four times as many.

    Args:
        model: what the converter handed over.
        graph: the float graph that counts.
        samples: the held-out ones.

    Attributes:
        remembered: what came out of graphs that were looked at.
    """

    def __init__(self, model: ConvertedModel, graph: Graph, samples: Samples) -> None:
        self._model, self._graph, self._held_out = model, graph, samples
        self._samples = samples.head(runs(graph, FINAL_WORK, LEAST))
        self._decision_tensors = decision_tensors(graph, deciding=model.deciding)
        self._looks = samples.head(runs(graph, WORK, LEAST))
        self._comparators: dict[tuple[int, ...], Comparator] = {}
        self.remembered = Remembered()

    @property
    def count(self) -> int:
        """How many samples are held out."""
        known = self._held_out.count
        return sum(1 for _ in self._held_out) if known is None else known

    def keep(self, before: Graph, after: Graph, threshold: float, at: tuple[int, ...] = ()) -> Verdict:
        """Whether an integer graph is better than another one by so many decibels; not where that is not known.

        Args:
            before: integer.
            after: likewise.
            threshold: decibels; negative where a loss is allowed.
            at: as for `gain_db`.
        """
        gain = self.gain_db(before, after, at)
        return Verdict(gain >= threshold, gain)

    def gain_db(self, before: Graph, after: Graph, at: tuple[int, ...] = ()) -> float:
        """Decibels of SQNR that one integer graph has more than another; 0 where one of them has no error.

        Args:
            before: integer, lowered from the float graph or what was made of it.
            after: likewise.
            at: tensors of the float graph where errors count, in place of the decision tensors.
        """
        old, new = self.noise(before, at), self.noise(after, at)
        if math.inf in (old, new):  # the kernels of one of them end their process
            return 0.0 if old == new else math.copysign(math.inf, old - new)
        return 10 * math.log10(old / new) if new > 0 < old else 0.0

    def noise(self, integer: Graph, at: tuple[int, ...] = ()) -> float:
        """Squared error over the squares of what varies, summed over the decision tensors, or others."""
        return self._opened(at or self._decision_tensors).noise(integer)

    def against(self, reference: Graph, outputs: Sequence[int]) -> Comparator:
        """A comparator of errors against another float graph, constant ones included; to be closed by the caller."""
        deciding, remembered = self._model.deciding, self.remembered
        return Comparator(reference, self._looked(), outputs, deciding=deciding, remembered=remembered)

    @contextmanager
    def at_decisions(self, reference: Graph) -> Iterator[Comparator]:
        """The same at the tensors of that graph that decide, while it lasts; the gate's own graph runs once for all."""
        if reference is self._graph:
            yield self._opened(self._decision_tensors).uncentered()
            return
        with self.against(reference, decision_tensors(reference, deciding=self._model.deciding)) as comparator:
            yield comparator

    def quality(
        self, reference: Graph, variants: Mapping[str, Graph], advance: Advance | None = None
    ) -> dict[str, Quality]:
        """How close integer graphs come to a float graph, layer by layer and at the outputs."""
        feeds, deciding = self.feeds(advance), self._model.deciding
        names = [binding.spec.name for binding in self._model.outputs]
        found = layer_quality(reference, variants, feeds, deciding=deciding, known=self.remembered, names=names)
        return dict(found)

    def feeds(self, advance: Advance | None = None) -> Iterator[dict[int, Array]]:
        """The held-out samples as real values by input tensor, for proofs; nothing may be fitted on them."""
        samples = self._samples if advance is None else self._samples.shown(advance)
        return feeds(self._model, self._graph, samples)

    def proof_samples(self, limit: int) -> Samples:
        """The first held-out samples, in the source model's terms."""
        return self._samples.head(limit)

    def _looked(self) -> Iterator[dict[int, Array]]:
        return feeds(self._model, self._graph, self._looks)

    def _opened(self, at: tuple[int, ...]) -> Comparator:
        if at not in self._comparators:
            deciding = self._model.deciding
            remembered = self.remembered if at == self._decision_tensors else None
            self._comparators[at] = Comparator(
                self._graph, self._looked(), at, centered=True, deciding=deciding, remembered=remembered
            )
            weakref.finalize(self, self._comparators[at].close)
        return self._comparators[at]
